import { type Config, firstBucket, storedSettings } from '../config/config.ts';
import { asConfigurationError } from '../config/database-faults.ts';
import { describeTarget } from '../database/connection.ts';
import type { Database } from '../database/database.ts';
import { proveListening } from '../database/listen-proof.ts';
import { checkColumns, readMigrationState } from '../database/migrations.ts';
import { createPool } from '../database/pool.ts';
import { ConfigurationError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { abilityOf } from '../objects/object-store.ts';
import { openObjectStore } from '../objects/open-object-store.ts';
import type { Connection, DoctorPorts } from '../reactor/doctor/ports.ts';
import { s3BudgetSeconds } from '../retry-budget.ts';
import { createDiagnosis } from '../store/diagnosis.ts';

/** A notification takes milliseconds; a pooler swallows it for ever. */
const LISTEN_MILLISECONDS = 5_000;

/**
 * Opens the ports of a doctor for as long as `work` takes.
 *
 * @throws ConfigurationError when the database cannot read `RETENTION_COLUMNS`.
 */
export async function withDoctorPorts<Result>(
  config: Config,
  logger: Logger,
  work: (ports: DoctorPorts) => Promise<Result>,
): Promise<Result> {
  const pools = new Map<string, Database>();
  const { passwordFile } = config;
  const open = (url: string): Database => {
    const applicationName = 'retention doctor';
    const pool =
      pools.get(url) ?? createPool({ url, passwordFile, applicationName, max: 2, logger });
    pools.set(url, pool);
    return pool;
  };
  const named = new Map<string, string>();
  const connect = (name: string, url: string): Connection => {
    const pool = open(url);
    const sameAs = named.get(url);
    if (sameAs === undefined) named.set(url, name);
    return {
      name,
      target: describeTarget(url),
      sameAs,
      diagnosis: createDiagnosis(pool),
      isPooled: () => pool.isPooled(),
      readMigrationState: () => readMigrationState(url, passwordFile),
    };
  };
  // A person waits, so a store that does not answer soon counts as unreachable.
  const objects = openObjectStore(
    {
      ...config,
      s3MaxAttempts: Math.min(config.s3MaxAttempts, 2),
      s3RequestTimeoutSeconds: Math.min(config.s3RequestTimeoutSeconds, 10),
    },
    logger,
  );
  try {
    if (config.columns !== '') await refuseColumns(open(config.databaseMigrateUrl), config);
    return await work({
      given: config.given,
      main: connect('DATABASE_URL', config.databaseUrl),
      listen: connect('DATABASE_LISTEN_URL', config.databaseListenUrl),
      migrate: connect('DATABASE_MIGRATE_URL', config.databaseMigrateUrl),
      cron:
        config.cronDatabaseUrl === undefined
          ? undefined
          : connect('CRON_DATABASE_URL', config.cronDatabaseUrl),
      proveListening: () =>
        proveListening(
          { url: config.databaseListenUrl, passwordFile },
          open(config.databaseUrl),
          LISTEN_MILLISECONDS,
        ),
      inspection: abilityOf(objects, 'inspection'),
      listing: objects.listing,
      place: objects.place,
      fence: {
        mode: config.fence,
        bucket: firstBucket(config),
        conditional: objects.conditional,
      },
      allowedBuckets: config.resultBuckets,
      stored: storedSettings(config),
      leaseSeconds: config.leaseSeconds,
      s3BudgetSeconds: s3BudgetSeconds(config),
    });
  } finally {
    objects.close();
    await Promise.all([...pools.values()].map((pool) => pool.close()));
  }
}

/** Other errors are left to the checks: the database or the schema may be missing. */
async function refuseColumns(database: Database, config: Config): Promise<void> {
  await checkColumns(database, config.columns).catch((error: unknown) => {
    const fault = asConfigurationError(error, config);
    if (fault instanceof ConfigurationError) throw fault;
  });
}
