import { describe, expect, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import type { ObjectState } from '../../src/objects/abilities.ts';
import { lookForObjects } from '../../src/reactor/first-look.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import type { Store } from '../../src/store/store.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';

const KEYS = Array.from({ length: 1_000 }, (_, index) => `key-${index}`);

type State = ObjectState['state'];

/** Looks for the keys, of which each is in the given state. */
async function look(keys: readonly string[], stateOf: (key: string) => State) {
  const asked: string[] = [];
  const noted: unknown[] = [];
  const found = await lookForObjects('bucket', keys, {
    place: 'store',
    listing: {
      headObject: (_bucket, key) => {
        asked.push(key);
        const state = stateOf(key);
        return Promise.resolve(
          state === 'denied' ? { state, code: 'c', reason: 'r', missingAction: 'm' } : { state },
        );
      },
    },
    store: {
      noteLook: (_bucket, it) => {
        noted.push(it);
        return Promise.resolve(true);
      },
    },
  });
  return { ...found, asked, noted };
}

describe('a look', () => {
  test('is at twenty keys from all over the batch', async () => {
    const { asked, looked } = await look(KEYS, () => 'exists');
    expect(asked).toHaveLength(20);
    expect(looked).toBe(20);
    expect(asked).toContain('key-0');
    expect(asked).toContain('key-950');
  });

  test('counts for nothing what may not be looked at', async () => {
    const { noted } = await look(KEYS, () => 'denied');
    expect(noted).toMatchObject([{ looked: 0, missing: [] }]);
  });

  test('names first what is written as a place', async () => {
    const { noted } = await look(['a', '/b', 's3://bucket/c'], () => 'gone');
    expect(noted).toMatchObject([{ missing: ['/b', 's3://bucket/c', 'a'] }]);
  });
});

describe('a worker', () => {
  /** Works on one batch; returns what the database and the store were told. */
  async function work({ lookedIn = undefined as string | undefined, mayGoOn = true }) {
    const calls: string[] = [];
    const claim = {
      batchId: 7,
      bucket: 'b',
      keys: ['a'],
      spared: 0,
      attempts: 0,
      purge: false,
      habits: { checksum: 'md5' },
      lookedIn,
      cut: [],
    };
    const settled = { settled: true, cleared: 1, stamped: 1, failed: 0, dead: 0, problems: [] };
    const store = {
      claim: () => Promise.resolve(claim),
      noteLook: () => Promise.resolve(mayGoOn),
      learnHabits: (_bucket: string, { habits }: { habits: unknown }) => {
        calls.push(`learn ${JSON.stringify(habits)}`);
        return Promise.reject(new Error('the database is away'));
      },
      settle: () => {
        calls.push('settle');
        return Promise.resolve({ ...settled, retryAt: undefined });
      },
      postpone: (_batch: number, _lease: string, { code }: { code: string }) => {
        calls.push(`postpone ${code}`);
        return Promise.resolve(new Date(0));
      },
    };
    const worker = createWorker({
      store: store as unknown as Store,
      objects: {
        place: 'store',
        listing: {
          listObjects: () => {
            throw new Error('not wanted');
          },
          headObject: () => {
            calls.push('look');
            return Promise.resolve({ state: 'gone' });
          },
        },
        deleteObjects: (_bucket, keys, options) => {
          calls.push(`delete with ${JSON.stringify(options?.habits)}`);
          const learned = { habits: { keys_per_request: 62 }, because: 'a test' };
          return Promise.resolve({
            deleted: keys,
            all: true,
            failures: [],
            unanswered: [],
            learned,
          });
        },
      },
      logger: createRecordingLogger(),
      name: 'test',
      leaseSeconds: 60,
      rateLimit: unlimited,
    });
    const { signal } = new AbortController();
    await worker.workOnce({ stop: signal, abort: signal });
    return calls;
  }

  test('looks before the first deletion in a store, and deletes nothing where objects are missing', async () => {
    expect(await work({ mayGoOn: false })).toEqual(['look', 'postpone ObjectsMissing']);
  });

  test('looks again in another store', async () => {
    expect(await work({ lookedIn: 'another', mayGoOn: false })).toEqual([
      'look',
      'postpone ObjectsMissing',
    ]);
  });

  test('looks no more where it has, hands on what is known, and settles what it cannot note', async () => {
    expect(await work({ lookedIn: 'store' })).toEqual([
      'delete with {"checksum":"md5"}',
      'learn {"keys_per_request":62}',
      'settle',
    ]);
  });
});
