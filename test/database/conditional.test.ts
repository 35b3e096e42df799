import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, keyOf, migrateUp, useMigrated } from '../support/migrated.ts';

const WITH_ETAG = { before: 'alter table runs add column result_etag text' };

describeDatabase('a table without etags', () => {
  const database = useMigrated();

  test('is worked on as before: nothing is kept, asked or handed out', async () => {
    const { insertRuns, store, claimNext, one } = database();
    await insertRuns({ count: 3 });
    await store.flagExpired({ by: 'test' });
    const claim = await claimNext();
    expect(claim.keys).toHaveLength(3);
    expect(claim).not.toHaveProperty('etags');
    expect(await one('select etags from retention.batch')).toEqual({ etags: null });
    expect(await one('select etag from retention.result limit 1')).toEqual({ etag: null });
    await store.settle(claim.batchId, claim.lease, { cleared: 'all', failed: [], milliseconds: 1 });
    expect(await one('select etags from retention.batch')).toEqual({ etags: null });
  });
});

describeDatabase('an application that names its column otherwise', () => {
  const database = useMigrated({
    before: 'alter table runs add column tag varchar(80)',
    columns: 'etag=tag',
  });

  test('has it mapped by RETENTION_COLUMNS', async () => {
    const { insertRun, store, claimNext, query } = database();
    const runId = await insertRun();
    await query(`update runs set tag = '"abc"'`);
    await store.flagExpired({ by: 'test' });
    expect(await claimNext()).toMatchObject({ keys: [keyOf(runId)], etags: ['abc'] });
  });

  test('is told what is wrong with a column that is no text', async () => {
    const { query, url } = database();
    await query('alter table runs add column number integer');
    await expect(migrateUp(url, { columns: 'etag=number' })).rejects.toThrow(
      'etag: column number is of type integer, text is needed',
    );
    await expect(migrateUp(url, { columns: `etag='fixed'` })).rejects.toThrow(
      'etag must name a column of the table',
    );
    await migrateUp(url, { columns: 'etag=' });
    expect(await query(`select columns -> 'etag' as etag from retention.adapter`)).toEqual([
      { etag: null },
    ]);
    await migrateUp(url, { columns: 'etag=tag' });
  });
});

describeDatabase('an object whose row names its etag', () => {
  const database = useMigrated(WITH_ETAG);

  async function flagged(...etags: readonly (string | null)[]): Promise<string[]> {
    const { insertRun, query, store } = database();
    const runIds: string[] = [];
    for (const etag of etags) {
      const runId = await insertRun();
      await query('update runs set result_etag = $2 where run_id = $1', [runId, etag]);
      runIds.push(runId);
    }
    expect(await store.flagExpired({ by: 'test' })).toBe(etags.length);
    return runIds;
  }

  test.each([
    ['abc', 'abc'],
    ['"abc"', 'abc'],
    ['"9bb58f26192e4ba00f01e2e7b136bbd8-12"', '9bb58f26192e4ba00f01e2e7b136bbd8-12'],
    ['CKih16GjycICEAE=', 'CKih16GjycICEAE='],
  ])('is claimed with it, without quotes: %s', async (etag, sent) => {
    const [runId = ''] = await flagged(etag);
    expect(await database().claimNext()).toMatchObject({ keys: [keyOf(runId)], etags: [sent] });
  });

  test('and others that name none share a batch', async () => {
    const { claimNext, store, query } = database();
    const [plain = '', tagged = ''] = await flagged(null, 'abc');
    const claim = await claimNext();
    const byKey = Object.fromEntries(claim.keys.map((key, at) => [key, claim.etags?.[at]]));
    expect(byKey).toEqual({ [keyOf(plain)]: null, [keyOf(tagged)]: 'abc' });
    // The receipt says what S3 was asked for.
    await store.settle(claim.batchId, claim.lease, {
      cleared: [keyOf(tagged)],
      failed: failuresOf([keyOf(plain)]),
      milliseconds: 1,
    });
    expect(
      await query(
        'select run_ids::text[], etags from retention.batch where settled_at is not null',
      ),
    ).toEqual([{ run_ids: [tagged], etags: ['abc'] }]);
  });

  test.each(['', ' ', 'W/"abc"', '*', '"a", "b"', '"abc', 'a b', 'äöü', '""'])(
    'that is none is kept, since S3 could not tell which version is meant: %s',
    async (etag) => {
      const { claimNext, store, query } = database();
      const [odd = '', good = ''] = await flagged(etag, 'abc');
      expect(await claimNext()).toMatchObject({ keys: [keyOf(good)], etags: ['abc'], spared: 1 });
      expect((await store.explain([odd]))[0]).toMatchObject({
        state: 'object changed',
        because: expect.stringContaining(
          'is none that S3 could be asked for, so it is kept',
        ) as string,
      });
      expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
      await query('update runs set result_etag = null where run_id = $1', [odd]);
      expect(await store.flagExpired({ by: 'test' })).toBe(1);
      expect(await claimNext()).toMatchObject({ keys: [keyOf(odd)] });
    },
  );

  test('is asked for by the etag that its row has when its batch is claimed', async () => {
    const { claimNext, query } = database();
    const [runId = ''] = await flagged('old');
    await query(`update runs set result_etag = 'new'`);
    expect(await claimNext()).toMatchObject({ keys: [keyOf(runId)], etags: ['new'] });
  });

  test('that has changed in S3 is spared: not stamped, not failed, and told', async () => {
    const { claimNext, store, run, one, query } = database();
    const [changed = '', good = ''] = await flagged('old', 'abc');
    const claim = await claimNext();
    const settled = await store.settle(claim.batchId, claim.lease, {
      cleared: [keyOf(good)],
      failed: failuresOf([keyOf(changed)], { code: 'PreconditionFailed', outcome: 'changed' }),
      milliseconds: 1,
    });
    expect(settled).toMatchObject({ cleared: 1, stamped: 1, failed: 0, dead: 0, problems: [] });
    expect((await run(changed)).result_cleared_at).toBeNull();
    expect(await one('select spared, cleared, results from retention.batch')).toEqual({
      spared: 1,
      cleared: 1,
      results: 2,
    });
    expect(await store.readStatus()).toMatchObject({
      object_changed: 1,
      spared_today: 1,
      failed: 0,
      flagged: 0,
    });
    expect((await store.explain([changed]))[0]).toMatchObject({
      state: 'object changed',
      because: expect.stringContaining(
        'S3 holds another version of its object than the one with the etag old, found once',
      ) as string,
    });
    expect(await query('select what, results from retention.wait_causes()')).toContainEqual({
      what: 'changed objects in bucket dpp-results',
      results: '1',
    });
    expect(await one('select pauses, refused_in_row from retention.bucket')).toEqual({
      pauses: 0,
      refused_in_row: 0,
    });
  });

  async function spare(etag: string): Promise<string> {
    const [runId = ''] = await flagged(etag);
    await spareAgain(runId);
    return runId;
  }

  async function spareAgain(runId: string): Promise<void> {
    const { claimNext, store } = database();
    const claim = await claimNext();
    expect(claim.keys).toEqual([keyOf(runId)]);
    const failed = failuresOf([keyOf(runId)], { code: 'PreconditionFailed', outcome: 'changed' });
    await store.settle(claim.batchId, claim.lease, { cleared: [], failed, milliseconds: 1 });
  }

  test('that has changed is not asked for at every pass: it waits an hour, then twice as long', async () => {
    const { store, one, query } = database();
    const runId = await spare('old');
    const wait = `select extract(epoch from until - now()) / 3600 as hours, times from retention.spared_object`;
    expect(await store.flagExpired({ by: 'test' })).toBe(0);
    expect(await store.flagExpired({ by: 'test', whole: true })).toBe(0);
    expect(await store.readStatus()).toMatchObject({ due: 0 });
    const first = await one<{ hours: string; times: number }>(wait);
    expect(Number(first.hours)).toBeGreaterThan(0.9);
    expect(Number(first.hours)).toBeLessThan(2.1);
    await query(`update retention.spared_object set until = now()`);
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    await spareAgain(runId);
    const second = await one<{ hours: string; times: number }>(wait);
    expect(second.times).toBe(2);
    expect(Number(second.hours)).toBeGreaterThan(1.9);
    await query(`update retention.spared_object set until = now(), times = 40`);
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    await spareAgain(runId);
    expect(Number((await one<{ hours: string }>(wait)).hours)).toBeLessThan(7 * 24 + 1);
  });

  test('that has changed goes as soon as its row names the version that S3 holds', async () => {
    const { store, claimNext, query } = database();
    const runId = await spare('old');
    await query(`update runs set result_etag = 'new'`);
    expect(await store.flagExpired({ by: 'test' })).toBe(1);
    const claim = await claimNext();
    expect(claim).toMatchObject({ keys: [keyOf(runId)], etags: ['new'] });
    await store.settle(claim.batchId, claim.lease, { cleared: 'all', failed: [], milliseconds: 1 });
    // A sweep forgets it.
    await store.flagExpired({ by: 'test', whole: true });
    expect(await query('select from retention.spared_object')).toHaveLength(0);
  });

  test('of several runs is asked for by that of the newest, and none is flagged again and again', async () => {
    const { insertRun, query, store, claimNext } = database();
    await insertRun({ key: 'results/shared', completedAgo: '40 days' });
    await query(`update runs set result_etag = 'older'`);
    await insertRun({ key: 'results/shared', completedAgo: '35 days' });
    await query(`update runs set result_etag = 'newer' where result_etag is null`);
    await insertRun({ key: 'results/shared', completedAgo: '33 days' });
    expect(await store.flagExpired({ by: 'test' })).toBe(3);
    let claim = await claimNext();
    expect(claim).toMatchObject({ keys: ['results/shared'], etags: ['newer'] });
    const changed = failuresOf(['results/shared'], {
      code: 'PreconditionFailed',
      outcome: 'changed',
    });
    for (let turn = 0; turn < 4; turn += 1) {
      await store.settle(claim.batchId, claim.lease, {
        cleared: [],
        failed: changed,
        milliseconds: 1,
      });
      if ((await store.flagExpired({ by: 'test', whole: true })) === 0) break;
      claim = await claimNext();
      expect(claim.etags?.[0]).not.toBe(undefined);
    }
    // None of them is asked for without it either.
    expect(await query(`select etag, times from retention.spared_object`)).toEqual([
      { etag: 'newer', times: 1 },
    ]);
  });

  test('goes whatever its version where a person has said so, and only there', async () => {
    const { store, claimNext } = database();
    await flagged('abc');
    await store.setHabits('dpp-results', { conditional: 'ignored' });
    expect(await claimNext()).not.toHaveProperty('etags');
    expect((await store.readBuckets())[0]?.habits).toMatchObject({
      conditional: { value: 'ignored', by: 'hand' },
    });
    await expect(store.setHabits('dpp-results', { conditional: 'refused' })).rejects.toThrow(
      'expected conditional as honoured or ignored, given: refused',
    );
    await store.learnHabits('dpp-results', {
      habits: { conditional: 'refused' },
      because: 'NotImplemented',
    });
    await store.forgetHabits('dpp-results', true);
  });

  test('is not taken for changed where nothing was asked', async () => {
    const { claimNext, store } = database();
    const [runId = ''] = await flagged(null);
    await flagged('abc');
    const claim = await claimNext();
    const failed = failuresOf([keyOf(runId)], { code: 'PreconditionFailed', outcome: 'changed' });
    const settled = await store.settle(claim.batchId, claim.lease, {
      cleared: claim.keys.filter((key) => key !== keyOf(runId)),
      failed,
      milliseconds: 1,
    });
    expect(settled).toMatchObject({ failed: 1, dead: 0 });
  });

  test('is asked for again after its batch was split, postponed or halved', async () => {
    const { claimNext, store, passRetryTimes } = database();
    await flagged('a1', 'b2', 'c3', 'd4');
    const first = await claimNext();
    await store.split(first.batchId, first.lease);
    const [half, other] = [await claimNext(), await claimNext()];
    const pairs = [half, other].flatMap((claim) => claim.etags ?? []);
    expect(new Set(pairs)).toEqual(new Set(['a1', 'b2', 'c3', 'd4']));
    await store.settle(other.batchId, other.lease, { cleared: 'all', failed: [], milliseconds: 1 });
    await store.postpone(half.batchId, half.lease, { code: 'SlowDown', message: 'slow down' });
    await passRetryTimes();
    expect((await claimNext()).etags).toEqual(half.etags);
  });

  test('whose row cannot be read does not keep the others waiting, and is never asked for without it', async () => {
    const { claimNext, query, store } = database();
    const [bad = '', good = ''] = await flagged('bad', 'good');
    await query(`create or replace function public.read_etag(p_etag text) returns text language plpgsql stable as $$
      begin
        if p_etag = 'bad' then
          raise exception using errcode = 'XX001', message = 'this row is broken';
        end if;
        return p_etag;
      end $$;
      do $$
      begin
        execute 'create or replace view retention._live as select '
          || (
            select string_agg(
              case when a.attname = 'etag' then 'public.read_etag(l.etag) as etag' else format('l.%I', a.attname) end,
              ', ' order by a.attnum)
            from pg_attribute a
            where a.attrelid = 'retention._live'::regclass and a.attnum > 0 and not a.attisdropped
          )
          || ' from (' || rtrim(pg_get_viewdef('retention._live'), '; ') || ') l';
      end $$`);
    try {
      expect(await claimNext()).toMatchObject({ keys: [keyOf(good)], etags: ['good'], spared: 1 });
    } finally {
      await query('select retention._make_views()');
    }
    expect((await store.explain([bad]))[0]?.state).not.toBe('cleared');
  });
});
