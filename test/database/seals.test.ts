import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { sealRuns, settleAll } from '../support/proof.ts';
import { verifySeals } from '../../src/proof/verify-seals.ts';
import { until } from '../support/until.ts';

describeDatabase('promise 14: what has settled is sealed', () => {
  const database = useMigrated();

  test('by the tick, with its head announced, and nothing where nothing has settled', async () => {
    const { query, one, connect, insertRuns } = database();
    await one('select retention.tick()');
    expect(await query('select from retention.seal')).toEqual([]);
    const listening = await connect();
    const heard: unknown[] = [];
    listening.on('notification', ({ payload }) => heard.push(JSON.parse(payload ?? '')));
    await listening.query('listen retention_sealed');
    await insertRuns({ count: 3 });
    await settleAll(database());
    await one('select retention.tick()');
    const { fence } = await one<{ fence: string }>('select fence from retention.identity');
    const seals = await query(
      `select seal_id, encode(digest, 'hex') as digest, batches, results from retention.seal`,
    );
    expect(seals).toMatchObject([{ seal_id: '1', results: '3' }]);
    await until('the head is heard', () => heard.length > 0);
    expect(heard).toEqual([
      {
        seal: 1,
        digest: seals[0]?.['digest'],
        previous: null,
        sealed_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/u) as string,
        database: fence,
      },
    ]);
    await one('select retention.tick()');
    expect(await query('select from retention.seal')).toHaveLength(1);
  });

  test('not before it has committed: what an open transaction has settled is of a later seal', async () => {
    const { query, one, connect, insertRuns, store, claimNext } = database();
    await query('update retention.setting set batch_size = 1');
    await insertRuns({ count: 2 });
    await query('select retention.flag_expired()');
    const claims = [await claimNext(), await claimNext()];
    const open = await connect();
    onTestFinished(() => open.end());
    const settle = `select from retention.settle($1, $2, '{}', true)`;
    await open.query('begin');
    await open.query(settle, [claims[0]?.batchId, claims[0]?.lease]);
    await query(settle, [claims[1]?.batchId, claims[1]?.lease]);
    await store.sealNow();
    // It has settled before that seal was made, and is not of it: so it says no more than what is true.
    const early = await one<{ is_complete: boolean }>(
      `select s.complete_to >= b.settled_at as is_complete
      from retention.seal s, retention.batch b
      where s.seal_id = 1 and b.seal_id = 1`,
    );
    expect(early.is_complete ?? false).toBe(false);
    await open.query('commit');
    await store.sealNow();
    expect(
      await query(
        `select s.seal_id, s.results, b.settled_at < f.sealed_at as settled_before
        from retention.seal s
        join retention.batch b on b.batch_id = s.batches[1]
        cross join (select sealed_at from retention.seal where seal_id = 1) f
        order by 1`,
      ),
    ).toEqual([
      { seal_id: '1', results: '1', settled_before: true },
      { seal_id: '2', results: '1', settled_before: true },
    ]);
    expect(await verifySeals({ store })).toMatchObject({ holds: true, seals: 2, results: 2 });
  });

  test('and says up to when everything is, once every transaction that was open has ended', async () => {
    const { query, store, one, connect } = database();
    await sealRuns(database(), 1);
    const open = await connect();
    await open.query('begin; select pg_current_xact_id()');
    await sealRuns(database(), 1);
    const { is_later: isLater } = await one<{ is_later: boolean | null }>(
      `select n.complete_to > f.sealed_at as is_later
      from retention.seal n, retention.seal f
      where n.seal_id = 2 and f.seal_id = 1`,
    );
    expect(isLater ?? false).toBe(false);
    await open.query('rollback');
    await open.end();
    // Others of the same server may have transactions open for a while.
    await until('a later seal covers it', async () => {
      await query(
        `insert into retention.change (subject, action, after) values ('hold', 'insert', '{}')`,
      );
      await store.sealNow();
      const { is_complete: isComplete } = await one<{ is_complete: boolean }>(
        `select max(n.complete_to) > max(s.sealed_at) - interval '2 seconds' as is_complete
        from retention.seal s, retention.seal n where s.seal_id = 2`,
      );
      return isComplete;
    });
    // Another server counts its transactions by itself.
    await query(
      `insert into retention.change (subject, action, after) values ('hold', 'insert', '{}')`,
    );
    const stranger = await one<{ at: unknown }>(
      `select retention._complete_to(now(), '10:20:11', 'another server') as at`,
    );
    expect(stranger.at).toBeNull();
  });

  test('in more than one seal where there is much, and the rest of it by the next ticks', async () => {
    const { query, one, insertRuns } = database();
    await query('update retention.setting set batch_size = 1');
    await insertRuns({ count: 3 });
    await settleAll(database());
    await query('select from retention.seal_head for update');
    await one('select retention._seal_once(2)');
    await one('select retention._seal_once(2)');
    expect(
      await query(
        'select seal_id, cardinality(batches) as batches, complete_to is null as open from retention.seal order by 1',
      ),
    ).toEqual([
      { seal_id: '1', batches: 2, open: true },
      expect.objectContaining({ seal_id: '2', batches: 1 }) as object,
    ]);
  });

  test('also what happened outside a batch, and every change', async () => {
    const { query, store } = database();
    await query(`
      insert into retention.receipt (kind, bucket, results, run_ids, keys, tenants)
      values ('orphan', 'b', 1, array[null]::text[]::retention.run_id[], '{results/x}', '{null}');
      insert into retention.change (subject, action, tenant_id, after)
      values ('policy', 'insert', 'acme', '{"retain": "30 days"}')`);
    await store.sealNow();
    expect(await verifySeals({ store })).toMatchObject({
      holds: true,
      receipts: 1,
      results: 1,
      changes: 1,
    });
  });

  test('a seal that fails does not fail the tick: it is written down, and tried again', async () => {
    const { query, one, insertRuns } = database();
    await insertRuns({ count: 1 });
    await settleAll(database());
    await query(`alter table retention.seal add constraint none check (seal_id < 0) not valid`);
    await insertRuns({ count: 1 });
    await query('update retention.heartbeat set passed_at = null');
    expect(await one('select retention.tick() as flagged')).toEqual({ flagged: 1 });
    expect(
      await one('select problem, problem_at is not null as dated from retention.seal_head'),
    ).toEqual({
      problem: expect.stringMatching(/^23514 .*"none"/u) as string,
      dated: true,
    });
    await query('alter table retention.seal drop constraint none');
    await one('select retention.tick()');
    expect(await one('select problem, problem_at, seal_id from retention.seal_head')).toEqual({
      problem: null,
      problem_at: null,
      seal_id: '1',
    });
  });

  test('while another session seals, the tick does not wait', async () => {
    const { query, one, connect, insertRuns } = database();
    await insertRuns({ count: 1 });
    await settleAll(database());
    const other = await connect();
    onTestFinished(() => other.end());
    await other.query('begin; select from retention.seal_head for update');
    await one('select retention.tick()');
    expect(await query('select from retention.seal')).toEqual([]);
    await other.query('rollback');
  });

  test('a copy of the database seals nothing: the numbers go on elsewhere', async () => {
    const { query, one, store, insertRuns } = database();
    await insertRuns({ count: 1 });
    await settleAll(database());
    await query(`update retention.identity set database_oid = 1`);
    await one('select retention.tick()');
    expect(await store.sealNow()).toEqual({ sealId: 0, more: false });
    expect((await verifySeals({ store })).unsealed_because).toMatch(/may be a copy/u);
    await query(
      `update retention.identity set database_oid = (select oid from pg_database where datname = current_database())`,
    );
    expect(await store.sealNow()).toEqual({ sealId: 1, more: false });
  });
});

describeDatabase('promise 14: what is sealed stays as it is', () => {
  const database = useMigrated();

  test('also for the owner, and a change from the beginning', async () => {
    const { query, insertRuns } = database();
    await query(`
      insert into retention.receipt (kind, bucket, results, run_ids, keys, tenants)
      values ('orphan', 'b', 1, array[null]::text[]::retention.run_id[], '{x}', '{null}');
      insert into retention.change (subject, action, after) values ('hold', 'insert', '{}')`);
    await sealRuns(database(), 2);
    await query(
      `insert into retention.change (subject, action, after) values ('hold', 'update', '{}')`,
    );
    for (const sql of [
      `update retention.batch set keys = '{other,x}'`,
      'update retention.batch set seal_id = null',
      'update retention.batch set settled_at = now()',
      'delete from retention.batch',
      'truncate retention.batch',
      `update retention.receipt set kind = 'restored'`,
      'delete from retention.receipt',
      'truncate retention.receipt',
      `update retention.change set session_name = 'somebody else'`,
      'update retention.change set seal_id = null',
      'update retention.change set seal_id = 9, at = now() where seal_id is null',
      'delete from retention.change where seal_id is null',
      'delete from retention.change',
      'truncate retention.change',
      'update retention.seal set previous = digest',
      'update retention.seal set pruned_at = now()',
      'delete from retention.seal',
      'truncate retention.seal',
    ]) {
      await expect(query(sql), sql).rejects.toMatchObject({
        code: 'RR060',
        message: expect.stringMatching(/stays as it is/u) as string,
      });
    }
    // What is not sealed is worked on as ever.
    await insertRuns({ count: 1 });
    await query('select retention.flag_expired()');
    await query('update retention.batch set attempts = 1 where seal_id is null');
    await query('delete from retention.batch where seal_id is null');
  });

  test('until receipts_kept has passed: then receipts go, and their digests stay', async () => {
    const { query, one, store } = database();
    const keep = (time: string) =>
      query(`set session_replication_role = replica;
        update retention.setting set receipts_kept = '${time}';
        reset session_replication_role`);
    await keep('1 day');
    await sealRuns(database(), 2);
    const backdate = (seal: number) => `
      set session_replication_role = replica;
      update retention.seal set sealed_at = sealed_at - interval '2 days' where seal_id = ${seal};
      update retention.seal
      set digest = retention._seal_digest(previous, retention._seal_header(seal_id, sealed_at, complete_to), digests)
      where seal_id = ${seal};
      update retention.seal_head h set digest = s.digest, sealed_at = s.sealed_at
      from retention.seal s where s.seal_id = ${seal};
      reset session_replication_role`;
    await query(backdate(1));
    await sealRuns(database(), 2);
    await query('select retention._clean_up()');
    expect(await one('select clean_up_problem as problem from retention.heartbeat')).toEqual({
      problem: null,
    });
    expect(await query('select seal_id from retention.batch where settled_at is not null')).toEqual(
      [{ seal_id: '2' }],
    );
    expect(await verifySeals({ store })).toMatchObject({
      holds: true,
      seals: 2,
      receipts: 1,
      pruned: 1,
    });
    // Later a longer time is set: what went before was right, for the change is in the log.
    await query(`insert into retention.change (subject, action, before, after)
      values ('setting', 'update', '{"receipts_kept": "1 day"}', '{"receipts_kept": "7 years"}')`);
    await keep('7 years');
    const logged = await verifySeals({ store });
    expect(logged).toMatchObject({ holds: true, pruned: 1 });
  });
});
