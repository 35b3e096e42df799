import assert from 'node:assert/strict';
import type { DeletionReport } from '../objects/deletion-report.ts';
import type { ObjectStore } from '../objects/object-store.ts';

/** A store, and a bucket for one test. */
export interface OpenedStore {
  readonly store: ObjectStore;
  /** It is there and empty. */
  readonly bucket: string;
  /** Puts a small object. Any way will do, also past the store. */
  readonly put: (key: string) => Promise<void>;
  /** The keys of the objects that are there, in any order. */
  readonly keys: () => Promise<readonly string[]>;
  /** Takes away what `open` made. Default: nothing is left. */
  readonly close?: () => Promise<void>;
}

/** What the suite is run with. */
export interface ObjectStoreTests {
  /** `test` of `node:test`, of vitest, or of another runner. */
  readonly test: (name: string, work: () => Promise<void>) => unknown;
  /** Called once for each test. */
  readonly open: () => Promise<OpenedStore>;
}

/** Keys that a store which spells them wrong takes for others: beside each, those others. */
const ODD_KEYS: ReadonlyMap<string, readonly string[]> = new Map([
  ['a b', ['a+b', 'a%20b', 'ab']],
  ['c+d', ['c d', 'c%2Bd']],
  ['e%20f', ['e f', 'e%2520f']],
  ['100%', ['100%25', '100']],
  [`g'h"i`, ['g&apos;h&quot;i', 'ghi']],
  ['<j>&amp;', ['<j>&', '&lt;j&gt;&amp;']],
  ['l\nm', ['l m', 'lm']],
  [' r', ['r']],
  ['s ', ['s']],
  ['u😀', ['u', 'u\uFFFD']],
  ['v\u00E9', ['ve\u0301']],
  ['w/../x', ['x', 'w/x', 'w/./x']],
  ['y//z', ['y/z', 'y///z']],
  ['/aa', ['aa', '//aa']],
  ['bb?c=d#e', ['bb', 'bb?c=d']],
]);

const MOST_KEYS = 1_000;

/**
 * Holds an object store against its port: what the reactor relies on, whatever the store is. An ability that the store
 * does not have is not asked for.
 */
export function testObjectStore({ test, open }: ObjectStoreTests): void {
  const contract = (name: string, work: (opened: OpenedStore) => Promise<void>): void => {
    test(name, async () => {
      const opened = await open();
      try {
        await work(opened);
      } finally {
        opened.store.close();
        await opened.close?.();
      }
    });
  };

  contract(
    'deletes what it is asked to, and nothing else',
    async ({ store, bucket, put, keys }) => {
      for (const key of ['runs/1', 'runs/10', 'runs/1/result', 'runs']) await put(key);
      const report = await store.deleteObjects(bucket, ['runs/1', 'runs']);
      expectDeleted(report, ['runs/1', 'runs']);
      assert.deepEqual([...(await keys())].toSorted(), ['runs/1/result', 'runs/10']);
    },
  );

  contract('takes what is gone already for deleted', async ({ store, bucket, put }) => {
    await put('there');
    expectDeleted(await store.deleteObjects(bucket, ['there', 'never was']), [
      'there',
      'never was',
    ]);
    expectDeleted(await store.deleteObjects(bucket, ['there']), ['there']);
  });

  contract('reports a key that is given twice once', async ({ store, bucket, put }) => {
    await put('twice');
    expectDeleted(await store.deleteObjects(bucket, ['twice', 'twice']), ['twice']);
  });

  contract('takes keys that others are easily taken for', async ({ store, bucket, put, keys }) => {
    const odd = [...ODD_KEYS.keys()];
    const others = [...new Set([...ODD_KEYS.values()].flat())].filter((key) => !ODD_KEYS.has(key));
    for (const key of [...odd, ...others]) await put(key);
    expectDeleted(await store.deleteObjects(bucket, odd), odd);
    assert.deepEqual([...(await keys())].toSorted(), others.toSorted());
  });

  contract('has one bad key fail alone', async ({ store, bucket, put, keys }) => {
    await put('good');
    const report = await store.deleteObjects(bucket, ['good', '', 'half \uD83D']);
    assert.deepEqual([...report.deleted], ['good']);
    assert.equal(report.all, false);
    assert.deepEqual(report.failures.map(({ key }) => key).toSorted(), ['', 'half \uD83D']);
    for (const { code, reason, outcome } of report.failures) {
      assert.ok(code !== '' && reason !== '', 'a failure has a code and a reason');
      assert.equal(outcome, 'refused');
    }
    assert.deepEqual(await keys(), []);
  });

  contract(`takes ${MOST_KEYS} keys, and no more`, async ({ store, bucket, put, keys }) => {
    const all = Array.from({ length: MOST_KEYS }, (_, index) => `runs/${index}`);
    await put('runs/0');
    await put('beside');
    await assert.rejects(store.deleteObjects(bucket, [...all, 'beside']), RangeError);
    assert.deepEqual([...(await keys())].toSorted(), ['beside', 'runs/0']);
    expectDeleted(await store.deleteObjects(bucket, all), all);
    assert.deepEqual(await keys(), ['beside']);
  });

  contract('says that a bucket is not there', async ({ store, bucket }) => {
    await rejectsWith(store.deleteObjects(`${bucket}-missing`, ['a']), 'no-bucket');
  });

  contract('deletes nothing for a call that has ended', async ({ store, bucket, put, keys }) => {
    await put('a');
    const signal = AbortSignal.abort();
    await rejectsWith(store.deleteObjects(bucket, ['a'], { signal }), 'aborted');
    assert.deepEqual(await keys(), ['a']);
  });

  contract('deletes nothing after the last moment of a call', async (opened) => {
    const { store, bucket, put, keys } = opened;
    await put('a');
    const late = await store.deleteObjects(bucket, ['a'], { endsAt: -1 }).catch(storeErrorOf);
    const { outcome } = 'failures' in late ? (late.failures[0] ?? {}) : late;
    assert.ok(outcome === 'failed' || outcome === 'unknown', 'it does not count as a refusal');
    assert.deepEqual(await keys(), ['a']);
  });

  contract('lists by the bytes of UTF-8, in pages, from a key on', async (opened) => {
    const { store, bucket, put } = opened;
    const { listing } = store;
    if (listing === undefined) return;
    const odd = ['Z', 'a', 'a b', 'a/b', 'a0', '\u00E9', '\u{E000}x', '\uFFEEx', '😀', 'z'];
    for (const key of odd.toReversed()) await put(key);
    const list = async (request: Parameters<typeof listing.listObjects>[1]): Promise<string[]> => {
      const found: string[] = [];
      for await (const page of listing.listObjects(bucket, request)) {
        assert.ok(
          page.length <= (request?.pageSize ?? MOST_KEYS),
          'a page is no longer than asked',
        );
        for (const { key, size, lastModified } of page) {
          assert.ok(size >= 0 && lastModified.getTime() > 0, 'an object has a size and a date');
          found.push(key);
        }
      }
      return found;
    };
    const inOrder = odd.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    assert.deepEqual(await list({}), inOrder);
    assert.deepEqual(await list({ pageSize: 3 }), inOrder);
    assert.deepEqual(await list({ prefix: 'a' }), ['a', 'a b', 'a/b', 'a0']);
    assert.deepEqual(await list({ startAfter: 'a/b', pageSize: 2 }), inOrder.slice(4));
    assert.deepEqual(await list({ prefix: 'nothing' }), []);
    const missing = listing.listObjects(`${bucket}-missing`);
    await rejectsWith(missing[Symbol.asyncIterator]().next(), 'no-bucket');
  });

  contract('tells what is there from what is not', async ({ store, bucket, put }) => {
    const { listing } = store;
    if (listing === undefined) return;
    await put('a/b');
    assert.equal((await listing.headObject(bucket, 'a/b')).state, 'exists');
    for (const key of ['a', 'a/', 'a/b/c']) {
      assert.equal((await listing.headObject(bucket, key)).state, 'gone');
    }
    await rejectsWith(listing.headObject(`${bucket}-missing`, 'a'), 'no-bucket');
  });

  contract('purges keys for good', async ({ store, bucket, put, keys }) => {
    if (store.versions === undefined) return;
    await put('a');
    await put('b');
    expectDeleted(await store.versions.purgeKeys(bucket, ['a', 'gone']), ['a', 'gone']);
    assert.deepEqual(await keys(), ['b']);
  });

  contract('lets one of two writers win', async ({ store, bucket }) => {
    const { conditional } = store;
    if (conditional === undefined) return;
    const key = 'token';
    assert.equal(await conditional.readObject(bucket, key), undefined);
    assert.equal(await conditional.writeObject(bucket, { key, body: 'one' }), true);
    assert.equal(await conditional.writeObject(bucket, { key, body: 'two' }), false);
    const first = await conditional.readObject(bucket, key);
    assert.equal(first?.body, 'one');
    const instead = first?.etag ?? '';
    assert.equal(await conditional.writeObject(bucket, { key, body: 'three', instead }), true);
    assert.equal(await conditional.writeObject(bucket, { key, body: 'four', instead }), false);
    assert.equal((await conditional.readObject(bucket, key))?.body, 'three');
  });

  contract('may be closed twice', async ({ store }) => {
    await store.prepare?.();
    store.close();
    store.close();
  });
}

/** Each key is deleted, once, and nothing is open. */
function expectDeleted(report: DeletionReport, keys: readonly string[]): void {
  assert.deepEqual([...report.deleted].toSorted(), keys.toSorted());
  assert.deepEqual(report.failures, []);
  assert.equal(report.all, true);
  assert.deepEqual(report.unanswered, []);
}

/** By its shape: the class of the error may come from another copy of the package. */
interface StoreError {
  readonly kind: unknown;
  readonly outcome: unknown;
}

function storeErrorOf(error: unknown): StoreError {
  const isStoreError = error instanceof Error && error.name === 'ObjectStoreError';
  if (!isStoreError) throw new Error('expected an ObjectStoreError', { cause: error });
  return error as unknown as StoreError;
}

async function rejectsWith(call: Promise<unknown>, kind: string): Promise<void> {
  const error = await call.then(() => undefined, storeErrorOf);
  assert.equal(error?.kind, kind);
}
