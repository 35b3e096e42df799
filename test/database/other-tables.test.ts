import { afterEach, expect, test } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import { type MigrationSettings, runMigrations } from '../../src/database/migrations.ts';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { type Store, createStore } from '../../src/store/store.ts';
import { type TestDatabase, createDatabase, describeDatabase } from '../support/database.ts';
import { dueRuns } from '../support/due-runs.ts';

/** How an application other than the runbook's keeps its runs. */
interface OtherTable {
  readonly create: string;
  /** As SQL writes it. */
  readonly table: string;
  readonly columns: string;
  /** What becomes of the settings after migrating. */
  readonly afterwards?: string;
  /**
   * One run that completed `$1` ago with the key `$2`, of the tenant `$3` (1 or 2); returns `run_id`
   * as text.
   */
  readonly insert: string;
  /** The tenants' ids; undefined: the table has no tenants. */
  readonly tenants: readonly [string, string] | undefined;
  readonly bucket: string;
  /** The cleared-at column. Default: `result_cleared_at`. */
  readonly stamp?: string;
  readonly key: string;
  /** A text that is no run id here; undefined: any text could be one. */
  readonly foreignId?: string;
}

const ACME = ['acme', 'globex'] as const;
const WHEN = `now() - $1::interval`;
const NAME = `(array['acme', 'globex'])[$3::int]`;

const OTHER_TABLES: Readonly<Record<string, OtherTable>> = {
  'result_bucket and result_key': {
    create: `create table jobs_done (
      run_id uuid primary key default gen_random_uuid(), tenant_id text not null, status text,
      completed_at timestamptz, result_bucket text, result_key text, result_cleared_at timestamptz,
      updated_at timestamptz default now())`,
    table: 'public.jobs_done',
    columns: 'bucket=result_bucket,key=result_key',
    insert: `insert into jobs_done (tenant_id, status, completed_at, result_bucket, result_key)
      values (${NAME}, 'COMPLETED', ${WHEN}, 'results', $2) returning run_id::text`,
    tenants: ACME,
    bucket: 'results',
    key: 'result_key',
    foreignId: '42',
  },
  'retain_until from retention_until, and no updated_at': {
    create: `create table runs2 (
      run_id uuid primary key default gen_random_uuid(), tenant_id text, status text,
      completed_at timestamptz, retention_until timestamptz, result_bucket text, result_key text)`,
    table: 'runs2',
    columns: 'bucket=result_bucket, key=result_key, retain_until=retention_until, updated_at=',
    insert: `insert into runs2 (tenant_id, status, completed_at, result_bucket, result_key)
      values (${NAME}, 'COMPLETED', ${WHEN}, 'results', $2) returning run_id::text`,
    tenants: ACME,
    bucket: 'results',
    key: 'result_key',
  },
  'integer run ids': {
    create: `create table runs3 (
      id integer primary key generated always as identity, tenant_id varchar(64) not null,
      status varchar(20), completed_at timestamptz, result_s3_bucket varchar(63),
      result_s3_key varchar(1024), updated_at timestamptz)`,
    table: 'public.runs3',
    columns: 'run_id=id',
    insert: `insert into runs3 (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (${NAME}, 'COMPLETED', ${WHEN}, 'results', $2) returning id::text as run_id`,
    tenants: ACME,
    bucket: 'results',
    key: 'result_s3_key',
    foreignId: '6f1c1f9e-8a53-4e4a-9d55-5b8f6f3c7e11',
  },
  'bigint run ids and integer tenants': {
    create: `create table runs4 (
      run_id bigint primary key, tenant_id integer, status text, completed_at timestamptz,
      result_s3_bucket text, result_s3_key text, updated_at timestamptz);
      create sequence odd start 9007199254740993`,
    table: 'public.runs4',
    columns: '',
    insert: `insert into runs4 (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (nextval('odd'), $3::int, 'COMPLETED', ${WHEN}, 'results', $2) returning run_id::text`,
    tenants: ['1', '2'],
    bucket: 'results',
    key: 'result_s3_key',
    foreignId: '99999999999999999999999',
  },
  'text run ids with letters of every kind': {
    create: `create table runs5 (
      run_id text collate "C" primary key, tenant_id text collate "C", status text,
      completed_at timestamptz, result_s3_bucket text, result_s3_key text, updated_at timestamptz);
      create sequence odd`,
    table: 'public.runs5',
    columns: '',
    insert: `insert into runs5 (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values ('run "' || nextval('odd') || '", {ü}\\ ''x''', ${NAME}, 'COMPLETED', ${WHEN}, 'results', $2)
      returning run_id`,
    tenants: ACME,
    bucket: 'results',
    key: 'result_s3_key',
  },
  'a fixed bucket': {
    create: `create table runs6 (
      run_id uuid primary key default gen_random_uuid(), tenant_id text, status text,
      completed_at timestamptz, path text, updated_at timestamptz)`,
    table: 'public.runs6',
    columns: `bucket='the-only-one',key=path`,
    insert: `insert into runs6 (tenant_id, status, completed_at, path)
      values (${NAME}, 'COMPLETED', ${WHEN}, $2) returning run_id::text`,
    tenants: ACME,
    bucket: 'the-only-one',
    key: 'path',
  },
  'no bucket column, and a default bucket': {
    create: `create table runs7 (
      run_id uuid primary key default gen_random_uuid(), tenant_id text, status text,
      completed_at timestamptz, path text, updated_at timestamptz)`,
    table: 'public.runs7',
    columns: 'bucket=,key=path',
    afterwards: `update retention.setting set default_bucket = 'the-default'`,
    insert: `insert into runs7 (tenant_id, status, completed_at, path)
      values (${NAME}, 'COMPLETED', ${WHEN}, $2) returning run_id::text`,
    tenants: ACME,
    bucket: 'the-default',
    key: 'path',
  },
  'another schema and odd names': {
    create: `create schema "My Schema"; create table "My Schema"."run ""results"", 100% = all" (
      "Run-Id" uuid primary key default gen_random_uuid(), "tenant, id" text, "Status" text,
      "completed=at" timestamptz, "bucket's" text, "key ""path""" text, "cleared.at" timestamptz,
      "select" timestamptz)`,
    table: `"My Schema"."run ""results"", 100% = all"`,
    columns:
      'run_id="Run-Id",tenant_id="tenant, id",status="Status",completed_at="completed=at",' +
      `bucket="bucket's",key="key ""path""",cleared_at="cleared.at",updated_at="select"`,
    insert: `insert into "My Schema"."run ""results"", 100% = all"
      ("tenant, id", "Status", "completed=at", "bucket's", "key ""path""")
      values (${NAME}, 'COMPLETED', ${WHEN}, 'results', $2) returning "Run-Id"::text as run_id`,
    tenants: ACME,
    bucket: 'results',
    stamp: '"cleared.at"',
    key: '"key ""path"""',
  },
  'a table partitioned by month': {
    create: `create table monthly (
      run_id uuid not null default gen_random_uuid(), tenant_id text not null, status text not null,
      completed_at timestamptz, result_s3_bucket text, result_s3_key text,
      result_cleared_at timestamptz, updated_at timestamptz, created_at timestamptz not null,
      primary key (run_id, created_at)
    ) partition by range (created_at);
    do $$
    begin
      for month in 0..3 loop
        execute format('create table monthly_%s partition of monthly for values from (%L) to (%L)', month,
          date_trunc('month', now()) - make_interval(months => month),
          date_trunc('month', now()) - make_interval(months => month - 1));
      end loop;
    end
    $$;
    create table monthly_old partition of monthly default`,
    table: 'public.monthly',
    columns: '',
    // A month that came after the migration has the indexes that Postgres made for it.
    afterwards: `do $$
    begin
      execute format('create table monthly_next partition of monthly for values from (%L) to (%L)',
        date_trunc('month', now()) - interval '4 months', date_trunc('month', now()) - interval '3 months');
    end
    $$`,
    insert: `insert into monthly (tenant_id, status, completed_at, result_s3_bucket, result_s3_key, created_at)
      values (${NAME}, 'COMPLETED', ${WHEN}, 'results', $2, ${WHEN}) returning run_id::text`,
    tenants: ACME,
    bucket: 'results',
    key: 'result_s3_key',
  },
  'timestamps without time zone': {
    create: `create table naive (
      run_id uuid primary key default gen_random_uuid(), tenant_id text, status text,
      completed_at timestamp, retain_until timestamp(3), result_s3_bucket text, result_s3_key text,
      result_cleared_at timestamp, updated_at timestamp)`,
    table: 'public.naive',
    columns: '',
    insert: `insert into naive (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (${NAME}, 'COMPLETED', (${WHEN}) at time zone 'UTC', 'results', $2) returning run_id::text`,
    tenants: ACME,
    bucket: 'results',
    key: 'result_s3_key',
  },
  'an enum status and uuid tenants': {
    create: `create type run_status as enum ('RUNNING', 'COMPLETED', 'FAILED');
    create table typed (
      run_id uuid primary key default gen_random_uuid(), tenant_id uuid, status run_status,
      completed_at timestamptz, result_s3_bucket text, result_s3_key text, updated_at timestamptz)`,
    table: 'public.typed',
    columns: '',
    insert: `insert into typed (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      values (('00000000-0000-4000-8000-00000000000' || $3::int)::uuid, 'COMPLETED', ${WHEN}, 'results', $2)
      returning run_id::text`,
    tenants: ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'],
    bucket: 'results',
    key: 'result_s3_key',
  },
  'no tenant and no status': {
    create: `create table alone (
      run_id uuid primary key default gen_random_uuid(), completed_at timestamptz,
      result_s3_bucket text, result_s3_key text)`,
    table: 'public.alone',
    columns: 'tenant_id=,status=,updated_at=',
    insert: `insert into alone (completed_at, result_s3_bucket, result_s3_key)
      select ${WHEN}, 'results', $2 where $3::int > 0 returning run_id::text`,
    tenants: undefined,
    bucket: 'results',
    key: 'result_s3_key',
  },
};

describeDatabase("another application's table", () => {
  const opened: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of opened.splice(0).toReversed()) await close();
  });

  async function adopt(other: OtherTable): Promise<Adopted> {
    const database = await createDatabase();
    opened.push(() => database.drop());
    await database.query(`drop table runs`);
    await database.query(other.create);
    const settings = { table: other.table, columns: other.columns, scheduler: 'internal' } as const;
    await migrate(database.url, 'up', settings);
    if (other.afterwards !== undefined) await database.query(other.afterwards);
    const pool = createPool({ url: database.url, applicationName: 'test', logger: silentLogger });
    opened.push(() => pool.close());
    return new Adopted(other, settings, database, pool);
  }

  test.each(Object.entries(OTHER_TABLES))('%s', async (_, other) => {
    const adopted = await adopt(other);
    await operate(adopted);
    await adopted.empty();
    await runTheCycle(adopted);
  });

  test('a table with retention_until: that date is a floor', async () => {
    const adopted = await adopt(
      OTHER_TABLES['retain_until from retention_until, and no updated_at'] as OtherTable,
    );
    const run = await adopted.insert('40 days', 'floor', 1);
    await adopted.database.query(`update runs2 set retention_until = now() + interval '1 day'`);
    expect(await adopted.state(run)).toBe('kept');
    expect(await adopted.store.flagExpired({ by: 'test', whole: true })).toBe(0);
    await adopted.database.query(`update runs2 set retention_until = now() - interval '1 second'`);
    expect(await adopted.store.flagExpired({ by: 'test', whole: true })).toBe(1);
  });

  test('a naive timestamp is read and written as UTC, whatever the session says', async () => {
    const adopted = await adopt(OTHER_TABLES['timestamps without time zone'] as OtherTable);
    await adopted.database.query(
      `alter database ${adopted.database.name} set timezone = 'Pacific/Auckland'`,
    );
    const pool = createPool({
      url: adopted.database.url,
      applicationName: 'test',
      logger: silentLogger,
    });
    opened.push(() => pool.close());
    const store = createStore(pool);
    await adopted.insert('30 days 1 minute', 'due', 1);
    await adopted.insert('29 days 23 hours 59 minutes', 'kept', 1);
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
    expect(claim?.keys).toEqual(['due']);
    await store.settle(claim?.batchId ?? 0, lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 1,
    });
    const { seconds } = await adopted.one<{ seconds: number }>(
      `select abs(extract(epoch from result_cleared_at - (now() at time zone 'UTC')))::int as seconds
      from naive where result_cleared_at is not null`,
    );
    expect(seconds).toBeLessThan(60);
  });

  test("the listener's role needs no right on the table, with or without updated_at", async () => {
    for (const name of [
      'retain_until from retention_until, and no updated_at',
      'integer run ids',
    ]) {
      const other = OTHER_TABLES[name] as OtherTable;
      const adopted = await adopt(other);
      const role = `listener_${crypto.randomUUID().slice(0, 8)}`;
      await adopted.database.query(`create role ${role} login`);
      opened.push(async () => {
        await adopted.database.query(`drop owned by ${role}; drop role ${role}`);
      });
      await adopted.database.query(`select retention.grant_rights('${role}')`);
      const pool = createPool({
        url: adopted.database.urlAs(role),
        applicationName: 'test',
        logger: silentLogger,
      });
      opened.push(() => pool.close());
      const store = createStore(pool);
      await adopted.insert('40 days', 'due', 1);
      await store.flagExpired({ by: 'test' });
      const lease = crypto.randomUUID();
      const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
      await store.settle(claim?.batchId ?? 0, lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      });
      expect(await adopted.stamped()).toEqual(['due']);
      await expect(
        pool.query(`table public.${other.table.replace(/^public\./u, '')}`),
      ).rejects.toThrow('permission denied');
    }
  });
});

/** Flags, clears and stamps what is due, and takes everything of ours away again. */
async function runTheCycle(adopted: Adopted): Promise<void> {
  const { other } = adopted;
  const due = await adopted.insert('40 days', 'a due', 1);
  await adopted.insert('39 days', 'b due', 2);
  const fresh = await adopted.insert('2 days', 'fresh', 1);
  const held = await adopted.insert('50 days', 'held', 1);
  await adopted.one(`select from retention.place_hold('audit', $1)`, [held]);

  expect(await adopted.dueKeys()).toEqual(['a due', 'b due']);
  expect(await adopted.state(due)).toBe('due');
  expect(await adopted.state(fresh)).toBe('kept');
  expect(await adopted.state(held)).toBe('held');

  expect(await adopted.store.flagExpired({ by: 'test' })).toBe(2);
  const claimed = await adopted.clearNext();
  expect(claimed?.bucket).toBe(other.bucket);
  expect(claimed?.keys.toSorted()).toEqual(['a due', 'b due']);
  expect(await adopted.stamped()).toEqual(['a due', 'b due']);
  expect(await adopted.state(due)).toBe('cleared');
  expect(await adopted.store.readStatus()).toMatchObject({ due: 0, cleared_today: 2, held: 1 });
  await adopted.expectIndexes();

  await migrate(adopted.database.url, 'down', adopted.settings);
  expect(await adopted.stamped()).toEqual(['a due', 'b due']);
  expect(await adopted.leftovers()).toEqual([]);
}

/** Policies, holds, failures and drift. */
async function operate(adopted: Adopted): Promise<void> {
  const { store, database, other } = adopted;
  const first = await adopted.insert('40 days', 'first', 1);
  const second = await adopted.insert('20 days', 'second', 2);

  if (other.foreignId !== undefined) {
    expect(await adopted.state(other.foreignId)).toBe('unknown');
    await expect(
      database.query(`select from retention.place_hold('audit', $1)`, [other.foreignId]),
    ).rejects.toThrow(/is not a run id of this application|there is no run/u);
  }
  if (other.tenants !== undefined) {
    const [, tenant] = other.tenants;
    await database.query(`select retention.set_policy($1, '10 days')`, [tenant]);
    expect(await adopted.state(second)).toBe('due');
    const { hold_id } = await adopted.one<{ hold_id: number }>(
      `select hold_id from retention.place_hold('audit', null, $1)`,
      [tenant],
    );
    expect(await adopted.state(second)).toBe('held');
    await database.query(
      `update retention.setting set release_spread = '0'; select retention.release_hold(${hold_id})`,
    );
    expect(await adopted.state(second)).toBe('due');
    await database.query(`select retention.unset_policy($1)`, [tenant]);
  }
  expect(await adopted.state(second)).toBe('kept');

  // A refused result is retried on demand.
  const selected = await store.flagSelected({ runIds: [first] });
  expect(selected).toMatchObject({ newlyFlagged: 1, selected: 1 });
  await adopted.failNext('AccessDenied');
  expect(await adopted.state(first)).toBe('failed');
  expect(
    await adopted.one(`select retention.retry(array[$1], null, null, 'AccessDenied') as revived`, [
      first,
    ]),
  ).toEqual({ revived: '1' });
  await adopted.clearNext();
  expect(await adopted.stamped()).toEqual(['first']);

  // Drift: the object of a live row is gone, and that of a cleared one is back.
  const verifyId = crypto.randomUUID();
  const gone = await database.query<{ run_id: string; key: string }>(
    `select run_id, key from retention.compare_listing(
      $1, $2, '', null, null, array['first'], array[6], array[now()], now())`,
    [verifyId, other.bucket],
  );
  expect(gone).toEqual([{ run_id: second, key: 'second' }]);
  expect(
    await adopted.one(`select retention.stamp_gone($1, array[$2], array[$3]) as stamped`, [
      other.bucket,
      second,
      'second',
    ]),
  ).toEqual({ stamped: '1' });
  expect(
    await adopted.one(`select returned, orphans from retention.sort_strays($1, now())`, [verifyId]),
  ).toEqual({ returned: '1', orphans: '0' });
  expect(
    await adopted.one(`select retention.requeue_returned($1, now()) as requeued`, [verifyId]),
  ).toEqual({ requeued: '1' });
  expect(await adopted.stamped()).toEqual(['second']);
  expect(await adopted.one(`select retention.unstamp($1) as unstamped`, [second])).toEqual({
    unstamped: true,
  });
  expect(await adopted.stamped()).toEqual([]);
}

/** A table that was adopted, and what the tests do with it. */
class Adopted {
  readonly other: OtherTable;
  readonly settings: MigrationSettings;
  readonly database: TestDatabase;
  readonly store: Store;

  constructor(
    other: OtherTable,
    settings: MigrationSettings,
    database: TestDatabase,
    pool: Database,
  ) {
    this.other = other;
    this.settings = settings;
    this.database = database;
    this.store = createStore(pool);
  }

  async one<R extends Record<string, unknown>>(sql: string, values: readonly unknown[] = []) {
    return this.database.one<R>(sql, values);
  }

  async insert(ago: string, key: string, tenant: 1 | 2): Promise<string> {
    const { run_id } = await this.one<{ run_id: string }>(this.other.insert, [ago, key, tenant]);
    return run_id;
  }

  /** As it was after migrating. */
  async empty(): Promise<void> {
    await this.database.query(`truncate ${this.other.table}, retention.batch,
      retention.progress, retention.hold, retention.scan`);
  }

  async state(runId: string): Promise<string> {
    const { state } = await this.one<{ state: string }>('select state from retention.explain($1)', [
      runId,
    ]);
    return state;
  }

  async dueKeys(): Promise<string[]> {
    return (await dueRuns(this.database, {})).map(({ key }) => key);
  }

  async stamped(): Promise<string[]> {
    const { key, stamp = 'result_cleared_at', table } = this.other;
    const rows = await this.database.query<{ key: string }>(
      `select ${key} as key from ${table} where ${stamp} is not null order by 1`,
    );
    return rows.map((row) => row.key);
  }

  async clearNext() {
    const lease = crypto.randomUUID();
    const claim = await this.store.claim({ lease, leaseSeconds: 60, by: 'test' });
    if (claim !== undefined) {
      await this.store.settle(claim.batchId, lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      });
    }
    return claim;
  }

  async failNext(code: string): Promise<void> {
    const lease = crypto.randomUUID();
    const claim = await this.store.claim({ lease, leaseSeconds: 60, by: 'test' });
    const about = { reason: 'said the test', concerns: 'key', final: false } as const;
    const failed = (claim?.keys ?? []).map((key) => ({
      key,
      code,
      outcome: 'refused' as const,
      ...about,
    }));
    await this.store.settle(claim?.batchId ?? 0, lease, { cleared: [], failed, milliseconds: 1 });
  }

  /** The order in which results fall due, and the look-up by key, both come from our indexes. */
  async expectIndexes(): Promise<void> {
    const tenant = this.other.tenants?.[0];
    const plan = async (sql: string): Promise<string> => {
      const client = await this.database.connect();
      // With a handful of rows every plan is cheap; what matters is that there is one that scales.
      await client.query(
        'set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off',
      );
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${sql}`);
      await client.end();
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    };
    const walk = await plan(
      `select run_id from retention._live r
      where ${tenant === undefined ? 'r.tenant_id is null' : `r.tenant_id = '${tenant}'::retention.tenant_id`}
        and r.status = 'COMPLETED' and r.is_candidate and r.completed_at < now()
      order by r.tenant_id, r.completed_at, r.run_id limit 10`,
    );
    expect(walk).toMatch(/Index (?:Only )?Scan using (?:retention_live|monthly_next)/u);
    expect(walk).not.toMatch(/-> +Sort /u);
    const look = await plan(
      `select run_id from retention._live r where r.key_hash = retention._key_hash('x') and r.key = 'x'
        and r.bucket = '${this.other.bucket}'`,
    );
    expect(look).toMatch(/Index (?:Only )?Scan using (?:retention_key|monthly_next)/u);
    await this.database.query(`analyze ${this.other.table}`);
    // What is fresh and what is held.
    expect(await this.store.readStatus()).toMatchObject({ live_estimate: 2 });
  }

  /** Everything of ours that is still there. */
  async leftovers(): Promise<unknown[]> {
    return this.database.query(
      `select nspname as name from pg_namespace where nspname = 'retention'
      union all
      select relname from pg_class where relname ~ '^retention_'`,
    );
  }
}

async function migrate(
  url: string,
  direction: 'up' | 'down',
  settings: MigrationSettings,
): Promise<void> {
  await runMigrations({ databaseUrl: url, direction, settings, logger: silentLogger });
}
