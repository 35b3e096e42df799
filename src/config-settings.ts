import type { ExpectedText } from './config-text.ts';

/** The limits of settings that are numbers, both ends included. */
export const LIMITS = {
  /** 36,134 days are 99 years less some leap days. */
  retentionDays: { min: 1, max: 36_134 },
  loopIntervalSeconds: { min: 1, max: 31_536_000 },
  /** One DeleteObjects request takes 1,000 keys. */
  batchSize: { min: 1, max: 1_000 },
  concurrency: { min: 1, max: 64 },
  maxDeletesPerSecond: { min: 1, max: 1_000_000 },
  httpPort: { min: 0, max: 65_535 },
  leaseSeconds: { min: 10, max: 86_400 },
  shutdownGraceSeconds: { min: 0, max: 3_600 },
  pollSeconds: { min: 1, max: 3_600 },
  s3RequestTimeoutSeconds: { min: 1, max: 900 },
  s3MaxAttempts: { min: 1, max: 10 },
} as const;

/** What a setting is when its variable is absent or empty. */
export const DEFAULTS = {
  enabled: true,
  /** The database's own values until a variable is set once; see the migrations. */
  retentionDays: 30,
  loopIntervalSeconds: 86_400,
  batchSize: 1_000,
  /** Batches in flight per listener. */
  concurrency: 4,
  scheduler: 'pg_cron',
  table: 'public.runs',
  logLevel: 'info',
  /** Health and metrics are for this machine, unless said otherwise. */
  httpHost: '127.0.0.1',
  leaseSeconds: 300,
  shutdownGraceSeconds: 25,
  pollSeconds: 60,
  s3RequestTimeoutSeconds: 30,
  s3MaxAttempts: 3,
} as const;

/** One environment variable, for people. */
export interface Setting extends ExpectedText {
  readonly name: string;
  /** The default as a person would write it; `none` when there is none. */
  readonly default: string;
  readonly description: string;
  /** Its value may hold a password and is never printed as it is. */
  readonly isUrl?: boolean;
}

/** The name that a setting has in code. */
export type SettingKey = keyof typeof table;

const days = LIMITS.retentionDays;

function number(key: keyof typeof LIMITS, unit: string): ExpectedText {
  const { min, max } = LIMITS[key];
  const range = `${min.toLocaleString('en')} to ${max.toLocaleString('en')}`;
  return {
    expected: `a whole number of ${unit} from ${range}`,
    remedy: 'Write it in digits only, without a unit.',
  };
}

const yesOrNo: ExpectedText = {
  expected: 'true or false',
  remedy: 'Write true, false, yes, no, 1 or 0.',
};

const postgresUrl: ExpectedText = {
  expected: 'an address such as postgres://user:password@host:5432/database',
  remedy: 'Percent-encode special characters in user and password (@ is %40, / is %2F, # is %23).',
};

const table = {
  enabled: {
    name: 'DPP_RETENTION_ENABLED',
    default: String(DEFAULTS.enabled),
    description: 'false: no flagging and no deleting, but status, dry runs and holds work',
    ...yesOrNo,
  },
  retentionDays: {
    name: 'DPP_RETENTION_DAYS',
    default: String(DEFAULTS.retentionDays),
    description: 'the default policy, in days; kept in the database once set',
    expected: `a whole number of days from ${days.min} to ${days.max.toLocaleString('en')}`,
    remedy: 'To stop deleting, set DPP_RETENTION_ENABLED=false instead.',
  },
  loopIntervalSeconds: {
    name: 'DPP_RETENTION_LOOP_INTERVAL_SECONDS',
    default: String(DEFAULTS.loopIntervalSeconds),
    description: 'how often a tick flags, in seconds; kept in the database once set',
    ...number('loopIntervalSeconds', 'seconds'),
  },
  batchSize: {
    name: 'DPP_RETENTION_BATCH_SIZE',
    default: String(DEFAULTS.batchSize),
    description: 'results per batch; kept in the database once set',
    ...number('batchSize', 'results'),
  },
  concurrency: {
    name: 'DPP_RETENTION_CONCURRENCY',
    default: String(DEFAULTS.concurrency),
    description: 'batches in flight per listener',
    ...number('concurrency', 'batches'),
  },
  maxDeletesPerSecond: {
    name: 'DPP_RETENTION_MAX_DELETES_PER_SECOND',
    default: 'none',
    description:
      'a ceiling of deleted objects per second and listener, kept to evenly and without bursts',
    ...number('maxDeletesPerSecond', 'objects'),
  },
  databaseUrl: {
    name: 'DATABASE_URL',
    default: 'required',
    description: 'the database that holds the runs; may be a pooler',
    isUrl: true,
    ...postgresUrl,
  },
  databaseListenUrl: {
    name: 'DATABASE_LISTEN_URL',
    default: 'DATABASE_URL',
    description: 'the same database for LISTEN; must reach a real session, no transaction pooler',
    isUrl: true,
    ...postgresUrl,
  },
  databaseMigrateUrl: {
    name: 'DATABASE_MIGRATE_URL',
    default: 'DATABASE_LISTEN_URL',
    description: 'the same database as the role that owns the schema; used by `migrate` only',
    isUrl: true,
    ...postgresUrl,
  },
  cronDatabaseUrl: {
    name: 'CRON_DATABASE_URL',
    default: 'none',
    description: 'the database of the same server where pg_cron lives, if it is another one',
    isUrl: true,
    ...postgresUrl,
  },
  scheduler: {
    name: 'RETENTION_SCHEDULER',
    default: DEFAULTS.scheduler,
    description: 'who ticks: pg_cron, or internal for servers without it (the listener ticks)',
    expected: 'pg_cron or internal',
    remedy: 'Choose internal where pg_cron cannot be installed.',
  },
  table: {
    name: 'RETENTION_TABLE',
    default: DEFAULTS.table,
    description: "the application's table",
    expected: 'a table such as public.runs, parts in double quotes where Postgres wants them',
    remedy: 'Quote a part that has capitals, spaces, dots or hyphens: public."Run-Results".',
  },
  columns: {
    name: 'RETENTION_COLUMNS',
    default: "the runbook's names",
    description: 'the columns of the table under other names: view_column=table_column,...',
    expected: 'pairs such as bucket=result_bucket,key=result_key',
    remedy: 'See the README on adopting a table of your own.',
  },
  role: {
    name: 'RETENTION_ROLE',
    default: 'none',
    description: "the role that gets the listener's rights; read by `migrate up`",
    expected: 'the name of a role, in double quotes where Postgres wants them',
    remedy: 'Give one existing role, or leave it out.',
  },
  resultBuckets: {
    name: 'S3_RESULT_BUCKET',
    default: 'none',
    description:
      'the buckets that may be deleted from, comma-separated; a single one is also the default ' +
      'for rows without a bucket',
    expected: 'bucket names, comma-separated',
    remedy: 'Write bare names, without s3:// and without a path: dpp-results,dpp-archive.',
  },
  s3EndpointUrl: {
    name: 'S3_ENDPOINT_URL',
    default: "the AWS region's own",
    description: 'the address of an S3-compatible store',
    isUrl: true,
    expected: 'an http or https address such as https://s3.example.com',
    remedy: 'Give credentials through the AWS variables, not in the address.',
  },
  awsRegion: {
    name: 'AWS_REGION',
    default: "the AWS chain's",
    description: 'the region of the first request; each bucket is then met in its own',
    expected: 'a region such as eu-central-1',
    remedy: 'Write the code of the region, not its name.',
  },
  logLevel: {
    name: 'LOG_LEVEL',
    default: 'INFO',
    description: 'the least level that is logged',
    expected: 'DEBUG, INFO, WARNING or ERROR',
    remedy: 'Capitals do not matter.',
  },
  jsonLogs: {
    name: 'DPP_JSON_LOGS',
    default: 'false on a terminal, true otherwise',
    description: 'one JSON document per line instead of text',
    ...yesOrNo,
  },
  httpPort: {
    name: 'RETENTION_HTTP_PORT',
    default: 'none',
    description: 'the port of health, metrics and the status page; 0 takes any free one',
    expected: `a port from ${LIMITS.httpPort.min} to ${LIMITS.httpPort.max}`,
    remedy: 'Leave it out to serve nothing.',
  },
  httpHost: {
    name: 'RETENTION_HTTP_HOST',
    default: DEFAULTS.httpHost,
    description: 'the address that the port is opened on',
    expected: 'a host name or an IP address',
    remedy: 'Use 0.0.0.0 in a container, so that probes from outside arrive.',
  },
  leaseSeconds: {
    name: 'RETENTION_LEASE_SECONDS',
    default: String(DEFAULTS.leaseSeconds),
    description: 'how long a batch belongs to the listener that claimed it; outlasts any S3 call',
    ...number('leaseSeconds', 'seconds'),
  },
  shutdownGraceSeconds: {
    name: 'RETENTION_SHUTDOWN_GRACE_SECONDS',
    default: String(DEFAULTS.shutdownGraceSeconds),
    description: 'how long a stopping listener may take to finish what it holds',
    ...number('shutdownGraceSeconds', 'seconds'),
  },
  pollSeconds: {
    name: 'RETENTION_POLL_SECONDS',
    default: String(DEFAULTS.pollSeconds),
    description: 'how often a listener looks for work that no notification announced',
    ...number('pollSeconds', 'seconds'),
  },
  s3RequestTimeoutSeconds: {
    name: 'RETENTION_S3_REQUEST_TIMEOUT_SECONDS',
    default: String(DEFAULTS.s3RequestTimeoutSeconds),
    description: 'how long one attempt of an S3 request may take',
    ...number('s3RequestTimeoutSeconds', 'seconds'),
  },
  s3MaxAttempts: {
    name: 'RETENTION_S3_MAX_ATTEMPTS',
    default: String(DEFAULTS.s3MaxAttempts),
    description: 'how often an S3 request is tried before its batch waits',
    ...number('s3MaxAttempts', 'attempts'),
  },
} as const satisfies Record<string, Setting>;

/** Every setting by its name in code. */
export const SETTING: Readonly<Record<SettingKey, Setting>> = table;

/** Every setting in the order in which documents list them. */
export const SETTINGS: readonly Setting[] = Object.values(table);
