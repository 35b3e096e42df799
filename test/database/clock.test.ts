import { describe, expect, test, vi } from 'vitest';
import { checkClock } from '../../src/reactor/doctor/clock-check.ts';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { createDiagnosis } from '../../src/store/diagnosis.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase("after the clock of the database's host was a year ahead and is corrected", () => {
  const database = useMigrated();

  async function flagOne(): Promise<void> {
    await database().insertRun();
    await database().store.flagExpired({ by: 'test' });
  }
  const ahead = async () =>
    (
      await database().query<{ what: string }>(
        'select what from retention.times_ahead() order by what',
      )
    ).map(({ what }) => what);
  async function doctor() {
    const pool = createPool({
      url: database().url,
      applicationName: 'doctor',
      logger: silentLogger,
    });
    try {
      return (await checkClock(createDiagnosis(pool)))[0];
    } finally {
      await pool.close();
    }
  }

  test('nothing is ahead of anything by itself', async () => {
    await flagOne();
    await database().store.tick('test');
    await database().claimNext();
    expect(await ahead()).toEqual([]);
    await database().query(
      'update retention.gate_state set clock_corrected_at = null, clock_was_ahead = null',
    );
    expect(await doctor()).toMatchObject({ state: 'ok' });
  });

  test.each(['ticked_at', 'passed_at', 'swept_at', 'cleaned_up_at'])(
    'the next tick flags, though heartbeat.%s lies in the future',
    async (column) => {
      await database().store.tick('test');
      await database().insertRun();
      await database().query(
        `update retention.heartbeat set passed_at = now() - interval '2 days'`,
      );
      await database().query(
        `update retention.heartbeat set ${column} = now() + interval '1 year'`,
      );
      expect(await ahead()).toEqual(['ticks and passes']);
      expect(await doctor()).toMatchObject({ name: 'clock', state: 'warning' });
      expect(await database().store.tick('test')).toBe(1);
      expect(await ahead()).toEqual([]);
      const said = await doctor();
      expect(said?.state).toBe('warning');
      expect(said?.found).toContain('brought back');
    },
  );

  test('a listener that ticks by itself does so at once, whatever the last tick says', async () => {
    await database().query(`update retention.heartbeat set ticked_at = now() + interval '1 year'`);
    expect((await database().store.pulse()).tickedSecondsAgo).toBeUndefined();
  });

  test('a retry that waits for a year is claimed by who finds nothing else', async () => {
    await flagOne();
    await database().query(`update retention.batch set visible_at = now() + interval '1 year'`);
    expect((await database().claimNext()).keys).toHaveLength(1);
  });

  test('a bucket that pauses for a year is worked on again', async () => {
    await flagOne();
    await database().query(
      `update retention.bucket set paused_until = now() + interval '1 year', pauses = 1`,
    );
    expect((await database().claimNext()).keys).toHaveLength(1);
  });

  test('pauses and retries within their caps are kept to', async () => {
    await flagOne();
    const claim = () =>
      database().store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    await database().query(`update retention.batch set visible_at = now() + interval '5 hours'`);
    expect(await claim()).toBeUndefined();
    await database().query(`update retention.batch set visible_at = now()`);
    await database().query(
      `update retention.bucket set paused_until = now() + interval '4 minutes'`,
    );
    expect(await claim()).toBeUndefined();
  });

  test('a lease of the future begins again with its own length, and its holder may still settle', async () => {
    await flagOne();
    const claim = await database().claimNext();
    await database().query(
      `update retention.batch
      set leased_at = leased_at + interval '1 year', visible_at = visible_at + interval '1 year'`,
    );
    await database().store.tick('test');
    const [row] = await database().query<{ left: number }>(
      'select extract(epoch from visible_at - clock_timestamp())::float8 as left from retention.batch',
    );
    expect(row?.left).toBeGreaterThan(50);
    expect(row?.left).toBeLessThanOrEqual(60);
    const settled = await database().store.settle(claim.batchId, claim.lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 1,
    });
    expect(settled).toMatchObject({ settled: true, stamped: 1 });
  });

  test('a lease that nobody can have is over', async () => {
    await flagOne();
    await database().claimNext();
    await database().query(`update retention.batch set visible_at = now() + interval '1 year'`);
    expect((await database().claimNext()).keys).toHaveLength(1);
  });

  test('what S3 did not answer counts for as long as it can, and no longer', async () => {
    await flagOne();
    await database().query(
      `insert into retention.unanswered (bucket, run_ids, keys, until)
      select bucket, run_ids, keys, now() + interval '1 year' from retention.batch`,
    );
    await database().store.tick('test');
    const [row] = await database().query<{ left: number }>(
      'select extract(epoch from until - clock_timestamp())::float8 as left from retention.unanswered',
    );
    expect(row?.left).toBeGreaterThan(800);
    expect(row?.left).toBeLessThanOrEqual(900);
  });

  test('a hold that was released in the future can be released', async () => {
    const runId = await database().insertRun();
    const [placed] = await database().query<{ hold_id: number }>(
      `select hold_id::int from retention.place_hold('law', $1)`,
      [runId],
    );
    await database().query(
      `update retention.hold set released_at = now() + interval '1 year', released_by = 'x'`,
    );
    const [released] = await database().query('select retention.release_hold($1) as released', [
      placed?.hold_id,
    ]);
    expect(released).toEqual({ released: true });
    await database().store.flagExpired({ by: 'test' });
    expect((await database().claimNext()).keys).toHaveLength(1);
  });

  describe('what another session has locked', () => {
    test('does not keep a tick waiting', async () => {
      await flagOne();
      await database().query(
        `update retention.bucket set paused_until = now() + interval '1 year'`,
      );
      const other = await database().connect();
      await other.query('begin; select from retention.bucket for update');
      await database().store.tick('test');
      expect(await ahead()).toEqual(['pauses of buckets']);
      await other.query('rollback');
      await database().store.tick('test');
      expect(await ahead()).toEqual([]);
    });
  });
});

describeDatabase('a clock of the database that is ahead of the process', () => {
  const database = useMigrated();

  test.each([
    ['a year', '1 year', true],
    ['61 minutes', '61 minutes', true],
    ['59 minutes', '59 minutes', false],
    ['a day behind', '-1 day', false],
  ])('by %s', async (_, ahead, isReason) => {
    const [row] = await database().query<{ reasons: string[] }>(
      'select array(select reason from retention.clocks_differ(clock_timestamp() - $1::interval)) as reasons',
      [ahead],
    );
    expect(row?.reasons).toEqual(isReason ? ['clocks differ'] : []);
  });

  test('closes the gate for this process alone: no claim, no pulse that calls for work, and it says so', async () => {
    const { store, insertRun } = database();
    await insertRun();
    await store.flagExpired({ by: 'test' });
    const claim = () => store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 86_400_000 });
    try {
      expect(await claim()).toBeUndefined();
      expect((await store.pulse()).halted).toEqual(['clocks differ']);
      expect(await store.readGate()).toMatchObject([
        { reason: 'clocks differ', because: expect.stringContaining('by 1 day') as string },
      ]);
      expect((await store.readVitals()).gate).toMatchObject([{ reason: 'clocks differ' }]);
    } finally {
      vi.useRealTimers();
    }
    expect(await store.readGate()).toEqual([]);
    expect((await claim())?.keys).toHaveLength(1);
  });
});

describeDatabase('an idle transaction that has placed a hold', () => {
  const database = useMigrated();

  test('keeps no other hold waiting for long, and is named', async () => {
    const [first, second] = await database().insertRuns({ count: 2 });
    const placed = await database().query<{ hold_id: number }>(
      `select hold_id::int from retention.place_hold('law', $1)`,
      [first],
    );
    const other = await database().connect();
    await other.query(`set application_name = 'somebody at lunch'`);
    await other.query('begin');
    await other.query(`select * from retention.place_hold('law', $1)`, [first]);
    const { rows } = await other.query<{ pid: number }>('select pg_backend_pid() as pid');
    const refused = await Promise.all([
      database()
        .query(`select * from retention.place_hold('law', $1)`, [second])
        .catch((error: unknown) => error),
      database()
        .query('select retention.release_hold($1)', [placed[0]?.hold_id])
        .catch((error: unknown) => error),
    ]);
    for (const error of refused) {
      expect(error).toMatchObject({ code: '55P03' });
      expect(String(error)).toContain(`process ${rows[0]?.pid} (somebody at lunch`);
    }
    await other.query('rollback');
    expect(
      await database().query(`select hold_id from retention.place_hold('law', $1)`, [second]),
    ).toHaveLength(1);
  });
});
