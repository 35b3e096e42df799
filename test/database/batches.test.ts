import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, keyOf, useMigrated } from '../support/migrated.ts';
import { until } from '../support/until.ts';

/** Keys of every kind that a run may have. */
const KEYS: Readonly<Record<string, (runId: string) => string>> = {
  'with the run id': (runId) => `results/${runId}`,
  'with the run id twice': (runId) => `${runId}/${runId}.json`,
  'that is the run id': (runId) => runId,
  'with a part of the run id': (runId) => `part/${runId.slice(0, -1)}`,
  'with digits that may be an id by chance': (runId) => `2026/11/12/1-2-3/${runId.length}/10`,
  'without the run id': (runId) => `plain/${runId.length}`,
  'with the mark and the run id': (runId) => `\u0001results/${runId}`,
  'that ends with the mark': (runId) => `results/${runId}\u0001`,
  'that begins with the second mark': (runId) => `\u0002${runId}`,
  'that is both marks': () => '\u0002\u0001',
  'with the second mark inside': (runId) => `results/\u0002${runId}`,
  'with what SQL and JSON escape': (runId) => `{"a,b"}\\'${runId}'\n%_$1`,
  'that reads like a null': () => 'NULL',
  'with letters of every kind': (runId) => `ü/😀/\u2028/${runId}`,
};

interface Pair extends Record<string, unknown> {
  readonly run_id: string;
  readonly key: string;
}

/** How an application names its runs, and the ids of as many as there are kinds of keys. */
const APPLICATIONS: readonly (readonly [string, string, string, (n: number) => string])[] = [
  ['UUIDs', 'uuid', '', () => crypto.randomUUID()],
  ['integers', 'integer', '', (n) => String(n)],
  ['texts', 'text', '', (n) => ['a', 'results', '.*', '\\1', 'ü', '2026'][n] ?? `run ${n}`],
  ['texts in an order of their own', 'text', 'collate "de-x-icu"', (n) => `Läufe/${n}`],
];

for (const [name, type, collation, idOf] of APPLICATIONS) {
  describeDatabase(`the arrays of a batch, where run ids are ${name}`, () => {
    const database = useMigrated({
      before: `alter table runs alter column run_id drop default,
        alter column run_id type ${type} ${collation} using null`,
    });

    async function flagged(): Promise<Pair[]> {
      return sorted(
        await database().query<Pair>('select run_id::text as run_id, key from retention.flagged'),
      );
    }

    async function receipts(): Promise<Pair[]> {
      return sorted(
        await database().query<Pair>(
          `select u.run_id::text as run_id, retention._unpack_key(u.key, u.run_id::text) as key
          from retention.batch b
          cross join unnest(b.run_ids, b.keys) as u (run_id, key)
          where b.settled_at is not null`,
        ),
      );
    }

    test('survive flagging, a claim with spared ones, a partial settle, a split and a retry', async () => {
      const { query, store, claimNext, claimed, passRetryTimes } = database();
      const all = Object.values(KEYS).map((keyFor, n): Pair => {
        const runId = idOf(n);
        return { run_id: runId, key: keyFor(runId) };
      });
      await query(
        `insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select u.run_id, 'acme', 'COMPLETED', now() - interval '31 days' + u.n * interval '1 second',
          'dpp-results', u.key
        from rows from (unnest($1::${type}[]), unnest($2::text[]))
          with ordinality as u (run_id, key, n)`,
        [all.map(({ run_id }) => run_id), all.map(({ key }) => key)],
      );
      expect(await store.flagExpired({ by: 'test' })).toBe(all.length);
      expect(await flagged()).toEqual(sorted(all));

      const spared = all.filter((_, n) => n % 5 === 1);
      await store.placeHolds({ runIds: spared.map(({ run_id }) => run_id), reason: 'audit' });
      const first = await claimNext();
      const left = all.filter((pair) => !spared.includes(pair));
      expect(first.spared).toBe(spared.length);
      expect(first.keys).toEqual(left.map(({ key }) => key));
      expect(await claimed(first)).toEqual(left.map(({ run_id }) => run_id));
      expect(await flagged()).toEqual(sorted(left));

      const part = (n: number): Pair[] => left.filter((_, place) => place % 4 === n);
      const keysOf = (pairs: readonly Pair[]): string[] => pairs.map(({ key }) => key);
      const [cleared, refused, slow, unnamed] = [part(0), part(1), part(2), part(3)];
      expect(
        await store.settle(first.batchId, first.lease, {
          cleared: keysOf(cleared),
          failed: [
            ...failuresOf(keysOf(refused)),
            ...failuresOf(keysOf(slow), { code: 'SlowDown', outcome: 'failed' }),
          ],
          milliseconds: 1,
          unanswered: keysOf(unnamed),
        }),
      ).toMatchObject({ cleared: cleared.length, stamped: cleared.length });
      expect(await receipts()).toEqual(sorted(cleared));
      expect(await flagged()).toEqual(sorted([...refused, ...slow, ...unnamed]));
      expect(
        await query(
          `select u.run_id::text as run_id, retention._unpack_key(u.key, u.run_id::text) as key
          from retention.unanswered a cross join unnest(a.run_ids, a.keys) as u (run_id, key)`,
        ),
      ).toEqual(unnamed);

      await passRetryTimes();
      const second = await claimNext();
      expect(await store.split(second.batchId, second.lease)).toBe(true);
      expect(await flagged()).toEqual(sorted([...refused, ...slow, ...unnamed]));

      const revived = [refused[0], slow[0], unnamed[0]].filter((pair) => pair !== undefined);
      expect(await store.retry({ runIds: revived.map(({ run_id }) => run_id) })).toBe(3);
      expect(await flagged()).toEqual(sorted([...refused, ...slow, ...unnamed]));

      await passRetryTimes();
      for (let rest = left.length - cleared.length; rest > 0;) {
        const claim = await claimNext();
        rest -= claim.keys.length;
        // By its keys and all at once in turn.
        const outcome = rest % 2 === 0 ? claim.keys : ('all' as const);
        expect(
          await store.settle(claim.batchId, claim.lease, {
            cleared: outcome,
            failed: [],
            milliseconds: 1,
          }),
        ).toMatchObject({ cleared: claim.keys.length, stamped: claim.keys.length });
      }
      expect(await flagged()).toEqual([]);
      expect(await receipts()).toEqual(sorted(left));
      expect(
        sorted(
          await query<Pair>(
            `select run_id::text as run_id, result_s3_key as key from runs where result_cleared_at is null`,
          ),
        ),
      ).toEqual(sorted(spared));
    });
  });
}

function sorted(pairs: readonly Pair[]): Pair[] {
  return pairs.toSorted((a, b) => (a.run_id < b.run_id ? -1 : 1));
}

describeDatabase('a packed key', () => {
  const database = useMigrated();

  test('gives back the key that it was made of, whatever that and the run id are', async () => {
    const letters = ['\u0001', '\u0002', '1', '2', 'a', 'b', '/', '\\', '"', 'ü', '😀', ' '];
    const text = (most: number): string =>
      Array.from(
        { length: Math.floor(Math.random() * (most + 1)) },
        () => letters[Math.floor(Math.random() * letters.length)],
      ).join('');
    const pairs = Array.from({ length: 20_000 }, (_, n) => {
      const runId = n % 10 === 0 ? crypto.randomUUID() : text(3);
      return { runId, key: n % 2 === 0 ? text(12) : `${text(4)}${runId}${text(4)}` };
    });
    const wrong = await database().query(
      `select u.key, u.run_id
      from unnest($1::text[], $2::text[]) as u (key, run_id)
      where retention._unpack_key(retention._pack_key(u.key, u.run_id), u.run_id) is distinct from u.key`,
      [pairs.map(({ key }) => key), pairs.map(({ runId }) => runId)],
    );
    expect(wrong).toEqual([]);
  });

  test('of a run id in the key is short', async () => {
    const runId = crypto.randomUUID();
    expect(
      await database().one(`select length(retention._pack_key($1, $2)) as length`, [
        keyOf(runId),
        runId,
      ]),
    ).toEqual({ length: 'results/'.length + 1 });
  });
});

describeDatabase('a settled batch is the receipt', () => {
  const database = useMigrated();

  const RECEIPT = `select results, run_ids::text[] as run_ids,
      array(
        select retention._unpack_key(u.key, u.run_id::text)
        from unnest(run_ids, keys) with ordinality as u (run_id, key, n)
        order by u.n
      ) as keys,
      tenants, cleared, spared, failed, dead
    from retention.batch
    where batch_id = $1 and settled_at is not null`;

  test('of exactly the runs and keys that were cleared', async () => {
    const { insertRuns, query, one, store, claimNext } = database();
    const runIds = await insertRuns({ count: 8 });
    const [spared = '', refused = '', dead = '', unnamed = '', ...cleared] = runIds;
    await query('select retention.flag_expired()');
    await store.placeHolds({ runIds: [spared], reason: 'audit' });
    const { batchId, lease } = await claimNext();
    await store.settle(batchId, lease, {
      cleared: cleared.map(keyOf),
      failed: [
        ...failuresOf([keyOf(refused)]),
        ...failuresOf([keyOf(dead)], { code: 'ObjectLocked', final: true }),
      ],
      milliseconds: 1,
    });
    const receipt = {
      results: 7,
      run_ids: cleared,
      keys: cleared.map(keyOf),
      tenants: cleared.map(() => 'acme'),
      cleared: 4,
      spared: 1,
      failed: 2,
      dead: 1,
    };
    expect(await one(RECEIPT, [batchId])).toEqual(receipt);
    expect(
      await query('select run_id::text as run_id from retention.flagged order by batch_id'),
    ).toEqual([refused, dead, unnamed].map((run_id) => ({ run_id })));
    // Whatever becomes of the rows.
    await query('delete from runs');
    await query('select retention._clean_up()');
    expect(await one(RECEIPT, [batchId])).toEqual(receipt);
  });

  test('of all of them, when S3 named every key', async () => {
    const { insertRuns, query, one, store, claimNext } = database();
    const runIds = await insertRuns({ count: 5 });
    await query('select retention.flag_expired()');
    const { batchId, lease } = await claimNext();
    await store.settle(batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    expect(await one(RECEIPT, [batchId])).toMatchObject({
      run_ids: runIds,
      keys: runIds.map(keyOf),
      cleared: 5,
    });
  });

  test('of none, when S3 refused every key', async () => {
    const { insertRuns, query, one, store, claimNext } = database();
    await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const { batchId, lease, keys } = await claimNext();
    const failed = failuresOf(keys);
    await store.settle(batchId, lease, { cleared: [], failed, milliseconds: 1 });
    expect(await one(RECEIPT, [batchId])).toMatchObject({
      run_ids: [],
      keys: [],
      tenants: [],
      cleared: 0,
      failed: 3,
    });
  });

  test('that is kept, sealed or not, when what cleared nothing goes', async () => {
    const { insertRuns, query, store, claimNext, set } = database();
    await set({ batch_size: '1', history_kept: `'7 days'` });
    await insertRuns({ count: 3 });
    await query('select retention.flag_expired()');
    const old = async (cleared: 'all' | [], age: string): Promise<number> => {
      const { batchId, lease, keys } = await claimNext();
      const failed = cleared === 'all' ? [] : failuresOf(keys);
      await store.settle(batchId, lease, { cleared, failed, milliseconds: 1 });
      await query(
        'update retention.batch set settled_at = now() - $2::interval where batch_id = $1',
        [batchId, age],
      );
      return batchId;
    };
    const sealed = await old('all', '1 year');
    await store.sealNow();
    // How it goes with its seal, after receipts_kept, is in seals.test.ts.
    const unsealed = await old('all', '9 years');
    await old([], '8 days');
    await query('select retention._clean_up()');
    const receipts = await query<{ id: string }>(
      'select batch_id as id from retention.batch where settled_at is not null order by settled_at',
    );
    expect(receipts.map(({ id }) => Number(id))).toEqual([unsealed, sealed]);
  });
});

describeDatabase('a run is flagged in one batch', () => {
  const database = useMigrated();

  test.each(['reconcile --run', 'retry --run'])(
    'also when it fails while %s waits for its batch',
    async (how) => {
      const { insertRuns, query, connect, store, claimNext, passRetryTimes } = database();
      const runIds = await insertRuns({ count: 4 });
      await query('select retention.flag_expired()');
      await refuse();
      await passRetryTimes();
      const { batchId, lease, keys } = await claimNext();
      const settling = await connect();
      onTestFinished(() => settling.end());
      await settling.query('begin');
      await settling.query('select from retention.settle($1, $2::uuid, p_failed => $3::jsonb)', [
        batchId,
        lease,
        JSON.stringify(failuresOf(keys)),
      ]);
      const waiting =
        how === 'retry --run' ? store.retry({ runIds }) : store.flagSelected({ runIds });
      await until('it waits for the batch', async () => {
        const locks = await query(
          `select from pg_locks
          where not granted
            and (database is null or database = (select oid from pg_database where datname = current_database()))`,
        );
        return locks.length > 0;
      });
      await settling.query('commit');
      await waiting;
      const flagged = await query<{ run_id: string }>(
        'select run_id::text as run_id from retention.flagged',
      );
      expect(flagged.map(({ run_id }) => run_id).toSorted()).toEqual(runIds.toSorted());

      async function refuse(): Promise<void> {
        const claim = await claimNext();
        const failed = failuresOf(claim.keys);
        await store.settle(claim.batchId, claim.lease, { cleared: [], failed, milliseconds: 1 });
      }
    },
  );
});
