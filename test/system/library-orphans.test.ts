import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  type ListedObject,
  type ObjectStore,
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
    const objects = new Map<string, ListedObject>(
      keys.map((key) => [key, { key, size: 1, lastModified: new Date('2026-01-01') }]),
    );
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
    return { store, asked, keys: () => [...objects.keys()] };
  }

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
