import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { Settlement } from '../../src/store/leases.ts';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';

/** Beside the application's table, where its own sessions find it and a pinned path does not. */
const TABLES = `
create table audit_log (run_id uuid);
create table refused (run_id uuid primary key);
create table mood (words text)`;

const TRIGGER = `
create or replace function public.stamped() returns trigger language plpgsql as $$
begin
  %BODY%
  return new;
end
$$;
create or replace trigger stamped %WHEN% on runs
for each row execute function public.stamped()`;

describeDatabase('what S3 has deleted is stamped, at once or later', () => {
  const database = useMigrated({ before: TABLES });

  beforeEach(async () => {
    await database().query(`
      drop trigger if exists stamped on runs;
      drop rule if exists stamped on runs;
      truncate audit_log, refused, mood`);
  });

  /** Runs a body with every update of the application's table, as an application would have made it. */
  function useTrigger(body: string, when = 'before update'): Promise<unknown> {
    return database().query(TRIGGER.replace('%BODY%', body).replace('%WHEN%', when));
  }

  const REFUSED = `if exists (select from refused f where f.run_id = new.run_id) then
    raise exception using errcode = '23514', message = 'the books are closed'; end if;`;

  async function flag(count: number): Promise<string[]> {
    const runIds = await database().insertRuns({ count });
    await database().query('select retention.flag_expired()');
    return runIds;
  }

  /** Claims the next batch and settles it: S3 has deleted everything. */
  async function deleteNext(): Promise<Settlement> {
    const { batchId, lease } = await database().claimNext();
    return database().store.settle(batchId, lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 1,
    });
  }

  const claim = () =>
    database().store.claim({ lease: crypto.randomUUID(), leaseSeconds: 60, by: 'test' });

  const gate = () =>
    database().query<{ reason: string; because: string; remedy: string }>(
      'select reason, because, remedy from retention.gate()',
    );

  const unstamped = () =>
    database().query<{ results: number; code: string; attempts: number; dead: boolean }>(
      `select results, code, attempts, dead_at is not null as dead
      from retention.batch where deleted_at is not null and settled_at is null order by batch_id`,
    );

  const passStampTimes = async (): Promise<void> => {
    await database().query(`update retention.stamping set try_at = now() where try_at is not null`);
    await database().passRetryTimes();
  };

  async function refuse(runIds: readonly string[]): Promise<void> {
    await database().query('insert into refused select unnest($1::uuid[])', [runIds]);
  }

  test.each([
    ['before', 'before update'],
    ['after', 'after update'],
  ])(
    'a trigger %s the update that names a table without its schema works as it does for the application',
    async (_, when) => {
      await useTrigger('insert into audit_log values (new.run_id);', when);
      await flag(3);
      expect(await deleteNext()).toMatchObject({ cleared: 3, stamped: 3, failed: 0 });
      expect(await database().query('select from audit_log')).toHaveLength(3);
      // A trial that is rolled back leaves nothing behind.
      expect(await database().countStamped()).toBe(3);
    },
  );

  test('a deferred constraint trigger finds the same, and what it refuses fails the result and not the commit', async () => {
    await database().query(
      TRIGGER.replace('%BODY%', `insert into audit_log values (new.run_id); ${REFUSED}`)
        .replace('create or replace trigger', 'create constraint trigger')
        .replace('%WHEN%', 'after update')
        .replace('for each row', 'deferrable initially deferred for each row'),
    );
    const runIds = await flag(4);
    await refuse(runIds.slice(1, 2));
    expect(await deleteNext()).toMatchObject({ cleared: 3, stamped: 3, failed: 1 });
    expect(await database().query('select from audit_log')).toHaveLength(3);
  });

  test.each([
    ['a table that is not there', 'insert into no_such_table values (1);', '42P01'],
    ['a function that is not there', 'perform no_such_function();', '42883'],
    ['an error of its own', `raise exception 'not today';`, 'P0001'],
    ['a failed assertion', `assert false, 'not today';`, 'P0004'],
    ['a constraint', `raise check_violation using message = 'no';`, '23514'],
    ['a right that is missing', `raise insufficient_privilege using message = 'no';`, '42501'],
    ['a division by zero', 'perform 1 / (new.run_id is null)::integer;', '22012'],
  ])(
    'nothing is deleted when no row can be stamped, for %s; it opens by itself',
    async (_, body, code) => {
      await useTrigger(body);
      await flag(3);
      expect(await claim()).toBeUndefined();
      const [reason, ...others] = await gate();
      expect(others).toEqual([]);
      expect(reason).toMatchObject({ reason: 'stamps fail' });
      expect(reason?.because).toContain(code);
      expect(reason?.because).toContain('stamped()');
      expect(reason?.remedy).toMatch(/trigger|grant/u);
      expect(await database().query('select retention.flag_expired() as n')).toEqual([{ n: 0 }]);
      await database().query('drop trigger stamped on runs');
      await passStampTimes();
      expect(await database().store.stampAgain()).toMatchObject({ stamped: 0, waiting: 0 });
      expect(await gate()).toEqual([]);
      expect(await deleteNext()).toMatchObject({ cleared: 3, stamped: 3 });
    },
  );

  test.each([
    ['returns null', 'return null;', ''],
    ['takes the stamp back', 'new.result_cleared_at := old.result_cleared_at;', ''],
    [
      'is a rule that does something else',
      '',
      `create rule stamped as on update to runs do instead nothing`,
    ],
  ])(
    'a stamp that is swallowed is none: a trigger that %s closes the gate',
    async (_, body, rule) => {
      if (rule === '') await useTrigger(body);
      else await database().query(rule);
      await flag(2);
      expect(await claim()).toBeUndefined();
      expect(await gate()).toMatchObject([{ reason: 'stamps fail' }]);
      expect((await database().store.tryStamp()).code).toBe('StampSwallowed');
    },
  );

  test('a batch of which a trigger swallows some stamps is cleared of the others only', async () => {
    await useTrigger(
      'if exists (select from refused f where f.run_id = new.run_id) then return null; end if;',
    );
    const runIds = await flag(10);
    await refuse(runIds.slice(2, 5));
    expect(await deleteNext()).toMatchObject({ cleared: 7, stamped: 7, failed: 3 });
    expect(await unstamped()).toMatchObject([{ results: 3, code: 'StampSwallowed', attempts: 1 }]);
  });

  test('a rule that does more beside the update is no hindrance', async () => {
    await database().query(
      'create rule stamped as on update to runs do also insert into audit_log values (new.run_id)',
    );
    await flag(2);
    expect(await deleteNext()).toMatchObject({ cleared: 2, stamped: 2, failed: 0 });
  });

  test('the trial changes nothing', async () => {
    await flag(2);
    await useTrigger('insert into audit_log values (new.run_id);');
    const before = await database().query('select r.*, xmin from runs r order by 1');
    expect(await database().store.tryStamp()).toMatchObject({ works: true, code: null });
    expect(await database().query('select r.*, xmin from runs r order by 1')).toEqual(before);
    expect(await database().query('select from audit_log')).toEqual([]);
  });

  test('the trial says nothing where there is no row to try', async () => {
    expect(await database().store.tryStamp()).toMatchObject({ works: null });
    expect(await gate()).toEqual([]);
  });

  test('the trial takes another row when one is locked, within seconds', async () => {
    const [first = ''] = await flag(3);
    const session = await database().connect();
    onTestFinished(() => session.end());
    await session.query('begin');
    await session.query('select from runs where run_id = $1 for update', [first]);
    const startedAt = performance.now();
    expect(await database().store.tryStamp()).toMatchObject({ works: true });
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    await session.query('rollback');
  });

  test('another trial is made when the table was detached and attached again', async () => {
    await flag(2);
    await database().store.tryStamp();
    await database().query('select retention.detach()');
    await useTrigger(`raise exception 'not today';`);
    await database().query('select retention.attach()');
    expect(await claim()).toBeUndefined();
    expect(await gate()).toMatchObject([{ reason: 'stamps fail' }]);
  });

  test('promise 6: ten rows that cannot be stamped hold up none of the other 990', async () => {
    await useTrigger(REFUSED);
    const runIds = await flag(1_000);
    await refuse(runIds.filter((_, place) => place % 100 === 7));
    const settlement = await deleteNext();
    expect(settlement).toMatchObject({ cleared: 990, stamped: 990, failed: 10, dead: 0 });
    expect(settlement.problems).toMatchObject([
      { code: '23514', message: 'the books are closed', results: 10, deleted: true },
    ]);
    expect(await unstamped()).toEqual([{ results: 10, code: '23514', attempts: 1, dead: false }]);
    expect(await gate()).toEqual([]);
    const receipt = await database().one(
      `select results, cleared, cardinality(run_ids) as named from retention.batch where settled_at is not null`,
    );
    expect(receipt).toEqual({ results: 1_000, cleared: 990, named: 990 });
  });

  test('a row that cannot be stamped is never sent to S3 again, is dead in the end, listed, and revived by retry', async () => {
    await useTrigger(REFUSED);
    await database().set({ max_attempts: '3' });
    const runIds = await flag(5);
    const bad = runIds[2] ?? '';
    await refuse([bad]);
    await deleteNext();
    for (let attempt = 2; attempt <= 3; attempt += 1) {
      expect(await unstamped()).toMatchObject([{ attempts: attempt - 1, dead: false }]);
      await passStampTimes();
      expect(await claim()).toBeUndefined();
      expect(
        await database().query('select retention.flag_expired(null, null, true) as n'),
      ).toEqual([{ n: 0 }]);
      await database().store.stampAgain();
    }
    expect(await unstamped()).toEqual([{ results: 1, code: '23514', attempts: 3, dead: true }]);
    expect(await database().store.readStatus()).toMatchObject({ dead: 1 });
    const [row] = await database().query(
      `select run_id::text, code, deleted_at is not null as deleted from retention.flagged`,
    );
    expect(row).toEqual({ run_id: bad, code: '23514', deleted: true });
    const [told] = await database().store.explain([bad]);
    expect(told?.state).toBe('dead');
    expect(told?.because).toMatch(/S3 deleted its object .* could not be stamped: 23514/u);
    // Neither does a narrowed reconcile take it.
    expect((await database().store.flagSelected({ runIds: [bad] })).selected).toBe(0);

    await database().query('truncate refused');
    expect(await database().store.retry({ runIds: [bad] })).toBe(1);
    expect(await claim()).toBeUndefined();
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 1, waiting: 0 });
    expect((await database().run(bad)).result_cleared_at).not.toBeNull();
    expect(await database().query('select from retention.flagged')).toEqual([]);
  });

  test('retry of everything revives it too', async () => {
    await useTrigger(REFUSED);
    await database().set({ max_attempts: '1' });
    const runIds = await flag(3);
    await refuse(runIds.slice(0, 1));
    await deleteNext();
    expect(await database().store.retry({ code: '23514' })).toBe(1);
    expect(await claim()).toBeUndefined();
    await database().query('truncate refused');
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 1 });
  });

  test('rows that fail in different ways are listed apart, each with its own code', async () => {
    await useTrigger(`
      if exists (select from refused f where f.run_id = new.run_id) then
        if new.run_id::text < '8' then raise exception 'one'; end if;
        return null;
      end if;`);
    const runIds = await flag(40);
    const bad = runIds.slice(5, 35);
    await refuse(bad);
    const raised = bad.filter((runId) => runId < '8').length;
    const { cleared, problems } = await deleteNext();
    expect(cleared).toBe(10);
    expect(new Map(problems.map(({ code, results }) => [code, results]))).toEqual(
      new Map([
        ['P0001', raised],
        ['StampSwallowed', 30 - raised],
      ]),
    );
  });

  test('a trigger that begins to fail halts after one batch; all of it is stamped when it stops, without S3', async () => {
    await database().set({ batch_size: '50' });
    await flag(200);
    expect(await deleteNext()).toMatchObject({ stamped: 50 });
    await useTrigger(`raise exception 'not today';`);
    expect(await deleteNext()).toMatchObject({ cleared: 0, stamped: 0, failed: 50, dead: 0 });
    expect(await claim()).toBeUndefined();
    expect(await gate()).toMatchObject([{ reason: 'stamps fail' }]);
    await passStampTimes();
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 0, waiting: 50 });
    const { next_seconds: first } = await database().store.stampAgain();
    expect(first).toBeGreaterThan(1);
    await passStampTimes();
    await database().store.stampAgain();
    await passStampTimes();
    const { next_seconds: later } = await database().store.stampAgain();
    expect(later).toBeGreaterThan(first ?? 0);
    // Nothing is counted against them.
    expect(await unstamped()).toMatchObject([{ results: 50, attempts: 0, dead: false }]);
    await database().query('drop trigger stamped on runs');
    await passStampTimes();
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 50, waiting: 0 });
    expect(await database().countStamped()).toBe(100);
    expect(await deleteNext()).toMatchObject({ stamped: 50 });
  });

  test('the rows of one tenant that cannot be stamped do not halt the others', async () => {
    await useTrigger(`if new.tenant_id = 'bad' then raise exception 'frozen'; end if;`);
    await database().insertRuns({ count: 20, tenant: 'bad', completedAgo: '50 days' });
    await database().insertRuns({ count: 20, tenant: 'good', bucket: 'other' });
    await database().insertRuns({ count: 1, tenant: 'good', completedAgo: '1 day' });
    await database().query('select retention.flag_expired()');
    const settled = [await deleteNext(), await deleteNext()];
    expect(new Set(settled.map(({ stamped }) => stamped))).toEqual(new Set([0, 20]));
    expect(await gate()).toEqual([]);
    expect(await unstamped()).toEqual([{ results: 20, code: 'P0001', attempts: 1, dead: false }]);
  });

  test.each([
    ['a deadlock', '40P01'],
    ['a serialization failure', '40001'],
    ['a full disk', '53100'],
    ['a pooler', 'XX000'],
    ['a server that is read-only', '25006'],
    ['a cancelled statement', '57014'],
  ])('what passes by itself is not counted: %s', async (_, code) => {
    await flag(3);
    await database().store.tryStamp();
    await useTrigger(`raise exception using errcode = '${code}', message = 'for now';`);
    expect(await deleteNext()).toMatchObject({ stamped: 0, failed: 3, dead: 0 });
    expect(await gate()).toEqual([]);
    for (let turn = 0; turn < 3; turn += 1) {
      await passStampTimes();
      await database().store.stampAgain();
    }
    for (const batch of await unstamped())
      expect(batch).toMatchObject({ attempts: 0, dead: false });
    await database().query('drop trigger stamped on runs');
    await passStampTimes();
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 3, waiting: 0 });
  });

  test('rows that another session has locked are passed by within a second, and stamped later', async () => {
    const runIds = await flag(500);
    await database().store.tryStamp();
    const session = await database().connect();
    onTestFinished(() => session.end());
    await session.query('begin');
    await session.query('select from runs where run_id = any($1) for update', [
      [runIds[3], runIds[250]],
    ]);
    const startedAt = performance.now();
    expect(await deleteNext()).toMatchObject({ cleared: 498, stamped: 498, failed: 2, dead: 0 });
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(await unstamped()).toEqual([{ results: 2, code: '55P03', attempts: 0, dead: false }]);
    await session.query('rollback');
    await passStampTimes();
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 2, waiting: 0 });
  });

  test('a table that another session has locked keeps a settle for no longer either', async () => {
    await flag(10);
    const { batchId, lease } = await database().claimNext();
    const session = await database().connect();
    onTestFinished(() => session.end());
    await session.query('begin');
    await session.query('lock table runs in access exclusive mode');
    const settled = database().store.settle(batchId, lease, {
      cleared: 'all',
      failed: [],
      milliseconds: 1,
    });
    expect(await settled).toMatchObject({ stamped: 0, failed: 10, dead: 0 });
    await session.query('rollback');
    await passStampTimes();
    expect(await database().store.stampAgain()).toMatchObject({ stamped: 10, waiting: 0 });
  });

  test('a table that another session has locked keeps one claim waiting for the trial, and not each', async () => {
    await database().set({ batch_size: '2' });
    await flag(10);
    await database().query('update retention.stamping set tried_for = null');
    const session = await database().connect();
    onTestFinished(() => session.end());
    await session.query('begin; lock table runs in share mode');
    const trials: (string | null)[] = [];
    for (let turn = 0; turn < 3; turn += 1) {
      await database().claimNext();
      const [row] = await database().query<{ unknown_at: string }>(
        'select unknown_at::text from retention.stamping',
      );
      trials.push(row?.unknown_at ?? null);
    }
    expect(trials[0]).not.toBeNull();
    expect(new Set(trials).size).toBe(1);
    // Another view over the table wants a trial of its own at once.
    await database().query(`update retention.stamping set unknown_for = 'another view'`);
    await database().claimNext();
    const [after] = await database().query<{ unknown_at: string }>(
      'select unknown_at::text from retention.stamping',
    );
    expect(after?.unknown_at).not.toBe(trials[0]);
    await session.query('rollback');
  });

  test('stamps that are too slow for one statement are made in parts, and claims wait for them', async () => {
    const runIds = await flag(60);
    await useTrigger('perform pg_sleep(0.04);');
    expect(await database().store.tryStamp()).toMatchObject({ works: true });
    const { most } = await database().one<{ most: number }>(
      'select retention._max_stamps() as most',
    );
    expect(most).toBeGreaterThan(20);
    expect(most).toBeLessThan(200);
    const { batchId, lease } = await database().claimNext();
    const slow = await database().connect();
    onTestFinished(() => slow.end());
    await slow.query(`set statement_timeout = '1s'`);
    const settle = await slow.query(
      'select stamped, failed, dead from retention.settle($1, $2, p_all => true)',
      [batchId, lease],
    );
    const [first] = settle.rows as { stamped: number; failed: number; dead: number }[];
    expect(first).toMatchObject({ dead: 0, failed: runIds.length - (first?.stamped ?? 0) });
    expect(first?.failed).toBeGreaterThan(0);
    await flag(5);
    expect(await claim()).toBeUndefined();
    await until(async () => {
      await passStampTimes();
      return (await database().store.stampAgain()).waiting === 0;
    });
    expect(await database().countStamped()).toBe(60);
    await database().query('drop trigger stamped on runs');
    expect(await deleteNext()).toMatchObject({ stamped: 5 });
  });

  test('the first settle that runs into its limit stamps nothing and loses nothing; the next are in time', async () => {
    await flag(60);
    await database().store.tryStamp();
    await useTrigger('perform pg_sleep(0.04);');
    const { batchId, lease } = await database().claimNext();
    const slow = await database().connect();
    onTestFinished(() => slow.end());
    await slow.query(`set statement_timeout = '1s'`);
    const settle = await slow.query(
      'select settled, stamped, failed from retention.settle($1, $2, p_all => true)',
      [batchId, lease],
    );
    expect(settle.rows).toEqual([{ settled: true, stamped: 0, failed: 60 }]);
    await until(async () => {
      await passStampTimes();
      await slow.query('select retention.stamp_again()');
      return (await unstamped()).length === 0;
    });
    expect(await database().countStamped()).toBe(60);
  });

  test('promise 3: a run that is not COMPLETED any more is not stamped', async () => {
    await flag(2);
    const { batchId, lease } = await database().claimNext();
    await database().query(`update runs set status = 'RUNNING'`);
    expect(
      await database().store.settle(batchId, lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      }),
    ).toMatchObject({ settled: true, cleared: 2, stamped: 0, failed: 0 });
    expect(await database().countStamped()).toBe(0);
  });

  test.each([
    [
      'completed again, by a clock that is behind',
      `update runs set completed_at = now() - interval '1 hour'`,
    ],
    [
      'was deleted and made anew',
      `create temporary table old as select * from runs; delete from runs;
      update old set completed_at = now() - interval '5 minutes', created_at = now();
      insert into runs select * from old; drop table old`,
    ],
  ])('promise 3: a run that %s is not stamped', async (_, change) => {
    await flag(2);
    const { batchId, lease } = await database().claimNext();
    const session = await database().connect();
    await session.query(change);
    await session.end();
    expect(
      await database().store.settle(batchId, lease, {
        cleared: 'all',
        failed: [],
        milliseconds: 1,
      }),
    ).toMatchObject({ settled: true, cleared: 2, stamped: 0, failed: 0 });
    expect(await database().countStamped()).toBe(0);
  });

  test('promise 5: a hold on what S3 has deleted already is told that it is too late', async () => {
    await useTrigger(REFUSED);
    const runIds = await flag(3);
    await refuse(runIds.slice(0, 1));
    await deleteNext();
    const [hold] = await database().store.placeHolds({
      runIds: runIds.slice(0, 1),
      reason: 'audit',
    });
    expect(hold?.too_late).toBe(1);
    const [ofTenant] = await database().store.placeHolds({ tenantIds: ['acme'], reason: 'audit' });
    expect(ofTenant?.too_late).toBe(1);
  });

  test('who asks again after the answer was lost hears the same of a postponed and of a split batch', async () => {
    await flag(4);
    const { store } = database();
    const first = await database().claimNext();
    const why = { code: 'SlowDown', message: 'slow' };
    const until1 = await store.postpone(first.batchId, first.lease, why);
    expect(until1).toBeInstanceOf(Date);
    expect(await store.postpone(first.batchId, first.lease, why)).toEqual(until1);
    await database().passRetryTimes();
    const second = await database().claimNext();
    expect(await store.split(second.batchId, second.lease)).toBe(true);
    expect(await store.split(second.batchId, second.lease)).toBe(true);
    expect(await database().query('select from retention.batch')).toHaveLength(2);
    // Somebody else has it by now.
    await database().query('update retention.bucket set pauses = 0');
    await database().claimNext();
    await database().claimNext();
    expect(await store.split(second.batchId, second.lease)).toBe(false);
    expect(await store.postpone(first.batchId, first.lease, why)).toBeUndefined();
  });

  test('who asks again after a settle hears what failed as well', async () => {
    await useTrigger(REFUSED);
    const runIds = await flag(4);
    await refuse(runIds.slice(0, 1));
    const { batchId, lease } = await database().claimNext();
    const outcome = {
      cleared: runIds.slice(0, 3).map(keyOf),
      failed: [],
      milliseconds: 1,
    };
    const first = await database().store.settle(batchId, lease, outcome);
    expect(first).toMatchObject({ settled: true, cleared: 2, stamped: 2, failed: 2, dead: 0 });
    const again = await database().store.settle(batchId, lease, outcome);
    expect({ ...again, retryAt: undefined }).toEqual({ ...first, retryAt: undefined });
    expect(again.retryAt).toBeInstanceOf(Date);
  });

  test('one row that cannot be stamped does not keep a verify from stamping the others', async () => {
    await useTrigger(REFUSED);
    const runIds = await flag(6);
    await refuse(runIds.slice(2, 3));
    const gone = runIds.map((runId) => ({ runId, key: keyOf(runId), isDue: true }));
    expect(await database().store.stampGone('dpp-results', gone)).toBe(5);
  });

  test.each([
    ['never', ''],
    ['when it was empty', 'analyze runs'],
  ])(
    'a stamp takes no longer in a large table that was analysed %s, also by a session that knew it small',
    async (_, analyse) => {
      const { query } = database();
      await query(`alter table runs set (autovacuum_enabled = false); ${analyse};
        create index by_status on runs (status)`);
      onTestFinished(() => query('drop index by_status').then(() => undefined));
      const session = await database().connect();
      onTestFinished(() => session.end());
      // What its transaction has read of the table, by the server's own count.
      const settle = async (): Promise<number> => {
        const { batchId, lease } = await database().claimNext();
        await session.query('begin');
        await session.query('select from retention.settle($1, $2, p_all => true)', [
          batchId,
          lease,
        ]);
        const { rows } = await session.query<{ read: number }>(
          `select (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as read
          from pg_stat_xact_user_tables where relid = 'runs'::regclass`,
        );
        await session.query('commit');
        return rows[0]?.read ?? 0;
      };
      for (let turn = 0; turn < 8; turn += 1) {
        await flag(1);
        await settle();
      }
      await database().insertRuns({ count: 60_000, completedAgo: '2 days' });
      await flag(1_000);
      expect(await settle()).toBeLessThan(5_000);
      expect(await database().countStamped()).toBe(1_008);
    },
  );

  test('taking a stamp back runs under the path of the application too', async () => {
    await useTrigger('insert into audit_log values (new.run_id);');
    const runId = await database().insertRun({ clearedAgo: '1 day' });
    expect(await database().store.unstamp(runId)).toBe(true);
    expect(await database().query('select from audit_log')).toHaveLength(1);
  });
});

/** Waits for something that each look brings nearer. */
async function until(isDone: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 100; turn += 1) if (await isDone()) return;
  throw new Error('It is never done.');
}
