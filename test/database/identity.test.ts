import { expect, test } from 'vitest';
import { type TestDatabase, describeDatabase } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { withDatabase } from '../support/migrating.ts';

/** A type of the tenant column, a tenant as it is stored, the same one as somebody types it, and what is none. */
const TENANTS: [type: string, stored: string, typed: string, none: string | undefined][] = [
  ['uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'acme'],
  ['app.id', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a0eebc999c0b4ef8bb6d6bb9bd380a11}', ''],
  ['integer', '7', '007', '7.5'],
  ['smallint', '7', ' 7 ', '70000'],
  ['bigint', '7', '+7', '99999999999999999999'],
  ['numeric(20, 0)', '7', '7.00', '7.4'],
  ['numeric(20, 2)', '7.00', '7', '7.001'],
  ['character(8)', 'ab', 'ab   ', 'abcdefghi'],
  ['varchar(5)', 'acme', 'acme', 'acmexyz'],
  ['name', 'acme', 'acme', 'a'.repeat(70)],
  ['inet', '10.0.0.1/32', '10.0.0.1', '10.0.0.256'],
  ['cidr', '10.0.0.0/8', '10', 'ten'],
  ['macaddr', '08:00:2b:01:02:03', '08002B-010203', 'none'],
  ['app.tenant', 'acme', 'acme', 'acme-and-more'],
  ['text', 'o\'neil, "x"', 'o\'neil, "x"', undefined],
];

const TYPES = `create schema app;
  create type app.plan as enum ('gold', 'free');
  create domain app.id as uuid;
  create domain app.plan_name as app.plan;
  create domain app.short as varchar(6) check (value <> '');
  create domain app.tenant as app.short`;

/** The runs of one tenant, and its table with another type of tenants. */
async function withTenants(
  type: string,
  work: (database: TestDatabase) => Promise<void>,
): Promise<void> {
  await withDatabase(async (database) => {
    await database.query(TYPES);
    await database.query(`alter table runs drop column tenant_id, add column tenant_id ${type}`);
    await work(database);
  });
}

const insert = ({ query }: TestDatabase, tenant: string) =>
  query(
    `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
    select $1, 'COMPLETED', now() - interval '40 days', 'b', 'key ' || n from generate_series(1, 3) n`,
    [tenant],
  );

const flag = async ({ one }: TestDatabase): Promise<number> =>
  (await one<{ flagged: number }>('select retention.flag_expired(p_whole => true) as flagged'))
    .flagged;

describeDatabase('a tenant is the one that its column means', () => {
  test.each(TENANTS)(
    '%s: another spelling is the same tenant',
    async (type, stored, typed, none) => {
      await withTenants(type, async (database) => {
        const { query, one } = database;
        await insert(database, stored);
        await migrateUp(database.url);
        expect(await query('select from retention.list_due($1)', [typed])).toHaveLength(3);

        await query(`select retention.set_policy($1, '90 days')`, [typed]);
        expect(
          await query(`select tenant_id from retention.policy where tenant_id <> '*'`),
        ).toEqual([{ tenant_id: stored }]);
        expect(await flag(database)).toBe(0);
        expect(
          await query(`select results::int from retention.preview_policy($1, '30 days')`, [typed]),
        ).toEqual([{ results: 3 }]);
        await query('select retention.unset_policy($1, true)', [typed]);
        // By hand as well.
        await query(`insert into retention.policy (tenant_id, retain) values ($1, '90 days')`, [
          typed,
        ]);
        expect(await flag(database)).toBe(0);
        await query('select retention.unset_policy($1, true)', [stored]);

        await query(`select * from retention.place_hold('audit', null, $1)`, [typed]);
        expect(await flag(database)).toBe(0);
        expect(await query('select tenant_id from retention.list_holds()')).toEqual([
          { tenant_id: stored },
        ]);
        await query('update retention.setting set release_spread = $1', ['0']);
        await query('select retention.release_hold(hold_id) from retention.hold');
        expect(await flag(database)).toBe(3);
        const { retried } = await one<{ retried: string }>(
          `with failed as (update retention.batch set failed_at = now(), dead_at = now(), code = 'AccessDenied' returning 1)
        select count(*) as retried from failed`,
        );
        expect(retried).toBe('1');
        expect(await one('select retention.retry(null, $1) as n', [typed])).toEqual({ n: '3' });

        if (none === undefined) return;
        for (const call of [
          `select retention.set_policy($1, '90 days', false, true)`,
          `select retention.place_hold('audit', null, $1)`,
          'select * from retention.list_due($1)',
          'select retention.retry(null, $1)',
          `insert into retention.policy (tenant_id, retain) values ($1, '90 days')`,
        ]) {
          // An empty text is refused before it is read.
          await expect(query(call, [none]), call).rejects.toMatchObject({
            code: '22023',
            message: expect.stringMatching(
              /is not a tenant id of this application|needs a tenant id|given: an empty text/u,
            ) as string,
          });
        }
        expect(await query(`select from retention.policy where tenant_id <> '*'`)).toEqual([]);
        expect(await query('select from retention.list_holds()')).toEqual([]);
      });
    },
  );

  test('a tenant without runs is asked about, and a slip changes nothing', async () => {
    await withTenants('text', async (database) => {
      const { query, one } = database;
      await insert(database, 'acme');
      await migrateUp(database.url);
      await expect(query(`select retention.set_policy('amce', '90 days')`)).rejects.toMatchObject({
        code: 'P0002',
        message: 'there is no run of tenant amce',
        hint: expect.stringContaining('p_new_tenant => true') as string,
      });
      expect(await query(`select from retention.policy where tenant_id <> '*'`)).toEqual([]);
      await query(`select retention.set_policy('amce', '90 days', p_new_tenant => true)`);
      await query(`select retention.set_policy('amce', '80 days')`);
      expect(await one(`select * from retention.find_tenant('amce')`)).toEqual({
        tenant_id: 'amce',
        is_known: true,
      });
      expect(await one(`select * from retention.find_tenant('ACME')`)).toMatchObject({
        is_known: false,
      });
      expect(await one(`select * from retention.find_tenant('*')`)).toMatchObject({
        is_known: true,
      });
    });
  });

  test('a policy of a tenant that all of whose runs are cleared needs no word for it', async () => {
    await withTenants('text', async (database) => {
      await insert(database, 'acme');
      await database.query('update runs set result_cleared_at = now()');
      await migrateUp(database.url);
      await database.query(`select retention.set_policy('acme', '90 days')`);
    });
  });

  test('a policy for a tenant id that no index can hold is refused in words', async () => {
    await withTenants('text', async ({ query, url }) => {
      await migrateUp(url);
      await expect(
        query(`select retention.set_policy(repeat('x', 3000), '90 days', false, true)`),
      ).rejects.toMatchObject({
        code: '22023',
        message: expect.stringContaining('1,024 bytes') as string,
      });
    });
  });
});

const WRITTEN_SEVERAL_WAYS: [what: string, type: string, before: string][] = [
  ['citext', 'citext', 'create extension citext'],
  [
    'a domain over citext',
    'app.email',
    'create extension citext; create domain app.email as citext',
  ],
  [
    'a collation that ignores case',
    'text collate app.ci',
    `create collation app.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
  ],
  ['numeric without a scale', 'numeric', ''],
  ['double precision', 'double precision', ''],
  ['timestamptz', 'timestamptz', ''],
  ['date', 'date', ''],
  ['interval', 'interval', ''],
  ['money', 'money', ''],
  ['jsonb', 'jsonb', ''],
  ['bytea', 'bytea', ''],
  ['boolean', 'boolean', ''],
  ['an array', 'text[]', ''],
  ['a type of its own', 'app.pair', 'create type app.pair as (a int, b int)'],
  ['an enum', 'app.plan', TYPES.replace('create schema app;', '')],
  ['a domain over an enum', 'app.plan_name', TYPES.replace('create schema app;', '')],
];

const BOTH_REFUSED =
  /differ from what was looked for: (?=.*run_id: column run_id (?:is of|has)).*tenant_id: column tenant_id (?:is of|has)/u;

describeDatabase('ids that one value may be written in several ways', () => {
  test.each(WRITTEN_SEVERAL_WAYS)(
    '%s: refused as tenant and as run id, in one sentence',
    async (_, type, before) => {
      await withDatabase(async (database) => {
        await database.query(`create schema app; ${before}`);
        await database.query(
          `alter table runs drop column tenant_id, add column tenant_id ${type}`,
        );
        await database.query('alter table runs drop column run_id');
        await database.query(`alter table runs add column run_id ${type}`);
        await expect(migrateUp(database.url)).rejects.toMatchObject({
          message: expect.stringMatching(BOTH_REFUSED) as string,
          remedy: expect.stringContaining('RETENTION_COLUMNS') as string,
        });
      });
    },
  );

  test('a status of type citext is refused too, and one of type boolean is mapped', async () => {
    await withDatabase(async (database) => {
      const { query } = database;
      await query('create extension citext; alter table runs alter column status type citext');
      await expect(migrateUp(database.url)).rejects.toThrow('status: column status is of type');
      await query('alter table runs drop column status; alter table runs add column done boolean');
      await query(`insert into runs (tenant_id, done, completed_at, result_s3_bucket, result_s3_key)
        values ('a', true, now() - interval '40 days', 'b', 'k'), ('a', false, now() - interval '40 days', 'b', 'l')`);
      await migrateUp(database.url, { columns: 'status=done:true' });
      expect(await flag(database)).toBe(1);
    });
  });
});

describeDatabase('when the type of the tenant column changes', () => {
  const UUID = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11';

  const alter = ({ query }: TestDatabase) =>
    query(
      `select retention.detach(); alter table runs alter column tenant_id type uuid using tenant_id::uuid`,
    );

  test('policies and holds follow it, and the longer of two that become one stays', async () => {
    await withTenants('text', async (database) => {
      const { query } = database;
      await insert(database, UUID.toUpperCase());
      await migrateUp(database.url);
      await query(`select retention.set_policy($1, '90 days')`, [UUID.toUpperCase()]);
      await query(`select retention.set_policy($1, '60 days', true, true)`, [UUID]);
      await query(`select * from retention.place_hold('audit', null, $1)`, [UUID.toUpperCase()]);
      await alter(database);
      await migrateUp(database.url);
      expect(
        await query(
          `select tenant_id, extract(day from retain)::int as days from retention.policy where tenant_id <> '*'`,
        ),
      ).toEqual([{ tenant_id: UUID, days: 90 }]);
      expect(await query('select tenant_id from retention.list_holds()')).toEqual([
        { tenant_id: UUID },
      ]);
      await query(`select retention.unset_policy($1, true)`, [UUID]);
      expect(await flag(database)).toBe(0);
      await expect(query(`delete from retention.policy where tenant_id = '*'`)).rejects.toThrow(
        'cannot be removed',
      );
    });
  });

  test('a hold on what is no tenant any more is in the way, said in words; a policy is not', async () => {
    await withTenants('text', async (database) => {
      const { query } = database;
      await insert(database, UUID);
      await query(`insert into runs (tenant_id, status) values ('acme', 'RUNNING')`);
      await migrateUp(database.url);
      await query(`select retention.set_policy('acme', '90 days')`);
      await query(`select * from retention.place_hold('audit', null, 'acme')`);
      await query(`delete from runs where tenant_id = 'acme'`);
      await alter(database);
      await expect(migrateUp(database.url)).rejects.toMatchObject({
        message: expect.stringContaining(
          'a hold is in force on tenant acme, which is no uuid',
        ) as string,
        remedy: expect.stringContaining('retention halt') as string,
      });
      await query('select retention.release_hold(hold_id) from retention.hold');
      await migrateUp(database.url);
      expect(await flag(database)).toBe(3);
      await query(`select retention.unset_policy('acme', true)`);
    });
  });

  test('attach knows an enum, a domain and a collation under every search path', async () => {
    await withTenants('app.tenant', async (database) => {
      const { query } = database;
      await query(
        `alter table runs drop column status; alter table runs add column status app.plan`,
      );
      await query(
        `create collation app.c (locale = 'C'); alter table runs alter column result_s3_key type text collate app.c`,
      );
      await query(`alter database ${database.name} set search_path = app, public`);
      await migrateUp(database.url, { columns: 'status=status:gold' });
      await query('select retention.detach(); set search_path = public; select retention.attach()');
      expect(await query('select from retention.gate()')).toEqual([]);
      expect(await flag(database)).toBe(0);
    });
  });
});

describeDatabase('a run is the one that its column means', () => {
  test.each([
    ['integer', '7', '007', '7.5'],
    ['numeric(20, 0)', '7', '7.0', '7.5'],
    ['character(8)', 'ab', 'ab  ', 'abcdefghij'],
    ['varchar(5)', 'run-1', 'run-1', 'run-12'],
    ['inet', '10.0.0.1/32', '10.0.0.1', 'x'],
  ])(
    '%s %s, typed as %j: held, explained, flagged, claimed and stamped',
    async (type, stored, typed, none) => {
      await withDatabase(async (database) => {
        const { query, one } = database;
        await query(TYPES);
        await query(
          `alter table runs drop column run_id; alter table runs add column run_id ${type} primary key`,
        );
        await query(
          `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select ($1::text)::${type}, 'acme', 'COMPLETED', now() - interval '40 days', 'b', 'of ' || $1::text`,
          [stored],
        );
        await migrateUp(database.url);
        await query(`select * from retention.place_hold('audit', $1)`, [typed]);
        expect(await flag(database)).toBe(0);
        expect(await one('select state from retention.explain($1)', [typed])).toEqual({
          state: 'held',
        });
        await expect(
          query(`select * from retention.place_hold('audit', $1)`, [none]),
        ).rejects.toMatchObject({
          code: '22023',
          message: expect.stringContaining('is not a run id of this application') as string,
        });
        await query('select retention.release_hold(hold_id) from retention.hold');
        expect(await flag(database)).toBe(1);
        const lease = crypto.randomUUID();
        const claim = await one<{ batch_id: string; keys: string[] }>(
          `select batch_id, keys from retention.claim($1, '1 minute')`,
          [lease],
        );
        expect(claim.keys).toEqual([`of ${stored}`]);
        await query('select retention.settle($1, $2, p_all => true)', [claim.batch_id, lease]);
        expect(await one('select state from retention.explain($1)', [typed])).toEqual({
          state: 'cleared',
        });
      });
    },
  );
});
