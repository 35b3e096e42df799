import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

/** Far more than a tick takes, and less than any lock here is kept. */
const AT_ONCE_MILLISECONDS = 5_000;

describeDatabase('a tick', () => {
  const database = useMigrated();

  async function tick(): Promise<{ readonly flagged: number; readonly milliseconds: number }> {
    const startedAt = performance.now();
    const flagged = await database().store.tick('internal');
    return { flagged, milliseconds: performance.now() - startedAt };
  }

  async function keepOpen(...statements: readonly string[]): Promise<void> {
    const session = await database().connect();
    onTestFinished(async () => {
      await session.query('rollback').catch(() => undefined);
      await session.end();
    });
    await session.query('begin');
    for (const statement of statements) await session.query(statement);
  }

  test.each([
    ['a narrowed reconcile', `select * from retention.flag_selected('acme')`],
    ['a retry', `select retention.retry(p_tenant_id => 'acme')`],
    ['another flagging pass', 'select retention.flag_expired()'],
    ['a tick', `select retention.tick('other')`],
    ['whoever halts', `select retention.halt('why not')`],
    ['whoever places a hold', `select * from retention.place_hold('audit', null, 'acme')`],
    ['whoever has locked the application’s table', 'lock table runs in access exclusive mode'],
  ])('does not wait for %s in an open transaction', async (_, statement) => {
    const { insertRuns, query } = database();
    await insertRuns({ count: 3 });
    // The reasons of the gate are to be written down again.
    await query(`update retention.gate_state set reasons = array['halted']`);
    await keepOpen(statement);
    expect((await tick()).milliseconds).toBeLessThan(AT_ONCE_MILLISECONDS);
  });

  test('shows that it lives while a narrowed reconcile keeps it from flagging', async () => {
    const { insertRuns, one } = database();
    await insertRuns({ count: 3 });
    await keepOpen(`select * from retention.flag_selected('acme')`);
    expect(await tick()).toMatchObject({ flagged: 0 });
    expect(
      await one(
        'select ticked_at > now() - interval $$1 minute$$ as lives from retention.heartbeat',
      ),
    ).toEqual({ lives: true });
  });

  test('that cannot flag says why, once, and says nothing any more when it can', async () => {
    const { insertRuns, query, store } = database();
    await insertRuns({ count: 3 });
    const session = await database().connect();
    await session.query('begin');
    await session.query('lock table runs in access exclusive mode');
    expect(await tick()).toMatchObject({ flagged: 0 });
    expect(await tick()).toMatchObject({ flagged: 0 });
    await session.query('rollback');
    await session.end();
    expect(await store.scansAfter(0)).toMatchObject([
      { flagged: 0, skippedRows: [expect.stringMatching(/^the pass failed: 55P03 /u) as string] },
    ]);
    expect(await tick()).toMatchObject({ flagged: 3 });
    expect(await query('select pass_problem from retention.heartbeat')).toEqual([
      { pass_problem: null },
    ]);
  });

  test.each([
    [
      'a trigger on receipts',
      `create function public.refuse() returns trigger language plpgsql as 'begin raise exception ''no''; end';
      create trigger refuse before delete on retention.batch for each row execute function public.refuse()`,
      'drop trigger refuse on retention.batch; drop function public.refuse()',
      /^P0001 no$/u,
    ],
    [
      'a setting that no date can bear',
      `update retention.setting set receipts_kept = '400000 years'`,
      `update retention.setting set receipts_kept = '7 years'`,
      /^22008 /u,
    ],
  ])('flags all the same when its housekeeping fails: %s', async (_, breakIt, mendIt, problem) => {
    const { insertRuns, query, one } = database();
    await query(`insert into retention.batch (bucket, results, oldest, newest, settled_at, cleared, run_ids, keys, tenants)
      values ('b', 0, now(), now(), now() - interval '30 years', 0, '{}', '{}', '{}')`);
    await query(`insert into retention.scan (started_at, ms, asked_by, looked_at, flagged, batches, without_place, hit_limit)
      values (now() - interval '1 year', 1, 'old', 1, 1, 1, 0, false)`);
    await query(breakIt);
    await insertRuns({ count: 3 });
    try {
      expect(await tick()).toMatchObject({ flagged: 3 });
    } finally {
      await query(mendIt);
    }
    const noted = await one<{ clean_up_problem: string }>('select * from retention.heartbeat');
    expect(noted.clean_up_problem).toMatch(problem);
    // The other steps were done.
    expect(await query(`select from retention.scan where asked_by = 'old'`)).toEqual([]);
    await query('update retention.heartbeat set cleaned_up_at = null');
    await tick();
    expect(await query('select clean_up_problem from retention.heartbeat')).toEqual([
      { clean_up_problem: null },
    ]);
  });
});

describeDatabase('with a schema cron that is closed to us', () => {
  const database = useMigrated();

  test('a tick flags, with the internal scheduler and with pg_cron, and its housekeeping says what it met', async () => {
    const { query, insertRuns, store, connect } = database();
    const role = `plain_${Math.random().toString(36).slice(2)}`;
    await query(`create schema cron; create table cron.job_run_details (jobid bigint, end_time timestamptz);
      create table cron.job (jobid bigint, jobname text); create role ${role}`);
    onTestFinished(async () => {
      await query(`drop schema cron cascade; update retention.adapter set scheduler = 'internal';
        alter function retention._clean_up() owner to current_user; drop owned by ${role}; drop role ${role}`);
    });
    await query(`grant usage on schema retention to ${role};
      grant all on all tables in schema retention to ${role};
      grant execute on all functions in schema retention to ${role};
      grant create on schema retention to ${role};
      alter function retention._clean_up() owner to ${role}`);
    await insertRuns({ count: 3 });
    expect(await store.tick('internal')).toBe(3);
    expect(await query('select clean_up_problem from retention.heartbeat')).toEqual([
      { clean_up_problem: null },
    ]);
    await query(`update retention.heartbeat set cleaned_up_at = null, passed_at = null;
      update retention.adapter set scheduler = 'pg_cron'`);
    await insertRuns({ count: 2 });
    expect(await store.tick('pg_cron')).toBe(2);
    expect(await query('select clean_up_problem from retention.heartbeat')).toEqual([
      { clean_up_problem: expect.stringMatching(/^42501 /u) as string },
    ]);
    expect((await store.readWaitCauses()).map(({ what }) => what)).toContain('the tick');
    await (await connect()).end();
  });
});

describeDatabase('a claim', () => {
  const database = useMigrated();

  test('does not wait for ever for an idle transaction that has placed a hold, and says who has it', async () => {
    const { insertRuns, query, connect, store } = database();
    await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const session = await connect();
    await session.query('begin');
    await session.query(`select * from retention.place_hold('audit', null, 'acme')`);
    const lease = crypto.randomUUID();
    await expect(store.claim({ lease, leaseSeconds: 60, by: 'test' })).rejects.toMatchObject({
      sqlState: '55P03',
      message: expect.stringMatching(/a transaction that places a hold is open/u) as string,
    });
    await session.query('rollback');
    await session.end();
    expect(await store.claim({ lease, leaseSeconds: 60, by: 'test' })).toMatchObject({
      spared: 0,
    });
  });
});

describeDatabase('a pass that is asked to wait', () => {
  const database = useMigrated();

  test('takes its turn after the one that runs, and finds what that has left', async () => {
    const { insertRuns, connect, store, query } = database();
    await insertRuns({ count: 3 });
    const other = await connect();
    await other.query('begin');
    await other.query('select retention.flag_expired()');
    let ended = false;
    const waiting = store.flagExpired({ by: 'test', whole: true, waits: true }).then((flagged) => {
      expect(ended).toBe(true);
      return flagged;
    });
    await insertRuns({ count: 2 });
    ended = true;
    await other.query('commit');
    await other.end();
    expect(await waiting).toBe(2);
    expect(await query('select count(*)::int as n from retention.flagged')).toEqual([{ n: 5 }]);
  });
});

describeDatabase('a run whose date moves after it was flagged', () => {
  const database = useMigrated();

  test('is deleted once and stamped once, though a later pass cannot know that it is flagged', async () => {
    const { insertRuns, insertRun, query, store, countStamped } = database();
    await insertRuns({ count: 3, completedAgo: '40 days' });
    const moved = await insertRun({ completedAgo: '40 days' });
    await store.flagExpired({ by: 'test' });
    await query(`update runs set completed_at = now() - interval '90 days' where run_id = $1`, [
      moved,
    ]);
    await store.flagExpired({ by: 'test', whole: true });
    const keys: string[] = [];
    const workOff = async (): Promise<void> => {
      for (;;) {
        const lease = crypto.randomUUID();
        const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test' });
        if (claim === undefined) return;
        keys.push(...claim.keys);
        if (claim.keys.length === 0) continue;
        await store.settle(claim.batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
      }
    };
    await workOff();
    expect(await countStamped()).toBe(keys.length);
    await store.flagExpired({ by: 'test', whole: true });
    await workOff();
    expect(keys).toHaveLength(4);
    expect(new Set(keys).size).toBe(4);
    expect(await countStamped()).toBe(4);
  });
});
