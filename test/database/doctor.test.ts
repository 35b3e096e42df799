import { afterEach, describe, expect, test } from 'vitest';
import { createDatabase, describeDatabase } from '../support/database.ts';
import { examineWith } from '../support/doctor.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('retention doctor, on the database', () => {
  const database = useMigrated();
  const undo: string[] = [];
  afterEach(async () => {
    for (const sql of undo.splice(0).toReversed()) await database().query(sql);
  });

  const examine = (env: Readonly<Record<string, string>> = {}) =>
    examineWith({ DATABASE_URL: database().url, ...env });

  /** Runs SQL now, and other SQL after the test. */
  async function change(sql: string, back: string): Promise<void> {
    undo.push(back);
    await database().query(sql);
  }

  async function makeRole(): Promise<string> {
    const role = `role_${crypto.randomUUID().slice(0, 8)}`;
    await change(`create role ${role} login`, `drop owned by ${role}; drop role ${role}`);
    return role;
  }

  test('of a system in good health, everything is ok', async () => {
    await database().query(`select retention.tick('internal')`);
    const { ok, named, check } = await examine({ S3_RESULT_BUCKET: '' });
    expect(named('failed')).toEqual([]);
    // No bucket is known yet.
    expect(named('warning')).toEqual(['allowed buckets', 'buckets']);
    expect(ok).toBe(true);
    expect(named('ok')).toEqual([
      'variables',
      'DATABASE_URL',
      'DATABASE_LISTEN_URL',
      'DATABASE_MIGRATE_URL',
      'listening',
      'schema',
      'variables and database',
      'clock',
      'rights',
      'roles',
      'row-level security',
      'indexes',
      'size',
      'run ids',
      'statuses',
      'keys',
      'stamps',
      'gate',
      'identity',
      'fence',
      'time zones',
      'notification queue',
      'policies',
      'holds',
      'dead results',
      'dates',
      'lease',
      'scheduler',
      'ticks',
      'next pass',
      'late results',
      'newest run',
    ]);
    expect(check('DATABASE_URL').found).toMatch(/as postgres, PostgreSQL \d+.*directly/u);
    expect(check('listening').found).toMatch(/arrived after \d+ ms/u);
  });

  describe('the way there', () => {
    test('an address that nobody answers at fails, without its password', async () => {
      const { ok, checks, check } = await examine({
        DATABASE_URL: 'postgres://app:geheim@127.0.0.1:1/app',
      });
      expect(ok).toBe(false);
      expect(check('DATABASE_URL')).toMatchObject({ state: 'failed' });
      expect(check('DATABASE_URL').found).toContain('127.0.0.1:1/app');
      expect(check('DATABASE_URL').remedy).toContain('server is up');
      expect(JSON.stringify(checks)).not.toContain('geheim');
      expect(check('DATABASE_LISTEN_URL').found).toBe(
        'the same address as DATABASE_URL, which failed',
      );
      expect(checks.some(({ name }) => name === 'schema')).toBe(false);
    });

    test('an address that leads to another database fails', async () => {
      const other = await createDatabase();
      try {
        const { named, check } = await examine({ DATABASE_LISTEN_URL: other.url });
        expect(named('failed')).toContain('DATABASE_LISTEN_URL');
        expect(check('DATABASE_LISTEN_URL').found).toContain('another database');
        expect(check('listening')).toMatchObject({ state: 'failed' });
        expect(check('listening').remedy).toContain('same database');
      } finally {
        await other.drop();
      }
    });
  });

  describe('the schema', () => {
    test('that is not there fails, with the command that makes it', async () => {
      const other = await createDatabase();
      try {
        const { check, checks } = await examineWith({ DATABASE_URL: other.url });
        expect(check('schema')).toEqual({
          name: 'schema',
          state: 'failed',
          found: 'the schema retention is not there',
          remedy: 'Run: retention migrate up',
        });
        expect(checks.some(({ name }) => name === 'rights')).toBe(false);
      } finally {
        await other.drop();
      }
    });

    test('that lacks a migration fails, one that has a newer one is warned of', async () => {
      await change(
        `create table gone as select * from retention.pgmigrations where name like '0003%';
        delete from retention.pgmigrations where name like '0003%'`,
        `insert into retention.pgmigrations select * from gone; drop table gone`,
      );
      expect((await examine()).check('schema')).toMatchObject({
        state: 'failed',
        found: '1 migration pending: 0003_functions',
      });
      await database().query(
        `insert into retention.pgmigrations select * from gone; truncate gone`,
      );
      await change(
        `insert into retention.pgmigrations (name, run_on) values ('0999_later', now())`,
        `delete from retention.pgmigrations where name = '0999_later'`,
      );
      const { state, found } = (await examine()).check('schema');
      expect(state).toBe('warning');
      expect(found).toContain('0999_later');
    });
  });

  describe('the rights', () => {
    test('of a role that has none are named, with what gives them', async () => {
      const role = await makeRole();
      const asRole = { DATABASE_URL: database().urlAs(role), DATABASE_MIGRATE_URL: database().url };
      const before = await examine(asRole);
      expect(before.check('rights')).toMatchObject({ state: 'failed' });
      expect(before.check('rights').found).toMatch(
        /lacks usage on schema retention, .* and \d+ more rights$/u,
      );
      expect(before.check('rights').remedy).toContain(`select retention.grant_rights('${role}');`);
      await database().query(`select retention.grant_rights('${role}')`);
      const after = await examine(asRole);
      expect(after.check('rights')).toMatchObject({ state: 'ok' });
      // The listener's role alone sees enough.
      const alone = await examine({ DATABASE_URL: database().urlAs(role) });
      expect(alone.named('failed')).toEqual([]);
    });

    test('of a role that lacks a few are named one by one', async () => {
      const role = await makeRole();
      await database().query(`select retention.grant_rights('${role}');
        revoke execute on function retention.tick(text) from ${role}`);
      const { check } = await examine({ DATABASE_URL: database().urlAs(role) });
      expect(check('rights')).toMatchObject({
        state: 'failed',
        found: `role ${role} lacks execute on function retention.tick`,
      });
      expect(check('rights').remedy).toContain(
        `grant execute on function retention.tick to "${role}"`,
      );
    });
  });

  describe('row-level security', () => {
    async function ownTable(): Promise<string> {
      const role = await makeRole();
      await change(
        `alter table runs owner to ${role}; alter view retention.result owner to ${role};
        alter table runs enable row level security`,
        `alter table runs owner to postgres; alter view retention.result owner to postgres;
        alter table runs no force row level security; alter table runs disable row level security`,
      );
      return role;
    }

    test('is no matter where the owner of the view is above it', async () => {
      await change(
        'alter table runs enable row level security',
        'alter table runs disable row level security',
      );
      expect((await examine()).check('row-level security')).toMatchObject({ state: 'ok' });
    });

    test('fails when forced on the owner of the view too, without a policy', async () => {
      await ownTable();
      expect((await examine()).check('row-level security')).toMatchObject({ state: 'ok' });
      await database().query('alter table runs force row level security');
      const { state, remedy } = (await examine()).check('row-level security');
      expect(state).toBe('failed');
      expect(remedy).toContain('no force row level security');
    });

    test('fails when policies decide what the owner of the view sees', async () => {
      const role = await ownTable();
      await change(
        `alter table runs force row level security;
        create policy some_rows on runs to ${role} using (tenant_id = 'acme')`,
        'drop policy some_rows on runs',
      );
      expect((await examine()).check('row-level security')).toMatchObject({ state: 'failed' });
    });
  });

  describe('the indexes', () => {
    test('one that is missing fails, with what builds it again', async () => {
      const { definition } = await database().one<{ definition: string }>(
        `select pg_get_indexdef('retention_key'::regclass) as definition`,
      );
      const { mark } = await database().one<{ mark: string }>(
        `select obj_description('retention_key'::regclass, 'pg_class') as mark`,
      );
      await change(
        'drop index retention_key',
        `${definition}; comment on index retention_key is '${mark}'`,
      );
      const { state, found, remedy } = (await examine()).check('indexes');
      expect(state).toBe('failed');
      expect(found).toContain('retention_key is missing');
      expect(remedy).toBe('Build them again, concurrently; no work is lost: retention migrate up');
    });

    test('one that is invalid fails', async () => {
      await change(
        `update pg_index set indisvalid = false where indexrelid = 'retention_live'::regclass`,
        `update pg_index set indisvalid = true where indexrelid = 'retention_live'::regclass`,
      );
      expect((await examine()).check('indexes').found).toContain('retention_live is missing');
    });
  });

  test('columns without a time zone are warned of', async () => {
    await change(
      `update retention.adapter
      set columns = jsonb_set(columns, '{completed_at,type}', '"timestamp without time zone"')`,
      `update retention.adapter
      set columns = jsonb_set(columns, '{completed_at,type}', '"timestamp with time zone"')`,
    );
    const { state, found } = (await examine()).check('time zones');
    expect(state).toBe('warning');
    expect(found).toContain('completed_at (timestamp without time zone)');
  });

  test('a switched-off reactor, a pending policy and holds are told', async () => {
    const [runId] = await database().insertRuns({ count: 2, completedAgo: '10 days' });
    await database().set({ enabled: 'false', policy_guard: '1' });
    await database().query(`select retention.set_policy('*', '3 days')`);
    await database().query(`select retention.place_hold('audit', $1)`, [runId]);
    const { check } = await examine();
    expect(check('gate')).toMatchObject({
      state: 'warning',
      found: expect.stringContaining('retention is disabled') as string,
    });
    expect(check('policies')).toMatchObject({ state: 'warning' });
    expect(check('policies').found).toMatch(
      /^30 days by default.*tenant \*: 3 days instead of 30/u,
    );
    expect(check('policies').remedy).toContain('retention policy confirm');
    expect(check('holds').found).toBe('1 active hold');
    await database().query(
      `update retention.policy set pending_retain = null, pending_results = null, pending_at = null,
      pending_by = null`,
    );
  });

  test('dead results fail, with the command that revives them', async () => {
    await database().insertRuns({ count: 3 });
    await database().query('select retention.flag_expired()');
    await database().query(
      `update retention.batch set dead_at = now(), failed_at = now(), code = 'AccessDenied'`,
    );
    expect((await examine()).check('dead results')).toEqual({
      name: 'dead results',
      state: 'failed',
      found: '3 results failed too often: AccessDenied (3)',
      remedy:
        'Fix the cause (retention explain RUN tells it), then revive them: ' +
        'retention retry --code AccessDenied',
    });
  });

  test('runs that completed without a date are counted over all tenants', async () => {
    await database().insertRuns({ count: 2, completedAgo: null });
    await database().insertRuns({ count: 1, completedAgo: null, tenant: 'globex' });
    await database().insertRuns({ count: 1, completedAgo: null, status: 'RUNNING' });
    await database().insertRuns({ count: 1, completedAgo: null, clearedAgo: '1 day' });
    const { state, found } = (await examine()).check('dates');
    expect(state).toBe('warning');
    expect(found).toMatch(/^3 runs are COMPLETED without a date/u);
    await database().insertRuns({ count: 1_100, completedAgo: null });
    expect((await examine()).check('dates').found).toMatch(/^at least 1,000 runs/u);
  });

  test('ticks that stopped fail', async () => {
    expect((await examine()).check('ticks')).toMatchObject({ state: 'warning' });
    await database().query(
      `update retention.heartbeat set ticked_at = now() - interval '10 minutes', ticked_by = 'internal'`,
    );
    const { state, found, remedy } = (await examine()).check('ticks');
    expect(state).toBe('failed');
    expect(found).toMatch(/60\d s ago, by internal: they have stopped$/u);
    expect(remedy).toBe('Start a listener: retention listen');
  });
});
