import { describe, expect, test } from 'vitest';
import { readConfig, storedSettings } from '../../src/config/config.ts';
import { asConfigurationError } from '../../src/config/database-faults.ts';
import { SETTING_LIST } from '../../src/config/settings.ts';
import { editDistance } from '../../src/config/unknown-variables.ts';
import { ConfigurationError, type ConfigurationFault, DatabaseError } from '../../src/errors.ts';
import { retryBudgetMilliseconds } from '../../src/retry-budget.ts';

const DATABASE_URL = 'postgres://user:geheim@host:5432/db';
const URL_ONLY = { DATABASE_URL };

/** What has no default. */
const ABSENT = [
  'retentionDays',
  'loopIntervalSeconds',
  'batchSize',
  'maxDeletesPerSecond',
  'databasePasswordFile',
  'passwordFile',
  'cronDatabaseUrl',
  'role',
  'defaultBucket',
  's3EndpointUrl',
  'awsRegion',
  'jsonLogs',
  'httpPort',
] as const;

/** The faults of an environment that has a database besides. */
function faultsOf(env: Record<string, string>): readonly ConfigurationFault[] {
  try {
    readConfig({ ...URL_ONLY, ...env });
  } catch (error) {
    if (error instanceof ConfigurationError) return error.faults;
    throw error;
  }
  return [];
}

describe('defaults', () => {
  test("are the runbook's and the design's", () => {
    const config = readConfig(URL_ONLY);
    expect(config).toMatchObject({
      enabled: true,
      concurrency: 4,
      databaseUrl: DATABASE_URL,
      databaseListenUrl: DATABASE_URL,
      databaseMigrateUrl: DATABASE_URL,
      scheduler: 'pg_cron',
      table: { schema: 'public', name: 'runs' },
      resultBuckets: [],
      logLevel: 'info',
      httpHost: '127.0.0.1',
      leaseSeconds: 300,
      shutdownGraceSeconds: 25,
      pollSeconds: 60,
      s3RequestTimeoutSeconds: 30,
      s3MaxAttempts: 3,
    });
    for (const absent of ABSENT) expect(config[absent]).toBeUndefined();
    expect(config.given).toEqual(new Map([['DATABASE_URL', 'postgres://user:***@host:5432/db']]));
  });

  test('an empty or blank variable counts as absent', () => {
    const env = Object.fromEntries(
      SETTING_LIST.map(({ variable }, index) => [variable, index % 2 ? '' : '  ']),
    );
    expect(readConfig({ ...env, ...URL_ONLY })).toEqual(readConfig(URL_ONLY));
  });

  test('the listen address defaults to the first, the migrate address to the listen address', () => {
    const listen = 'postgres://direct/db';
    const config = readConfig({ DATABASE_URL, DATABASE_LISTEN_URL: listen });
    expect(config.databaseUrl).toBe(DATABASE_URL);
    expect(config.databaseMigrateUrl).toBe(listen);
  });

  test('a single bucket is the default one, several are not', () => {
    expect(readConfig({ ...URL_ONLY, S3_RESULT_BUCKET: 'one' })).toMatchObject({
      resultBuckets: ['one'],
      defaultBucket: 'one',
    });
    expect(readConfig({ ...URL_ONLY, S3_RESULT_BUCKET: 'one, two,one,' })).toMatchObject({
      resultBuckets: ['one', 'two'],
      defaultBucket: undefined,
    });
  });

  test('what every command requires is asked for', () => {
    expect(() => readConfig({})).toThrow('DATABASE_URL: expected an address');
    expect(() => readConfig({}, { command: 'status' })).toThrow('DATABASE_URL: expected');
  });
});

describe('values', () => {
  test.each([
    ['DPP_RETENTION_ENABLED', 'No', 'enabled', false],
    ['DPP_RETENTION_ENABLED', '1', 'enabled', true],
    ['DPP_RETENTION_ENABLED', 'TRUE', 'enabled', true],
    ['DPP_RETENTION_DAYS', '90', 'retentionDays', 90],
    ['DPP_RETENTION_DAYS', '36160', 'retentionDays', 36_160],
    ['DPP_RETENTION_LOOP_INTERVAL_SECONDS', ' 43200 ', 'loopIntervalSeconds', 43_200],
    ['DPP_RETENTION_BATCH_SIZE', '50', 'batchSize', 50],
    ['RETENTION_SCHEDULER', 'internal', 'scheduler', 'internal'],
    ['RETENTION_ROLE', 'Reaper', 'role', 'reaper'],
    ['RETENTION_ROLE', '"Reaper 1"', 'role', 'Reaper 1'],
    ['S3_ENDPOINT_URL', 'http://localhost:9000/', 's3EndpointUrl', 'http://localhost:9000'],
    ['LOG_LEVEL', 'WARN', 'logLevel', 'warning'],
    ['LOG_LEVEL', 'Critical', 'logLevel', 'error'],
    ['LOG_LEVEL', 'DEBUG', 'logLevel', 'debug'],
    ['DPP_JSON_LOGS', 'yes', 'jsonLogs', true],
    ['RETENTION_HTTP_PORT', '0', 'httpPort', 0],
    ['RETENTION_HTTP_HOST', '::', 'httpHost', '::'],
    [
      'DATABASE_LISTEN_URL',
      'postgres://u@/d?host=/s',
      'databaseListenUrl',
      'postgres://u@/d?host=/s',
    ],
  ])('%s=%s', (name, text, key, value) => {
    expect(readConfig({ ...URL_ONLY, [name]: text })).toHaveProperty(key, value);
  });

  test.each([
    ['DPP_RETENTION_ENABLED', 'maybe'],
    ['DPP_RETENTION_DAYS', '0'],
    ['DPP_RETENTION_DAYS', '-1'],
    ['DPP_RETENTION_DAYS', '1.5'],
    ['DPP_RETENTION_DAYS', '1e3'],
    ['DPP_RETENTION_DAYS', '0x10'],
    ['DPP_RETENTION_DAYS', 'Infinity'],
    ['DPP_RETENTION_DAYS', '30 days'],
    ['DPP_RETENTION_DAYS', '36161'],
    ['DPP_RETENTION_LOOP_INTERVAL_SECONDS', '31536001'],
    ['DPP_RETENTION_BATCH_SIZE', '1001'],
    ['DPP_RETENTION_CONCURRENCY', '65'],
    ['DPP_RETENTION_MAX_DELETES_PER_SECOND', '0'],
    ['RETENTION_SCHEDULER', 'cron'],
    ['RETENTION_TABLE', 'a.b.c'],
    ['RETENTION_ROLE', 'two words'],
    ['S3_RESULT_BUCKET', 's3://bucket'],
    ['S3_RESULT_BUCKET', ','],
    ['AWS_REGION', 'eu west 1'],
    ['LOG_LEVEL', 'LOUD'],
    ['DPP_JSON_LOGS', 'on'],
    ['RETENTION_HTTP_PORT', '65536'],
    ['RETENTION_HTTP_HOST', 'http://0.0.0.0'],
    ['RETENTION_S3_MAX_ATTEMPTS', '11'],
  ])('%s=%s is refused, with what was expected, what was given and what to do', (name, text) => {
    const [fault, ...others] = faultsOf({ [name]: text });
    expect(others).toEqual([]);
    expect(fault).toMatchObject({ name, given: `"${text}"` });
    expect(fault?.expected).not.toMatch(/invalid|undefined/iu);
    expect(fault?.remedy).toMatch(/\.$/u);
  });
});

describe('faults', () => {
  test('come all together, in the order of the settings', () => {
    const faults = faultsOf({
      RETENTION_POLL_SECONDS: '0',
      DPP_RETENTION_DAYS: 'thirty',
      DATABASE_URL: '',
      DPP_RETENTION_DAY: '30',
    });
    expect(faults.map((fault) => fault.name).toSorted()).toEqual([
      'DATABASE_URL',
      'DPP_RETENTION_DAY',
      'DPP_RETENTION_DAYS',
      'RETENTION_POLL_SECONDS',
    ]);
  });

  test.each([
    ['DATABASE_URL', 'mysql://user:geheim@host/db'],
    ['DATABASE_URL', 'host=h password=geheim'],
    ['DATABASE_LISTEN_URL', 'postgres://user:ge#heim@host/db'],
    ['DATABASE_MIGRATE_URL', 'postgres://user:ge/heim@host/db'],
    ['DATABASE_URL', 'postgres://user:geheim%ZZ@host/db'],
    ['CRON_DATABASE_URL', 'postgres://user:geheim@host/db#heim'],
    ['S3_ENDPOINT_URL', 'https://key:geheim@host'],
    ['S3_ENDPOINT_URL', 'ftp://key:geheim@host'],
    ['S3_ENDPOINT_URL', 'key:geheim@host'],
    ['DATABASE_URL', 'user:geheim@host/db'],
    ['RETENTION_SECRET', 'geheim'],
  ])('%s=%s does not print the secret', (name, text) => {
    const faults = faultsOf({ [name]: text });
    expect(faults).toHaveLength(1);
    expect(JSON.stringify(faults)).not.toContain('heim');
  });

  test('a name that is unknown gets the nearest that is known', () => {
    const remedy = (name: string) => faultsOf({ [name]: 'x' })[0]?.remedy;
    expect(remedy('DPP_RETENTION_DAY')).toBe('Did you mean DPP_RETENTION_DAYS?');
    expect(remedy('RETENTION_DAYS')).toBe('Did you mean DPP_RETENTION_DAYS?');
    expect(remedy('RETENTION_SHEDULER')).toBe('Did you mean RETENTION_SCHEDULER?');
    expect(remedy('RETENTION_SOMETHING_ENTIRELY_DIFFERENT')).toMatch(/^Remove it/u);
    expect(faultsOf({ MY_RETENTION_DAYS: 'x', RETENTION_: '' })).toEqual([]);
  });

  test("Kubernetes' variables for a Service of that name are no fault", () => {
    const env = {
      RETENTION_SERVICE_HOST: '10.0.0.1',
      RETENTION_SERVICE_PORT: '9090',
      RETENTION_SERVICE_PORT_HTTP: '9090',
      RETENTION_PORT: 'tcp://10.0.0.1:9090',
      RETENTION_PORT_9090_TCP: 'tcp://10.0.0.1:9090',
      RETENTION_PORT_9090_TCP_ADDR: '10.0.0.1',
      RETENTION_REACTOR_SERVICE_HOST: '10.0.0.1',
    };
    expect(faultsOf(env)).toEqual([]);
    expect(faultsOf({ RETENTION_HTTP_PORT: 'tcp://10.0.0.1:80' })[0]?.remedy).toContain(
      'enableServiceLinks: false',
    );
  });

  test('a lease that an S3 request can outlive is refused', () => {
    // The time after which the object store ends a call, with the default settings of both.
    const budget = retryBudgetMilliseconds() / 1_000;
    expect(budget).toBe(103);
    expect(faultsOf({ RETENTION_LEASE_SECONDS: String(budget + 1) })).toEqual([]);
    const [fault] = faultsOf({ RETENTION_LEASE_SECONDS: String(budget) });
    expect(fault).toMatchObject({ name: 'RETENTION_LEASE_SECONDS', given: String(budget) });
    expect(faultsOf({ RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '100' })).toHaveLength(1);
  });

  test('a forged line in a value stays on its line', () => {
    const [fault] = faultsOf({ LOG_LEVEL: 'x\n2026 INFO all is well' });
    expect(fault?.given).toBe(String.raw`"x\n2026 INFO all is well"`);
  });
});

describe('what the database is told', () => {
  const stored = (env: Record<string, string>) =>
    storedSettings(readConfig({ ...URL_ONLY, ...env }));

  test('is nothing where nothing was set', () => {
    expect(stored({})).toEqual({});
    expect(stored({ RETENTION_POLL_SECONDS: '5' })).toEqual({});
  });

  test('has the keys and the units of retention.configure', () => {
    expect(
      stored({
        DPP_RETENTION_ENABLED: 'no',
        DPP_RETENTION_DAYS: '45',
        DPP_RETENTION_LOOP_INTERVAL_SECONDS: '7200',
        DPP_RETENTION_BATCH_SIZE: '100',
        S3_RESULT_BUCKET: 'one',
      }),
    ).toEqual({
      enabled: false,
      retain: '45 days',
      loop_interval: '7200 seconds',
      batch_size: 100,
      default_bucket: 'one',
    });
  });

  test('is that there is no default bucket where several are allowed', () => {
    expect(stored({ S3_RESULT_BUCKET: 'one,two' })).toEqual({ default_bucket: null });
  });
});

describe('what the database says of a setting', () => {
  const config = readConfig({ ...URL_ONLY, RETENTION_COLUMNS: 'buckets=x' });

  test('becomes the report that every setting has', () => {
    const error = asConfigurationError(
      new DatabaseError('RETENTION_COLUMNS names the unknown view column buckets', {
        sqlState: '22023',
        remedy: 'The view columns are run_id and others.',
      }),
      config,
    );
    expect(error).toMatchObject({
      exitCode: 2,
      message:
        '1 setting is wrong:\n  RETENTION_COLUMNS: expected pairs such as ' +
        'bucket=result_bucket,key=result_key; given "buckets=x" (names the unknown view column ' +
        'buckets). The view columns are run_id and others.',
    });
  });

  test.each([
    new DatabaseError('RETENTION_COLUMNS names no column', { sqlState: '42703' }),
    new DatabaseError('7 is not a run id', { sqlState: '22023' }),
    new Error('RETENTION_COLUMNS'),
  ])('stays what it is where it is something else: %s', (error) => {
    expect(asConfigurationError(error, config)).toBe(error);
  });
});

test('every setting is documented once', () => {
  expect(new Set(SETTING_LIST.map(({ variable }) => variable)).size).toBe(SETTING_LIST.length);
  for (const { meaning, defaultText, expected, remedy } of SETTING_LIST) {
    expect(meaning.length).toBeGreaterThan(10);
    expect([defaultText, expected]).not.toContain('');
    expect(remedy).toMatch(/\.$/u);
  }
});

test.each([
  ['', 'abc', 3],
  ['kitten', 'sitting', 3],
  ['same', 'same', 0],
])('from "%s" to "%s" it is %i letters', (from, to, distance) => {
  expect(editDistance(from, to)).toBe(distance);
});

describe("a database's address", () => {
  const given = (address: string): string => {
    const [fault] = faultsOf({ DATABASE_URL: address });
    return fault === undefined
      ? 'accepted'
      : `${fault.expected} | ${fault.given} | ${fault.remedy}`;
  };

  test.each([
    'postgres://user:top@secret/word@host/db',
    'postgres://user:top@secret?word@host/db',
    'postgres://user:top@secret#word@host/db',
    'postgres://user:12/secretword@host/db',
    'postgres://user:1?secretword@host/db',
    'postgres://user:1#secretword@host/db',
    'postgres://user:top/secretword@host/db',
    'postgres://user:top#secretword@host:1/db',
  ])('of a password with characters that are not encoded, nothing is printed: %s', (address) => {
    const said = given(address);
    expect(said).not.toBe('accepted');
    expect(said).not.toMatch(/secret|word@|top/u);
    expect(said).toContain('%40');
  });

  test('a bare @ in a password that can be read all the same is masked', () => {
    expect(given('postgres://user:p@ss@host/db')).toBe('accepted');
    const { given: shown } = readConfig({ DATABASE_URL: 'postgres://user:p@ss@host/db' });
    expect(shown.get('DATABASE_URL')).toBe('postgres://user:***@host/db');
  });

  test.each([
    'postgres://user@a,b/db',
    'postgres://user@a:5432,b:5432/db',
    'postgres://user@/db?host=a,b',
  ])('with several hosts is refused by name: %s', (address) => {
    expect(given(address)).toMatch(/list of hosts.*primary/u);
  });

  test.each(['standby', 'prefer-standby', 'read-only'])(
    'that wants a %s is refused by name',
    (wanted) => {
      expect(given(`postgres://user@host/db?target_session_attrs=${wanted}`)).toContain(
        'target_session_attrs',
      );
    },
  );

  test.each(['any', 'primary', 'read-write'])('that wants %s has what it wants', (wanted) => {
    expect(given(`postgres://user@host/db?target_session_attrs=${wanted}`)).toBe('accepted');
  });

  test('a comma in a password is no list of hosts', () => {
    expect(given('postgres://user:a,b@host/db')).toBe('accepted');
  });

  test("DATABASE_PASSWORD_FILE is the password of DATABASE_URL's user", () => {
    const config = readConfig({
      DATABASE_URL: 'postgres://me%40home@host/db',
      DATABASE_PASSWORD_FILE: '/run/secrets/password',
    });
    expect(config.passwordFile).toEqual({ path: '/run/secrets/password', user: 'me@home' });
    expect(faultsOf({ DATABASE_PASSWORD_FILE: 'geheim' })).toMatchObject([
      { name: 'DATABASE_PASSWORD_FILE' },
    ]);
  });
});

describe('the webhook', () => {
  const SECRET_FILE = { RETENTION_WEBHOOK_SECRET_FILE: '/run/secrets/webhook' };

  test('may have a user, a path and a query, of which nothing is shown', () => {
    const url = 'https://ada:geheim@hooks.test:8443/T0/geheim?token=geheim';
    const { webhookUrl, given } = readConfig({
      ...URL_ONLY,
      ...SECRET_FILE,
      RETENTION_WEBHOOK_URL: url,
    });
    expect(webhookUrl).toBe(url);
    expect(given.get('RETENTION_WEBHOOK_URL')).toBe('https://hooks.test:8443/...');
  });

  test('wants a secret that signs', () => {
    const [fault, ...others] = faultsOf({ RETENTION_WEBHOOK_URL: 'https://hooks.test/geheim' });
    expect(others).toEqual([]);
    expect(fault).toMatchObject({ name: 'RETENTION_WEBHOOK_SECRET_FILE', given: 'nothing' });
    expect(fault?.remedy).toContain('openssl rand -base64 32');
  });

  test.each([
    'ftp://ada:geheim@hooks.test/geheim',
    'hooks.test/geheim',
    'https://',
    'https://ada:ge/heim@hooks.test/',
    'https://hooks.test/#geheim',
  ])('%s is refused without its secrets', (text) => {
    const [fault] = faultsOf({ ...SECRET_FILE, RETENTION_WEBHOOK_URL: text });
    expect(fault?.name).toBe('RETENTION_WEBHOOK_URL');
    expect(JSON.stringify(fault)).not.toMatch(/geheim|ada|heim@/u);
  });
});
