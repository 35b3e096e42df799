import type { LibraryOptions } from './assembly.ts';
import { migrationSettings } from './assembly.ts';
import { type TableProposal, readTableProposal } from './database/adoption-proposal.ts';
import { formatTable } from './config/sql-names.ts';
import { bucket } from './config/values.ts';
import { type FirstSteps, ROLE_NAMES, firstSteps } from './first-steps.ts';
import { cutSample } from './samples.ts';

/** What may be adopted, how, and what a person does first. */
export interface AdoptionProposal extends TableProposal, FirstSteps {
  /** Whether nothing stands in the way of `migrate up` with these variables. */
  readonly ok: boolean;
}

const DEFAULT_DAYS = 30;

/**
 * Looks at the application's table before it is adopted: which of its columns are which, what stands in the way, and the
 * variables, grants, IAM policy and commands to begin with. Everything is tried in a transaction that is rolled back.
 * Samples are cut short, and what looks like a secret is masked.
 *
 * @throws DatabaseError when the database cannot be asked.
 */
export async function proposeAdoption({
  config,
}: Pick<LibraryOptions, 'config'>): Promise<AdoptionProposal> {
  const roles = [
    { variable: 'RETENTION_ROLE', name: config.role ?? ROLE_NAMES.RETENTION_ROLE },
    {
      variable: 'RETENTION_OPERATOR_ROLE',
      name: config.operatorRole ?? ROLE_NAMES.RETENTION_OPERATOR_ROLE,
    },
    {
      variable: 'RETENTION_OBSERVER_ROLE',
      name: config.observerRole ?? ROLE_NAMES.RETENTION_OBSERVER_ROLE,
    },
  ] as const;
  const found = await readTableProposal(
    config.databaseMigrateUrl,
    {
      ...migrationSettings(config),
      retainDays: config.retentionDays ?? DEFAULT_DAYS,
      roleNames: roles.map(({ name }) => name),
    },
    config.passwordFile,
  );
  const isSchedulerSaid = config.given.has('RETENTION_SCHEDULER');
  const lacksCron = found.checks.some(
    ({ name, state }) => name === 'scheduler' && state === 'failed',
  );
  // Without a word on the scheduler, the one that works here is proposed.
  const proposesInternal = lacksCron && !isSchedulerSaid;
  const checks = found.checks.map((check) =>
    proposesInternal && check.name === 'scheduler'
      ? { ...check, state: 'warning' as const, found: `${check.found}; so listeners tick` }
      : check,
  );
  const isAnywhere = config.resultBuckets.includes('*');
  const isBucket = (name: string): boolean => bucket().schema.safeParse(name).success;
  const buckets =
    config.resultBuckets.length > 0 ? config.resultBuckets : found.buckets.filter(isBucket);
  const strange = isAnywhere ? [] : found.buckets.filter((name) => !buckets.includes(name));
  if (strange.length > 0) {
    checks.push({
      name: 'buckets',
      state: 'warning',
      found: `rows name buckets that S3_RESULT_BUCKET does not list: ${strange.join(', ')}`,
      remedy:
        'What lies there is neither deleted nor stamped. List them, or leave them out on purpose.',
      code: '55000',
    });
  }
  if (found.table !== null && buckets.length === 0) {
    checks.push({
      name: 'buckets',
      state: 'warning',
      found: 'no bucket is known: no row names one, and none was given',
      remedy: 'Fill in S3_RESULT_BUCKET, or say --bucket NAME.',
      code: '55000',
    });
  }
  const steps = firstSteps({
    databaseUrl: config.databaseUrl,
    listenUrl: config.databaseListenUrl,
    migrateUrl: config.databaseMigrateUrl,
    database: found.database.name,
    table: found.table ?? formatTable(config.table),
    mapping: found.mapping,
    buckets,
    scheduler: proposesInternal ? 'internal' : config.scheduler,
    roles,
    existingRoles: found.roles,
    more: {
      // As they are shown: without a password.
      AWS_REGION: config.given.get('AWS_REGION'),
      S3_ENDPOINT_URL: config.given.get('S3_ENDPOINT_URL'),
      DATABASE_PASSWORD_FILE: config.given.get('DATABASE_PASSWORD_FILE'),
      CRON_DATABASE_URL: config.given.get('CRON_DATABASE_URL'),
    },
  });
  return {
    ...found,
    columns: found.columns.map((column) => ({
      ...column,
      samples:
        column.samples === null
          ? null
          : [...new Set(column.samples.map((text) => cutSample(text)))],
    })),
    checks,
    ...steps,
    ok: checks.every(({ state }) => state !== 'failed'),
  };
}
