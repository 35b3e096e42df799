import { expect, test } from 'vitest';
import { readConfig, UsageError, verify } from '../../src/index.ts';
import type { ObjectListing, ObjectStore } from '../../src/index.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('verify of the library, with an object store of the caller', () => {
  const database = useMigrated();

  const request = (objects: ObjectStore) => ({
    config: readConfig({
      DATABASE_URL: database().url,
      S3_RESULT_BUCKET: 'dpp-results',
      // Nobody is there: whatever asked S3 instead of the given store would fail.
      S3_ENDPOINT_URL: 'http://127.0.0.1:1',
      RETENTION_S3_MAX_ATTEMPTS: '1',
    }),
    objects,
  });
  const deleting = {
    deleteObjects: () => Promise.reject(new Error('nothing is to be deleted')),
    close: () => undefined,
  };

  test('lists with that store, and stamps what that store says is gone', async () => {
    const [gone = '', there = ''] = await database().insertRuns({
      count: 2,
      completedAgo: '5 days',
    });
    const listing: ObjectListing = {
      async *listObjects() {
        yield [{ key: `results/${there}`, size: 1, lastModified: new Date(0) }];
      },
      headObject: () => Promise.resolve({ state: 'gone' }),
    };
    expect(await verify(request({ ...deleting, listing }))).toMatchObject({
      listed: 1,
      stamped: 1,
    });
    expect((await database().run(gone)).result_cleared_at).not.toBeNull();
    expect((await database().run(there)).result_cleared_at).toBeNull();
  });

  test('says so where that store cannot list', async () => {
    const verifying = verify(request(deleting));
    await expect(verifying).rejects.toThrow(UsageError);
    await expect(verifying).rejects.toThrow('this object store cannot list objects');
  });
});
