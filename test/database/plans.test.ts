import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

const LIVE = 40_000;
const DUE = 20;

/** What the planner is told of the table, before the rows that matter are there and after. */
const STATISTICS: [what: string, before: string, after: string][] = [
  ['was never analysed', '', ''],
  ['was analysed when it was empty', 'analyze runs', ''],
  [
    'is said to be as small as a page (reltuples of -1, relpages of 0)',
    '',
    `update pg_class set reltuples = -1, relpages = 0 where oid = 'runs'::regclass`,
  ],
  [
    'is said to have a tenant for each row',
    `alter table runs alter column tenant_id set (n_distinct = -1)`,
    'analyze runs',
  ],
  [
    'is said to have one run, one key and one date',
    `alter table runs alter column run_id set (n_distinct = 1);
    alter table runs alter column result_s3_key set (n_distinct = 1);
    alter table runs alter column completed_at set (n_distinct = 1)`,
    'analyze runs',
  ],
  [
    'is said to be a thousand times as large',
    '',
    `update pg_class set reltuples = 1e9, relpages = 1e7 where oid = 'runs'::regclass`,
  ],
];

describeDatabase('promise 11: whatever the statistics say of a table', () => {
  const database = useMigrated();

  /** What one statement reads of the table, by the server's own count; it is rolled back. */
  async function reads(statement: string): Promise<{ scans: number; rows: number }> {
    const session = await database().connect();
    try {
      await session.query('begin');
      await session.query(statement);
      const { rows } = await session.query<{ scans: number; rows: number }>(
        `select seq_scan::int as scans, (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows
        from pg_stat_xact_user_tables where relid = 'runs'::regclass`,
      );
      await session.query('rollback');
      return rows[0] ?? { scans: -1, rows: -1 };
    } finally {
      await session.end();
    }
  }

  test.each(STATISTICS)(
    'that %s, each question reads what it answers',
    async (_, before, after) => {
      const { query, insertRuns, insertRun } = database();
      await query(`alter table runs set (autovacuum_enabled = false); ${before}`);
      onTestFinished(() =>
        query(`alter table runs reset (autovacuum_enabled);
        alter table runs alter column tenant_id reset (n_distinct),
          alter column run_id reset (n_distinct),
          alter column result_s3_key reset (n_distinct),
          alter column completed_at reset (n_distinct);
        truncate runs; analyze runs`).then(() => undefined),
      );
      await insertRuns({ count: LIVE / 2, completedAgo: '2 days' });
      await insertRuns({ count: LIVE / 2, completedAgo: '2 days', tenant: 'globex' });
      await insertRuns({ count: DUE });
      const shared = await insertRun({ tenant: 'initech', completedAgo: '3 days' });
      await query(after);
      const statements = {
        'a pass': 'select retention.flag_expired()',
        'a whole pass': 'select retention.flag_expired(p_whole => true)',
        'a selection by tenant': `select * from retention.flag_selected('acme')`,
        'a selection by run': `select * from retention.flag_selected(null, array['${shared}'])`,
        'a selection by age': `select * from retention.flag_selected(p_older_than => '40 days', p_all => true)`,
        'a dry run': 'select * from retention.count_due()',
        status: 'select * from retention.status',
        'the tenants that wait': 'select * from retention.tenants_due()',
        'an explanation': `select * from retention.explain('${shared}')`,
        'a hold': `select * from retention.place_hold('law', '${shared}')`,
        'a trial': 'select * from retention.try_stamp()',
      };
      const seen: Record<string, unknown> = {};
      for (const [what, statement] of Object.entries(statements))
        seen[what] = await reads(statement);
      await query('select retention.flag_expired()');
      seen['a claim'] = await reads(`select from retention.claim(gen_random_uuid(), '1 minute')`);
      await query(
        `insert into retention.hold (tenant_id, reason, placed_by) values ('elsewhere', 'law', 'x')`,
      );
      seen['a claim beside a hold'] = await reads(
        `select from retention.claim(gen_random_uuid(), '1 minute')`,
      );
      await query(`select retention.set_policy('globex', '90 days', p_new_tenant => true)`);
      seen['a pass beside a policy'] = await reads(
        'select retention.flag_expired(p_whole => true)',
      );
      for (const [what, read] of Object.entries(seen)) {
        expect({ what, ...(read as object) }).toMatchObject({ what, scans: 0 });
        expect({ what, few: (read as { rows: number }).rows < 2_000 }).toEqual({ what, few: true });
      }
    },
  );
});
