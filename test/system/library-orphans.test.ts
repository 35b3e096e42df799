import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  type ListedObject,
  type ObjectStore,
  ObjectStoreError,
  RefusedError,
  UsageError,
  deleteOrphans,
  listOrphans,
  orphanLists,
  readConfig,
} from '../../src/index.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('orphans of the library, with an object store of the caller', () => {
  const database = useMigrated();

  /** A store of one bucket, in a map. */
  function makeStore(keys: readonly string[]) {
    const objects = new Map<string, ListedObject>(keys.map((key) => [key, entry(key)]));
    const asked: (readonly string[])[] = [];
    const store: ObjectStore = {
      deleteObjects: (_bucket, wanted) => {
        asked.push(wanted);
        for (const key of wanted) objects.delete(key);
        return Promise.resolve({ deleted: wanted, all: true, failures: [], unanswered: [] });
      },
      listing: {
        async *listObjects(_bucket, { prefix = '', startAfter = '' } = {}) {
          yield [...objects.values()]
            .filter(({ key }) => key.startsWith(prefix) && key > startAfter)
            .toSorted((one, other) => (one.key < other.key ? -1 : 1));
        },
        headObject: (_bucket, key) => {
          const found = objects.get(key);
          return Promise.resolve(found ? { state: 'exists', ...found } : { state: 'gone' });
        },
      },
      close: () => undefined,
    };
    return { store, asked, keys: () => [...objects.keys()], objects };
  }

  const entry = (key: string): ListedObject => ({
    key,
    size: 1,
    lastModified: new Date('2026-01-01'),
  });

  const config = () =>
    readConfig({
      DATABASE_URL: database().url,
      S3_RESULT_BUCKET: 'dpp-results',
      // Nobody is there: whatever asked S3 instead of the given store would fail.
      S3_ENDPOINT_URL: 'http://127.0.0.1:1',
      RETENTION_S3_MAX_ATTEMPTS: '1',
    });

  function makeFile(): string {
    const folder = mkdtempSync(join(tmpdir(), 'retention-orphans-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    return join(folder, 'orphans.jsonl');
  }

  test('a list is made, refused for an hour and without its number, and then deleted exactly', async () => {
    const [live = ''] = await database().insertRuns({ completedAgo: '5 days' });
    const { store, keys } = makeStore([`results/${live}`, 'orphan/1', 'orphan/2']);
    const request = { config: config(), objects: store, file: makeFile() };
    expect(await listOrphans(request)).toMatchObject({
      listed: 3,
      orphans: 2,
      bucket: 'dpp-results',
    });
    await expect(listOrphans(request)).rejects.toThrow(UsageError);
    await expect(deleteOrphans(request)).rejects.toThrow(RefusedError);
    await database().query(`update retention.orphan_list set made_at = now() - interval '1 hour'`);
    await expect(deleteOrphans(request)).rejects.toThrow('more than a tenth');
    expect(keys()).toHaveLength(3);
    expect(await deleteOrphans({ ...request, expected: 2, by: 'ada' })).toMatchObject({
      listed: 2,
      deleted: 2,
      deletedBytes: 2,
      failed: 0,
      notReached: 0,
      stopped: undefined,
    });
    expect(keys()).toEqual([`results/${live}`]);
    expect(await orphanLists(request)).toMatchObject([{ deleted: 2, begun_by: 'ada' }]);
  });

  /** A list of two orphans that is old enough, of a store that tells etags. */
  async function listTwo(deleteObjects: ObjectStore['deleteObjects']) {
    await database().insertRuns({ completedAgo: '5 days' });
    const { store, keys, objects } = makeStore(['orphan/1', 'orphan/2']);
    for (const key of keys()) objects.set(key, { ...entry(key), etag: `old-of-${key}` });
    const request = {
      config: config(),
      objects: { ...store, deleteObjects },
      file: makeFile(),
      expected: 2,
    };
    await listOrphans(request);
    await database().query(`update retention.orphan_list set made_at = now() - interval '1 hour'`);
    return { request, objects, keys };
  }

  test('an object that is written again when it was looked at already is spared, by the etag of the list', async () => {
    const named: ReadonlyMap<string, string>[] = [];
    const { request, objects } = await listTwo(async (_bucket, wanted, { etags } = {}) => {
      named.push(etags ?? new Map());
      // With the same size, in the same second, and after the last look.
      objects.set('orphan/2', { ...entry('orphan/2'), etag: 'new' });
      const changed = wanted.filter((key) => objects.get(key)?.etag !== etags?.get(key));
      const deleted = wanted.filter((key) => !changed.includes(key));
      for (const key of deleted) objects.delete(key);
      const failures = changed.map((key) => ({
        key,
        code: 'PreconditionFailed',
        reason: 'another version',
        outcome: 'changed' as const,
        concerns: 'key' as const,
        final: true,
      }));
      return { deleted, all: false, failures, unanswered: [] };
    });
    expect(await deleteOrphans(request)).toMatchObject({
      deleted: 1,
      spared: { changed: 1 },
      failed: 0,
      notReached: 0,
      stopped: undefined,
    });
    expect(named).toEqual([
      new Map([
        ['orphan/1', 'old-of-orphan/1'],
        ['orphan/2', 'old-of-orphan/2'],
      ]),
    ]);
    expect([...objects.values()]).toMatchObject([{ key: 'orphan/2', etag: 'new' }]);
  });

  test('a second deletion of the same list at once is refused, and the first counts as if alone', async () => {
    const second: unknown[] = [];
    const { request } = await listTwo(async (_bucket, wanted) => {
      second.push(await deleteOrphans(request).catch((error: unknown) => error));
      return { deleted: wanted, all: true, failures: [], unanswered: [] };
    });
    expect(await deleteOrphans(request)).toMatchObject({ deleted: 2, failed: 0 });
    expect(second).toEqual([expect.any(RefusedError)]);
    expect(String(second[0])).toContain(`process ${process.pid} of`);
    expect(await orphanLists(request)).toMatchObject([{ deleted: 2, spared: 0, failed: 0 }]);
    expect(existsSync(`${request.file}.lock`)).toBe(false);
    // What a process that was killed has left keeps nobody waiting; another host's has to be looked at.
    writeFileSync(`${request.file}.lock`, JSON.stringify({ host: hostname(), pid: 2 ** 22 + 1 }));
    expect(await deleteOrphans(request)).toMatchObject({ deleted: 2, resumed: true });
    writeFileSync(`${request.file}.lock`, JSON.stringify({ host: 'elsewhere', pid: 1 }));
    await expect(deleteOrphans(request)).rejects.toThrow('process 1 of elsewhere is deleting');
  });

  test('an etag that is another one when it is looked at is spared without being asked for', async () => {
    const asked: (readonly string[])[] = [];
    const { request, objects } = await listTwo((_bucket, wanted) => {
      asked.push(wanted);
      return Promise.resolve({ deleted: wanted, all: true, failures: [], unanswered: [] });
    });
    objects.set('orphan/2', { ...entry('orphan/2'), etag: 'new' });
    expect(await deleteOrphans(request)).toMatchObject({ deleted: 1, spared: { changed: 1 } });
    expect(asked).toEqual([['orphan/1']]);
  });

  test.each([
    ['refuses a request with an etag', undefined],
    ['is said to ignore etags', { conditional: 'ignored' }],
  ])('a store that %s is asked without one', async (_, habits) => {
    const asked: boolean[] = [];
    const { request } = await listTwo((bucket, wanted, { etags } = {}) => {
      asked.push(etags !== undefined);
      if (etags !== undefined) {
        throw new ObjectStoreError({
          bucket,
          kind: 'unavailable',
          code: 'ConditionRefused',
          reason: 'the store refuses to delete an object by its etag',
          outcome: 'failed',
          concerns: 'bucket',
          final: false,
        });
      }
      return Promise.resolve({ deleted: wanted, all: true, failures: [], unanswered: [] });
    });
    if (habits !== undefined) {
      await database().query(`select retention.set_habits('dpp-results', $1, 'ada', true)`, [
        habits,
      ]);
    }
    expect(await deleteOrphans(request)).toMatchObject({ deleted: 2, stopped: undefined });
    expect(asked).toEqual(habits === undefined ? [true, false] : [false]);
  });

  test('a margin below an hour and an empty text are errors', async () => {
    const request = { config: config(), objects: makeStore(['orphan']).store, file: makeFile() };
    for (const wrong of [
      { marginSeconds: 0 },
      { marginSeconds: 3_599 },
      { marginSeconds: Number.NaN },
      { prefix: '' },
      { bucket: '' },
      { bucket: 'another' },
    ]) {
      await expect(listOrphans({ ...request, ...wrong })).rejects.toThrow(UsageError);
    }
    expect(existsSync(request.file)).toBe(false);
  });

  test('where every version is to go, a store that cannot do that deletes nothing', async () => {
    await database().insertRun({ completedAgo: '5 days' });
    const { store, asked } = makeStore(['orphan']);
    const request = { config: config(), objects: store, file: makeFile() };
    await listOrphans(request);
    await database().query(`update retention.orphan_list set made_at = now() - interval '1 hour'`);
    await database().query(
      `insert into retention.bucket (bucket, on_versioned) values ('dpp-results', 'purge')`,
    );
    expect(await deleteOrphans({ ...request, expected: 1 })).toMatchObject({
      deleted: 0,
      notReached: 1,
      stopped: { because: expect.stringContaining('every version') as string, isRefused: false },
    });
    expect(asked).toEqual([]);
    expect(await database().query('select from retention.unanswered')).toEqual([]);
  });
});
