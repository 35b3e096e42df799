import { expect, onTestFinished, test } from 'vitest';
import { unlimited } from '../../src/lifecycle/rate-limit.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import { type Listener, createListener } from '../../src/reactor/listener.ts';
import { createWorker } from '../../src/reactor/worker.ts';
import type { Store } from '../../src/store/store.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { type RecordingLogger, createRecordingLogger } from '../support/recording-logger.ts';
import { until } from '../support/until.ts';

const DELETES: ObjectStore['deleteObjects'] = (_bucket, keys) =>
  Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: [] });

describeDatabase('what a listener says', () => {
  const database = useMigrated();

  interface Listening {
    readonly logger: RecordingLogger;
    readonly listener: Listener;
    /** The messages of level info and above that hold a text. */
    readonly said: (text: string) => string[];
  }

  async function listen(
    options: {
      readonly deleteObjects?: ObjectStore['deleteObjects'];
      readonly store?: Partial<Store>;
      readonly concurrency?: number;
    } = {},
  ): Promise<Listening> {
    const logger = createRecordingLogger();
    const store = { ...database().store, ...options.store };
    const worker = createWorker({
      store,
      objects: { deleteObjects: options.deleteObjects ?? DELETES },
      logger,
      name: 'test',
      leaseSeconds: 60,
      rateLimit: unlimited,
    });
    const listener = createListener({
      store,
      worker,
      logger,
      concurrency: options.concurrency ?? 1,
      pollSeconds: 60,
      shutdownGraceSeconds: 5,
    });
    await listener.start();
    onTestFinished(() => listener.stop());
    const said = (text: string): string[] =>
      logger.lines
        .filter(({ level, message }) => level !== 'debug' && message.includes(text))
        .map(({ message }) => message);
    return { logger, listener, said };
  }

  test('a starting listener does not repeat the last pass as news, and tells the next one once', async () => {
    const { insertRuns, insertRun, store, query } = database();
    await insertRuns({ count: 25 });
    await store.tick('internal');
    const { listener, said } = await listen();
    await until('the backlog is done', async () => (await database().countStamped()) === 25);
    expect(said('Found')).toEqual([]);
    await insertRun();
    await query('select retention.flag_expired()');
    listener.wake();
    await until('the next is done', async () => (await database().countStamped()) === 26);
    listener.wake();
    await until('it is told', () => Promise.resolve(said('cleanup completed').length === 2));
    await listener.stop();
    expect(said('Found')).toEqual(['Found 1 expired run for retention cleanup']);
    expect(said('cleanup completed').at(-1)).toBe(
      'Retention cleanup completed: 1 S3 object deleted, 1 run marked as cleared',
    );
  });

  test('a pass of its own first tick is news', async () => {
    await database().insertRuns({ count: 3 });
    const { said } = await listen();
    await until('they are done', async () => (await database().countStamped()) === 3);
    expect(said('Found')).toEqual(['Found 3 expired runs for retention cleanup']);
  });

  test('rows without an object are named once, in the singular too', async () => {
    await database().insertRuns({ count: 11, bucket: null });
    const { listener, said } = await listen();
    await until('they are told', () => Promise.resolve(said('missing S3 info').length === 11));
    listener.wake();
    await listener.stop();
    expect(said('more run')).toEqual(['1 more run missing S3 info, skipping']);
  });

  test('one denied batch of 1,000 is one ERROR line with bucket, code, count and three runs', async () => {
    await database().insertRuns({ count: 1_000, bucket: 'locked' });
    const { logger, listener } = await listen({
      deleteObjects: (bucket) =>
        Promise.reject(
          new ObjectStoreError({
            kind: 'denied',
            bucket,
            code: 'AccessDenied',
            reason: 'Access Denied',
            outcome: 'refused',
            concerns: 'bucket',
            final: false,
          }),
        ),
    });
    await until('it failed', () => Promise.resolve(logger.count('error') > 0));
    await listener.stop();
    expect(logger.lines.filter(({ level }) => level === 'error')).toEqual([
      {
        level: 'error',
        message: expect.stringMatching(
          /^Failed to delete S3 object for run \S+ and 999 more: AccessDenied$/u,
        ) as string,
        fields: {
          bucket: 'locked',
          results: 1_000,
          run_ids: [expect.any(String), expect.any(String), expect.any(String)],
        },
      },
    ]);
  });

  test.each([
    ['a throttling', 'throttled', 'SlowDown', 'Please reduce your request rate.'],
    ['a timeout', 'timeout', 'Timeout', 'no answer within 30000 ms'],
    ['a refused connection', 'unavailable', 'ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:9'],
    ['wrong credentials', 'credentials', 'InvalidAccessKeyId', 'The key does not exist.'],
  ] as const)('%s that meets every slot at once is one line', async (_, kind, code, reason) => {
    await database().set({ batch_size: '1' });
    await database().insertRuns({ count: 8, bucket: 'busy' });
    const { store, query } = database();
    await store.tick('internal');
    let asked = 0;
    let release = (): void => undefined;
    const all = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { said, listener } = await listen({
      concurrency: 4,
      deleteObjects: async (bucket) => {
        asked += 1;
        if (asked === 4) release();
        await all;
        throw new ObjectStoreError({
          kind,
          bucket,
          code,
          reason,
          outcome: 'failed',
          concerns: 'bucket',
          final: false,
        });
      },
    });
    await until('all four failed', async () => {
      const [row] = await query<{ failed: number }>(
        'select count(*)::int as failed from retention.batch where postponed > 0',
      );
      return row?.failed === 4;
    });
    await listener.stop();
    expect(said('pauses')).toHaveLength(1);
    expect(said(code)).toHaveLength(1);
    expect(said(code)[0]?.split(code)).toHaveLength(2);
  });

  test('a database that fails and works again: one line with the error, one when it is over', async () => {
    let failures = 3;
    const { logger, said } = await listen({
      store: {
        pulse: () => {
          failures -= 1;
          if (failures < 0) return database().store.pulse();
          return Promise.reject(Object.assign(new Error('the server closed'), { code: '57P01' }));
        },
      },
    });
    await until('it works again', () => Promise.resolve(said('works again').length > 0), {
      limitMs: 20_000,
    });
    expect(said('The retention cycle failed')[0]).toBe(
      'The retention cycle failed: the server closed (57P01)',
    );
    expect(said('works again')).toEqual([
      expect.stringMatching(/^The retention cycle works again after 3 failures in \d/u),
    ]);
    expect(logger.count('error')).toBeLessThanOrEqual(2);
  });
});
