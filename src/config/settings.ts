import { roleName, tableName } from './sql-names.ts';
import {
  ANY_BUCKET,
  type Kind,
  bucket,
  buckets,
  endpointUrl,
  filePath,
  host,
  logLevel,
  oneOf,
  port,
  postgresUrl,
  readByDatabase,
  region,
  webhookUrl,
  wholeNumber,
  yesOrNo,
} from './values.ts';

/** What JSON can carry to `retention.apply_variables`. */
export type StoredValue = string | number | boolean | null;

/** What is said of a setting beside its kind. */
interface Declaration<Value, Default extends Value | undefined> {
  readonly variable: string;
  /** One sentence for the documents, in lower case and without a full stop. */
  readonly meaning: string;
  /** What it is when its variable is absent or empty. Default: undefined. */
  readonly default?: Default;
  /** The default in the documents' words. Default: the value itself, or `none`. */
  readonly defaultText?: string;
  /** The commands that do not run without it. Default: none. */
  readonly requiredBy?: 'every command' | readonly string[];
  /**
   * The key of `retention.apply_variables` that it is written to: a column of `retention.setting`, or
   * `retain`, the default policy. Default: null, it is no concern of the database's.
   */
  readonly column?: string | null;
  /** What is written there. Default: the value; of days and seconds an interval. */
  storedValue?(value: Value): StoredValue;
}

/** One setting: all that is known of an environment variable. */
export interface Setting<Value = unknown, Default extends Value | undefined = Value | undefined>
  extends Kind<Value>, Required<Declaration<Value, Default>> {}

function setting<Value, const Default extends Value | undefined = undefined>(
  kind: Kind<Value>,
  declaration: Declaration<Value, Default> & Partial<Pick<Kind<Value>, 'remedy'>>,
): Setting<Value, Default> {
  const requiredBy = declaration.requiredBy ?? [];
  return {
    defaultText: requiredBy.length > 0 ? 'required' : String(declaration.default ?? 'none'),
    column: null,
    storedValue: (value) => intervalOf(value as StoredValue, kind.unit),
    ...kind,
    ...declaration,
    requiredBy,
    default: declaration.default as Default,
  };
}

function intervalOf(value: StoredValue, unit: string | null): StoredValue {
  return unit === 'days' || unit === 'seconds' ? `${value} ${unit}` : value;
}

/** Every setting by its name in code, in the order of the documents. */
export const SETTINGS = {
  enabled: setting(yesOrNo(), {
    variable: 'DPP_RETENTION_ENABLED',
    meaning: 'false: no flagging and no deleting, but status, dry runs and holds work',
    default: true,
    column: 'enabled',
  }),
  retentionDays: setting(wholeNumber('days', 1, 36_160), {
    variable: 'DPP_RETENTION_DAYS',
    meaning: 'the default policy, in days',
    remedy: 'To stop deleting, set DPP_RETENTION_ENABLED=false instead.',
    defaultText: '30',
    column: 'retain',
  }),
  loopIntervalSeconds: setting(wholeNumber('seconds', 1, 31_536_000), {
    variable: 'DPP_RETENTION_LOOP_INTERVAL_SECONDS',
    meaning: 'how often a tick flags, in seconds',
    defaultText: '86400',
    column: 'loop_interval',
  }),
  /** One DeleteObjects request takes 1,000 keys. */
  batchSize: setting(wholeNumber('results', 1, 1_000), {
    variable: 'DPP_RETENTION_BATCH_SIZE',
    meaning: 'results per batch',
    defaultText: '1000',
    column: 'batch_size',
  }),
  concurrency: setting(wholeNumber('batches', 1, 64), {
    variable: 'DPP_RETENTION_CONCURRENCY',
    meaning: 'batches in flight per listener',
    default: 4,
  }),
  maxDeletesPerSecond: setting(wholeNumber('objects', 1, 1_000_000), {
    variable: 'DPP_RETENTION_MAX_DELETES_PER_SECOND',
    meaning:
      'a ceiling of deleted objects per second and listener, kept to evenly and without bursts',
  }),
  databaseUrl: setting(postgresUrl(), {
    variable: 'DATABASE_URL',
    meaning: 'the database that holds the runs; may be a pooler',
    requiredBy: 'every command',
  }),
  databaseListenUrl: setting(postgresUrl(), {
    variable: 'DATABASE_LISTEN_URL',
    meaning: 'the same database for LISTEN; must reach a real session, no transaction pooler',
    defaultText: 'DATABASE_URL',
  }),
  databaseMigrateUrl: setting(postgresUrl(), {
    variable: 'DATABASE_MIGRATE_URL',
    meaning: 'the same database as the role that owns the schema; used by `migrate` and `doctor`',
    defaultText: 'DATABASE_LISTEN_URL',
  }),
  databasePasswordFile: setting(filePath(), {
    variable: 'DATABASE_PASSWORD_FILE',
    meaning:
      'a file with the password of the user of DATABASE_URL, for each address of that user without a ' +
      'password; read for each session, so that a password may be rotated while listeners run',
  }),
  cronDatabaseUrl: setting(postgresUrl(), {
    variable: 'CRON_DATABASE_URL',
    meaning: 'the database of the same server where pg_cron lives, if it is another one',
  }),
  scheduler: setting(
    oneOf(['pg_cron', 'internal'], 'Choose internal where pg_cron cannot be installed.'),
    {
      variable: 'RETENTION_SCHEDULER',
      meaning: 'who ticks: pg_cron, or internal for servers without it (the listener ticks)',
      default: 'pg_cron',
    },
  ),
  table: setting(tableName(), {
    variable: 'RETENTION_TABLE',
    meaning: "the application's table",
    default: { schema: 'public', name: 'runs' },
    defaultText: 'public.runs',
  }),
  columns: setting(
    readByDatabase({
      expected: 'pairs such as bucket=result_bucket,key=result_key',
      remedy: 'docs/database.md shows how other columns are mapped.',
    }),
    {
      variable: 'RETENTION_COLUMNS',
      meaning:
        'the columns of the table under other names: view_column=table_column,...; read by ' +
        '`migrate up`',
      default: '',
      defaultText: "the default table's names",
    },
  ),
  role: setting(roleName(), {
    variable: 'RETENTION_ROLE',
    meaning: "the role that gets the listener's rights; read by `migrate up`",
  }),
  operatorRole: setting(roleName(), {
    variable: 'RETENTION_OPERATOR_ROLE',
    meaning:
      "the role that gets the operators' rights; read by `migrate up`; without it operators " +
      'work as the owner of the schema',
  }),
  observerRole: setting(roleName(), {
    variable: 'RETENTION_OBSERVER_ROLE',
    meaning: 'the role that may only look; read by `migrate up`',
  }),
  resultBuckets: setting(buckets(), {
    variable: 'S3_RESULT_BUCKET',
    meaning:
      'the buckets that may be deleted from and stamped for, comma-separated, or `*` for any; required ' +
      'by `listen`, `reconcile` and `restore`; the first single one is also the ' +
      'default for rows without a bucket, and stays it until a person changes it',
    default: [],
    defaultText: 'none',
    requiredBy: ['listen', 'reconcile', 'orphans', 'restore'],
    column: 'default_bucket',
    storedValue: (names) => onlyOne(names) ?? null,
  }),
  fence: setting(oneOf(['s3', 'none'], 'Choose s3 where the store has conditional writes.'), {
    variable: 'RETENTION_FENCE',
    meaning:
      's3: an object in the first bucket of S3_RESULT_BUCKET, renewed by conditional writes, tells also a copy of ' +
      'the database that looks identical; none: this process has no fence',
    defaultText: 'none, until it was used',
  }),
  signingKeyFile: setting(filePath(), {
    variable: 'RETENTION_SIGNING_KEY_FILE',
    meaning:
      'the private key that certificates are signed with, Ed25519 as PEM; made by `retention proof key`',
    requiredBy: ['certificate'],
    defaultText: 'none',
  }),
  sealBucket: setting(bucket(), {
    variable: 'RETENTION_SEAL_BUCKET',
    meaning:
      'a bucket in which listeners write each seal as an object, so that rewriting all of them shows; best one of ' +
      'another account, with object lock',
  }),
  webhookUrl: setting(webhookUrl(), {
    variable: 'RETENTION_WEBHOOK_URL',
    requiredBy: ['webhook'],
    defaultText: 'none',
    meaning:
      'where listeners post what a person should know at once: a halt and its end, a copy, a surge, dead results, ' +
      'the head of each seal; signed, and at most once a minute of each kind',
  }),
  webhookSecretFile: setting(filePath(), {
    variable: 'RETENTION_WEBHOOK_SECRET_FILE',
    meaning:
      'a file with the secret that signs them, `whsec_` and base64, one a line while it is replaced; required with ' +
      'RETENTION_WEBHOOK_URL',
    requiredBy: ['webhook'],
    defaultText: 'none',
  }),
  canarySeconds: setting(wholeNumber('seconds', 0, 604_800), {
    variable: 'RETENTION_CANARY_SECONDS',
    meaning:
      'how often an object of our own goes the whole way to its deletion in each bucket, so that it shows when deletions ' +
      'do not work; it wants s3:PutObject on .retention/canary/*, 0 for none',
    default: 3_600,
  }),
  verifyDays: setting(wholeNumber('days', 1, 3_650), {
    variable: 'RETENTION_VERIFY_DAYS',
    meaning:
      'in how many days listeners compare each bucket with its rows, again and again, so that drift shows; it changes ' +
      'nothing and wants s3:ListBucket and s3:GetObject',
    defaultText: 'none: only commands verify',
  }),
  s3EndpointUrl: setting(endpointUrl(), {
    variable: 'S3_ENDPOINT_URL',
    meaning: 'the address of an S3-compatible store',
    defaultText: "the AWS region's own",
  }),
  awsRegion: setting(region(), {
    variable: 'AWS_REGION',
    meaning: 'the region of the first request; each bucket is then met in its own',
    defaultText: "the AWS chain's",
  }),
  logLevel: setting(logLevel(), {
    variable: 'LOG_LEVEL',
    meaning: 'the least level that is logged',
    default: 'info',
    defaultText: 'INFO',
  }),
  jsonLogs: setting(yesOrNo(), {
    variable: 'DPP_JSON_LOGS',
    meaning: 'one JSON document per line instead of text',
    defaultText: 'false on a terminal, true otherwise',
  }),
  httpPort: setting(port(), {
    variable: 'RETENTION_HTTP_PORT',
    meaning: 'the port of health, metrics and the status page; 0 takes any free one',
  }),
  /** Health and metrics are for this machine, unless said otherwise. */
  httpHost: setting(host(), {
    variable: 'RETENTION_HTTP_HOST',
    meaning: 'the address that the port is opened on',
    default: '127.0.0.1',
  }),
  leaseSeconds: setting(wholeNumber('seconds', 10, 86_400), {
    variable: 'RETENTION_LEASE_SECONDS',
    meaning:
      'how long a batch belongs to the listener that claimed it; lower it to get the work of a ' +
      'killed listener back sooner, but keep it longer than one S3 call with all its attempts',
    default: 300,
  }),
  shutdownGraceSeconds: setting(wholeNumber('seconds', 0, 3_600), {
    variable: 'RETENTION_SHUTDOWN_GRACE_SECONDS',
    meaning:
      'how long a stopping listener may take to finish what it holds; keep it below the time ' +
      'after which the service manager kills it',
    default: 25,
  }),
  pollSeconds: setting(wholeNumber('seconds', 1, 3_600), {
    variable: 'RETENTION_POLL_SECONDS',
    meaning:
      'how often a listener looks for work that no notification announced; lower it where ' +
      'notifications cannot arrive',
    default: 60,
  }),
  s3RequestTimeoutSeconds: setting(wholeNumber('seconds', 1, 900), {
    variable: 'RETENTION_S3_REQUEST_TIMEOUT_SECONDS',
    meaning:
      'how long one attempt of an S3 request may take; raise it for a store that takes longer to ' +
      'delete 1,000 keys',
    default: 30,
  }),
  s3MaxAttempts: setting(wholeNumber('attempts', 1, 10), {
    variable: 'RETENTION_S3_MAX_ATTEMPTS',
    meaning:
      'how often an S3 request is tried before its batch waits; 1 where a proxy before the store ' +
      'tries again by itself',
    default: 3,
  }),
} satisfies Record<string, Setting>;

/** The name that a setting has in code. */
export type SettingKey = keyof typeof SETTINGS;

/** The parsed value of every setting; undefined: it is absent and has no default. */
export type SettingValues = {
  readonly [Key in SettingKey]: (typeof SETTINGS)[Key] extends Setting<infer Value, infer Default>
    ? Default extends undefined
      ? Value | undefined
      : Value
    : never;
};

/** Every setting with its name in code. */
export const SETTING_LIST: readonly (Setting & { readonly key: SettingKey })[] = Object.entries(
  SETTINGS,
).map(([key, each]) => ({ ...(each as Setting), key: key as SettingKey }));

/** The only bucket of a list, which is the one of rows that name none. Any bucket is no bucket. */
export function onlyOne(names: readonly string[]): string | undefined {
  return names.length === 1 && names[0] !== ANY_BUCKET ? names[0] : undefined;
}
