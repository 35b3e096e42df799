import { describe, expect, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { ObjectStoreError, type ObjectStoreErrorDetails } from '../../src/objects/store-failure.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import type { Store } from '../../src/store/store.ts';
import { type RecordingLogger, createRecordingLogger } from '../support/recording-logger.ts';

interface Told {
  readonly calls: readonly (readonly [name: string, ...args: unknown[]])[];
  readonly logger: RecordingLogger;
}

/** Works on one batch with the keys a, b and c; returns what the database was told. */
async function work(deleteObjects: ObjectStore['deleteObjects']): Promise<Told> {
  const calls: (readonly [name: string, ...args: unknown[]])[] = [];
  const logger = createRecordingLogger();
  const settled = { settled: true, cleared: 0, stamped: 0, failed: 0, dead: 0, problems: [] };
  const store = {
    claim: () =>
      Promise.resolve({
        batchId: 7,
        bucket: 'b',
        keys: ['a', 'b', 'c'],
        spared: 0,
        attempts: 0,
        purge: false,
      }),
    settle: (_batchId: number, _lease: string, outcome: { cleared: unknown; failed: unknown }) => {
      calls.push(['settle', outcome]);
      const problem = {
        code: 'NoSuchBucket',
        message: 'its words',
        results: 3,
        run_ids: ['1', '2', '3'],
      };
      const problems = outcome.cleared === 'all' ? [] : [problem];
      return Promise.resolve({ ...settled, retryAt: undefined, problems });
    },
    postpone: (_batchId: number, _lease: string, problem: unknown) => {
      calls.push(['postpone', problem]);
      return Promise.resolve(new Date(0));
    },
    split: (_batchId: number, _lease: string, more: unknown) => {
      calls.push(['split', more]);
      return Promise.resolve(true);
    },
  };
  const worker = createWorker({
    store: store as unknown as Store,
    objects: { deleteObjects },
    logger,
    name: 'test',
    leaseSeconds: 60,
    rateLimit: unlimited,
  });
  const { signal } = new AbortController();
  await worker.workOnce({ stop: signal, abort: signal });
  return { calls, logger };
}

function failing(
  details: Pick<
    ObjectStoreErrorDetails,
    'kind' | 'code' | 'outcome' | 'concerns' | 'unanswered' | 'requestIds'
  >,
): ObjectStore['deleteObjects'] {
  const reason = 'its words';
  return () =>
    Promise.reject(new ObjectStoreError({ ...details, bucket: 'b', reason, final: false }));
}

describe('a request that fails as a whole', () => {
  test('and was refused for the bucket counts against each result, the code said once', async () => {
    const { calls, logger } = await work(
      failing({
        kind: 'no-bucket',
        code: 'NoSuchBucket',
        outcome: 'refused',
        concerns: 'bucket',
      }),
    );
    const failure = { code: 'NoSuchBucket', reason: 'its words', outcome: 'refused', final: false };
    const failed = ['a', 'b', 'c'].map((key) => ({ key, concerns: 'bucket', ...failure }));
    expect(calls).toMatchObject([['settle', { cleared: [], failed, unanswered: [] }]]);
    expect(logger.lines[0]?.message).toBe(
      'Failed to delete S3 object for run 1 and 2 more: NoSuchBucket its words',
    );
  });

  test('and was refused for one of its keys is halved', async () => {
    const { calls } = await work(
      failing({ kind: 'malformed', code: 'MalformedXML', outcome: 'refused', concerns: 'key' }),
    );
    expect(calls).toEqual([['split', { unanswered: [] }]]);
  });

  test.each(['failed', 'unknown'] as const)(
    'and is %s waits, and counts for nothing',
    async (outcome) => {
      const { calls, logger } = await work(
        failing({
          kind: 'unavailable',
          code: 'InternalError',
          outcome,
          concerns: 'store',
          unanswered: ['b'],
          requestIds: ['R1'],
        }),
      );
      const problem = {
        code: 'InternalError',
        message: 'its words',
        unanswered: ['b'],
        requestIds: ['R1'],
      };
      expect(calls).toEqual([['postpone', problem]]);
      expect(logger.lines[0]?.message).toBe('Bucket b pauses: InternalError its words');
    },
  );
});

describe('a report', () => {
  test('that names every key clears the batch, without sending a key back', async () => {
    const { calls } = await work((_bucket, keys) =>
      Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: ['c'] }),
    );
    expect(calls).toMatchObject([['settle', { cleared: 'all', failed: [], unanswered: ['c'] }]]);
  });

  test('counts only what was refused, and leaves out what has no answer', async () => {
    const about = { reason: 'its words', concerns: 'key', final: true } as const;
    const { calls } = await work(() =>
      Promise.resolve({
        deleted: ['b'],
        all: false,
        failures: [{ key: 'a', code: 'AccessDenied', outcome: 'refused', ...about }],
        unanswered: ['c'],
      }),
    );
    const failed = [{ key: 'a', code: 'AccessDenied', outcome: 'refused', ...about }];
    expect(calls).toMatchObject([['settle', { cleared: ['b'], failed, unanswered: ['c'] }]]);
  });
});
