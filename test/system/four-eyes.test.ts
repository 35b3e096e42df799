import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  type ObjectStore,
  RefusedError,
  readConfig,
  reconcile,
  releaseSurge,
  verify,
  withStore,
} from '../../src/index.ts';
import { runCli } from '../support/cli.ts';
import { describeDatabase } from '../support/database.ts';
import { OPERATOR, SECOND_OPERATOR, useGuarded } from '../support/rights-roles.ts';

const DAY_SECONDS = 86_400;

describeDatabase('four eyes, with two people who use the library and the command', () => {
  const database = useGuarded();
  let deleted: string[] = [];
  /** What the store lists. */
  let there: string[] = [];

  const objects: ObjectStore = {
    deleteObjects: (_bucket, keys) => {
      deleted.push(...keys);
      return Promise.resolve({ deleted: keys, all: true, failures: [], unanswered: [] });
    },
    listing: {
      async *listObjects() {
        yield there
          .toSorted()
          .map((key) => ({ key, size: 1, lastModified: new Date('2026-01-01') }));
      },
      headObject: () =>
        Promise.resolve({ state: 'exists', size: 1, lastModified: new Date('2026-01-01') }),
    },
    close: () => undefined,
  };
  const variables = (person: string): Record<string, string> => ({
    DATABASE_URL: database().urlAs(person),
    S3_RESULT_BUCKET: 'dpp-results',
    // Nobody is there: whatever asked S3 instead of the given store would fail.
    S3_ENDPOINT_URL: 'http://127.0.0.1:1',
    RETENTION_S3_MAX_ATTEMPTS: '1',
  });
  const of = (person: string) => ({ config: readConfig(variables(person)), objects });

  beforeEach(async () => {
    deleted = [];
    there = [];
    await database().query('update retention.setting set surge_guard = 5, four_eyes = true');
  });
  afterEach(() =>
    database().query(`alter table retention.setting disable trigger guard_setting;
      update retention.setting set four_eyes = false;
      alter table retention.setting enable trigger guard_setting; delete from retention.approval`),
  );

  /** Work that is refused, then asked for again by the same person, approved by the other, and done. */
  async function approved<Result>(work: () => Promise<Result>, kind: string): Promise<Result> {
    const refusal = await work().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(RefusedError);
    const { message } = refusal as RefusedError;
    const id = Number(/request (\d+) is filed, and nothing was changed/u.exec(message)?.[1]);
    await expect(work()).rejects.toThrow(`request ${id} is filed`);
    expect(deleted).toEqual([]);
    await expect(withStore(of(OPERATOR), (store) => store.approve(id))).rejects.toThrow(
      'another person approves it',
    );
    await withStore(of(SECOND_OPERATOR), async (store) => {
      const [request] = await store.listApprovals({ all: false });
      expect(request).toMatchObject({ kind, asked_by: OPERATOR });
      await store.approve(id);
    });
    return work();
  }

  test('an early deletion by reconcile() goes as it was approved, and no other with its number', async () => {
    const { insertRuns } = database();
    await insertRuns({ count: 3, completedAgo: '10 days' });
    await insertRuns({ count: 3, completedAgo: '10 days', tenant: 'globex' });
    const early = (tenantId: string) =>
      reconcile({
        ...of(OPERATOR),
        selection: { tenantId, olderThanSeconds: 7 * DAY_SECONDS, early: true, expected: 3 },
      });
    await expect(early('globex')).rejects.toThrow(RefusedError);
    const { cleared } = await approved(() => early('acme'), 'early');
    expect({ cleared, deleted: deleted.length }).toEqual({ cleared: 3, deleted: 3 });
    // What was asked for, and not approved, did not become possible by that, and the same again is another request.
    await insertRuns({ count: 3, completedAgo: '10 days' });
    await expect(early('globex')).rejects.toThrow(RefusedError);
    await expect(early('acme')).rejects.toThrow(RefusedError);
  });

  test('a selection of late results goes by reconcile() as approved: another tenant with as many does not', async () => {
    const { insertRuns } = database();
    await insertRuns({ count: 8 });
    await insertRuns({ count: 8, tenant: 'globex' });
    const late = (tenantId: string) =>
      reconcile({ ...of(OPERATOR), selection: { tenantId, expected: 8 } });
    await approved(async () => {
      await expect(late('globex')).rejects.toThrow(RefusedError);
      return late('acme');
    }, 'surge');
    expect(deleted).toHaveLength(8);
    await expect(late('globex')).rejects.toThrow(RefusedError);
    expect(deleted).toHaveLength(8);
  });

  test('so many runs that no person reads them all are approved by their digest', async () => {
    const runIds = await database().insertRuns({ count: 3_000, completedAgo: '10 days' });
    const early = () =>
      reconcile({
        ...of(OPERATOR),
        selection: { runIds, olderThanSeconds: 7 * DAY_SECONDS, early: true, expected: 3_000 },
      });
    expect(await approved(early, 'early')).toMatchObject({ cleared: 3_000 });
  });

  test('what verify() finds back is a surge, which two people release, by the library and by the command', async () => {
    const runs = await database().insertRuns({ count: 8, clearedAgo: '1 day' });
    there = runs.map((run) => `results/${run}`);
    expect(await verify(of(OPERATOR))).toMatchObject({ listed: 8 });
    await reconcile(of(OPERATOR));
    const [surge] = await withStore(of(OPERATOR), (store) => store.listSurges());
    expect({ surge, deleted }).toMatchObject({ surge: { results: 8 }, deleted: [] });
    const surgeId = surge?.surge_id ?? 0;
    const command = () =>
      runCli(['surge', 'release', String(surgeId), '--expect', '8'], {
        env: variables(OPERATOR),
      });
    const refused = await command();
    expect({ code: refused.code, stderr: refused.stderr }).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('the release of a surge needs two people') as string,
    });
    const released = await approved(
      () => releaseSurge({ ...of(OPERATOR), surgeId, expected: 8 }),
      'surge',
    );
    expect(released).toBe(8);
    // A plain reconcile of what two people have released needs nobody.
    expect(await reconcile(of(OPERATOR))).toMatchObject({ cleared: 8 });
    expect(deleted.toSorted()).toEqual(there.toSorted());
  });
});
