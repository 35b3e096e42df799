import { z } from 'zod';
import { type ColumnMapping, parseColumns, parseIdentifier, parseTable } from './config-columns.ts';
import { findUnknownNames, isKubernetesLink } from './config-names.ts';
import { DEFAULTS, LIMITS, SETTING, SETTINGS, type SettingKey } from './config-settings.ts';
import {
  InvalidText,
  parseBoolean,
  parseBuckets,
  parseEndpointUrl,
  parseHost,
  parseLogLevel,
  parsePostgresUrl,
  parseRegion,
  parseWholeNumber,
} from './config-text.ts';
import { ConfigurationError, type ConfigurationFault } from './errors.ts';
import { s3BudgetSeconds } from './retry-budget.ts';
import { escapeControls, maskUrl, redactSecrets, shorten } from './safe-text.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A text that a parse function reads; what it throws becomes the fault. */
function read<Value>(parse: (text: string) => Value): z.ZodType<Value, string> {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof InvalidText)) throw error;
      const { expected, remedy } = error;
      context.addIssue({ code: 'custom', message: error.message, params: { expected, remedy } });
      return z.NEVER;
    }
  });
}

const wholeNumber = (key: keyof typeof LIMITS): z.ZodType<number, string> =>
  read((text) => parseWholeNumber(text, LIMITS[key]));

const schemas = {
  enabled: read(parseBoolean).default(DEFAULTS.enabled),
  retentionDays: wholeNumber('retentionDays').optional(),
  loopIntervalSeconds: wholeNumber('loopIntervalSeconds').optional(),
  batchSize: wholeNumber('batchSize').optional(),
  concurrency: wholeNumber('concurrency').default(DEFAULTS.concurrency),
  maxDeletesPerSecond: wholeNumber('maxDeletesPerSecond').optional(),
  databaseUrl: read(parsePostgresUrl).optional(),
  databaseListenUrl: read(parsePostgresUrl).optional(),
  databaseMigrateUrl: read(parsePostgresUrl).optional(),
  cronDatabaseUrl: read(parsePostgresUrl).optional(),
  scheduler: z.enum(['pg_cron', 'internal']).default(DEFAULTS.scheduler),
  table: read(parseTable).default(parseTable(DEFAULTS.table)),
  columns: read(parseColumns).default(parseColumns('')),
  role: read(parseIdentifier).optional(),
  resultBuckets: read(parseBuckets).default([]),
  s3EndpointUrl: read(parseEndpointUrl).optional(),
  awsRegion: read(parseRegion).optional(),
  logLevel: read(parseLogLevel).default(DEFAULTS.logLevel),
  jsonLogs: read(parseBoolean).optional(),
  httpPort: wholeNumber('httpPort').optional(),
  httpHost: read(parseHost).default(DEFAULTS.httpHost),
  leaseSeconds: wholeNumber('leaseSeconds').default(DEFAULTS.leaseSeconds),
  shutdownGraceSeconds: wholeNumber('shutdownGraceSeconds').default(DEFAULTS.shutdownGraceSeconds),
  pollSeconds: wholeNumber('pollSeconds').default(DEFAULTS.pollSeconds),
  s3RequestTimeoutSeconds: wholeNumber('s3RequestTimeoutSeconds').default(
    DEFAULTS.s3RequestTimeoutSeconds,
  ),
  s3MaxAttempts: wholeNumber('s3MaxAttempts').default(DEFAULTS.s3MaxAttempts),
} satisfies Record<SettingKey, z.ZodType>;

const environmentSchema = z.object(schemas);

type ParsedSettings = Readonly<z.output<typeof environmentSchema>>;

/** The settings of a command that may do without a database. */
export interface OfflineConfig extends ParsedSettings {
  readonly columns: ColumnMapping;
  /** The bucket of rows that name none: the only allowed one, if there is just one. */
  readonly defaultBucket: string | undefined;
  /** The names of the variables that were set, for "what changed" and for doctor. */
  readonly given: ReadonlySet<string>;
}

/** Every setting, validated; units are in the names. */
export interface Config extends OfflineConfig {
  readonly databaseUrl: string;
  /** Default: `databaseUrl`. */
  readonly databaseListenUrl: string;
  /** Default: `databaseListenUrl`. */
  readonly databaseMigrateUrl: string;
}

/** How the environment is read. */
export interface ReadConfigOptions {
  /** Whether `DATABASE_URL` must be there. Default: true. */
  readonly requireDatabase?: boolean;
}

/**
 * Reads and validates the environment. A variable that is empty counts as absent.
 *
 * @throws ConfigurationError naming every fault at once, without secrets.
 */
export function readConfig(env: Environment, options?: { readonly requireDatabase?: true }): Config;
export function readConfig(env: Environment, options: ReadConfigOptions): OfflineConfig;
export function readConfig(env: Environment, options: ReadConfigOptions = {}): OfflineConfig {
  const texts = textsOf(env);
  const parsed = environmentSchema.safeParse(texts);
  const faults: ConfigurationFault[] = parsed.success
    ? [...checkTogether(parsed.data)]
    : parsed.error.issues.map((issue) => faultOf(issue, texts));
  if ((options.requireDatabase ?? true) && texts.databaseUrl === undefined) {
    const { name, expected, remedy } = SETTING.databaseUrl;
    faults.push({ name, expected, given: 'nothing', remedy });
  }
  faults.push(...findUnknownNames(env, knownNames));
  if (faults.length > 0 || !parsed.success) throw new ConfigurationError(faults);

  const { data } = parsed;
  const databaseListenUrl = data.databaseListenUrl ?? data.databaseUrl;
  const [onlyBucket, ...otherBuckets] = data.resultBuckets;
  return {
    ...data,
    databaseListenUrl,
    databaseMigrateUrl: data.databaseMigrateUrl ?? databaseListenUrl,
    defaultBucket: otherBuckets.length === 0 ? onlyBucket : undefined,
    given: new Set(knownNames.filter((name) => !isAbsent(env[name]))),
  };
}

const knownNames = SETTINGS.map((setting) => setting.name);

function isAbsent(text: string | undefined): boolean {
  return text === undefined || text.trim() === '';
}

function textsOf(env: Environment): Readonly<Partial<Record<SettingKey, string>>> {
  const texts: Partial<Record<SettingKey, string>> = {};
  for (const [key, { name }] of Object.entries(SETTING) as [SettingKey, { name: string }][]) {
    const text = env[name];
    if (text !== undefined && !isAbsent(text)) texts[key] = text.trim();
  }
  return texts;
}

const MAX_GIVEN_CHARACTERS = 120;

function faultOf(
  issue: z.core.$ZodIssue,
  texts: Readonly<Partial<Record<SettingKey, string>>>,
): ConfigurationFault {
  const key = issue.path[0] as SettingKey;
  const setting = SETTING[key];
  const text = texts[key] ?? '';
  const own = issue.code === 'custom' ? (issue.params as Partial<ConfigurationFault>) : {};
  const isForeign = isKubernetesLink(setting.name, text);
  return {
    name: setting.name,
    expected: redactSecrets(own.expected ?? setting.expected),
    given:
      setting.isUrl === true
        ? maskUrl(text)
        : // An address may have been pasted in the wrong place.
          `"${shorten(escapeControls(redactSecrets(text)), MAX_GIVEN_CHARACTERS)}"`,
    remedy: isForeign
      ? 'Kubernetes wrote this for a Service of that name: set enableServiceLinks: false.'
      : (own.remedy ?? setting.remedy),
  };
}

function* checkTogether(settings: ParsedSettings): Generator<ConfigurationFault> {
  const budget = s3BudgetSeconds(settings);
  if (settings.leaseSeconds <= budget) {
    yield {
      name: SETTING.leaseSeconds.name,
      expected: `more than ${budget} seconds, the longest that one S3 request can take`,
      given: String(settings.leaseSeconds),
      remedy:
        `Raise it, or lower ${SETTING.s3MaxAttempts.name} (${settings.s3MaxAttempts}) or ` +
        `${SETTING.s3RequestTimeoutSeconds.name} (${settings.s3RequestTimeoutSeconds}).`,
    };
  }
}
