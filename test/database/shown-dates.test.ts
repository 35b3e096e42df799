import { expect, test } from 'vitest';
import type { Explanation } from '../../src/store/explanation.ts';
import type { Reading } from '../../src/telemetry/cached-read.ts';
import type { Vitals } from '../../src/store/overview.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { snapshotAsJson } from '../../src/telemetry/snapshot.ts';
import { renderStatusPage } from '../../src/telemetry/status-page.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { snapshotOf } from '../support/snapshot.ts';
import { dueRuns } from '../support/due-runs.ts';

const AGES_AGO = '0044-03-15 12:00:00+00 BC';
const FAR_AHEAD = '12026-03-15 12:00:00+00';

const listener = { listening: true, provenAt: undefined, reconnects: 0, stopping: false };

describeDatabase('dates that no calendar of ours has', () => {
  const database = useMigrated({ before: 'alter table runs add column retain_until timestamptz' });

  async function insert(completedAt: string | null, retainUntil: string | null): Promise<string> {
    const [row] = await database().query<{ run_id: string }>(
      `insert into runs (
        run_id, tenant_id, status, completed_at, retain_until, result_s3_bucket, result_s3_key
      )
      values (gen_random_uuid(), 'odd', 'COMPLETED',
        coalesce($1::timestamptz, now() - interval '60 days'), $2, 'b', 'k')
      returning run_id::text`,
      [completedAt, retainUntil],
    );
    return row?.run_id ?? '';
  }

  /** All that people and programs are shown. */
  async function shown(runId: string): Promise<string> {
    const { store } = database();
    const vitals = await store.readVitals();
    const lists = await store.readOverview();
    const snapshot = snapshotOf(lists, vitals.status);
    const reading: Reading<Vitals> = { ok: true, value: vitals, at: new Date() };
    const metrics = createMetrics({
      readVitals: () => Promise.resolve(reading),
      listener: () => listener,
    });
    const { text } = await metrics.render();
    return [
      renderStatusPage(snapshot),
      snapshotAsJson(snapshot),
      text,
      JSON.stringify(await store.explain([runId])),
      JSON.stringify(await store.readWaitCauses()),
      JSON.stringify(await store.dueGroups({})),
      JSON.stringify(await dueRuns(database(), {})),
      JSON.stringify(await store.listHolds({ all: true })),
    ].join('\n');
  }

  test.each([
    ['a run completed at infinity', 'infinity', null],
    ['a run completed at minus infinity', '-infinity', null],
    ['a run completed before the year 1', AGES_AGO, null],
    ['a run completed in the year 12026', FAR_AHEAD, null],
    ['a run that is to be kept for ever', null, 'infinity'],
    ['a run that was to be kept until minus infinity', null, '-infinity'],
    ['a run that was to be kept until before the year 1', null, AGES_AGO],
    ['a run that is to be kept until the year 12026', null, FAR_AHEAD],
    ['a run of one odd date and another', AGES_AGO, FAR_AHEAD],
  ])('explain, status, metrics, page, dry run and JSON show %s', async (_, completed, until) => {
    const runId = await insert(completed, until);
    await database().store.placeHolds({ runIds: [await insert(until, completed)], reason: 'law' });
    expect(await shown(runId)).not.toMatch(/Invalid Date|\bNaN\b/u);
    await database().store.flagExpired({ by: 'test', whole: true });
    expect(await shown(runId)).not.toMatch(/Invalid Date|\bNaN\b/u);
    // A cleared run keeps its dates.
    await database().query('update runs set result_cleared_at = now()');
    expect(await shown(runId)).toContain(runId);
  });

  const explain = async (runId: string): Promise<Explanation | undefined> => {
    const [run] = await database().store.explain([runId]);
    return run;
  };

  test('"kept for ever" is said so', async () => {
    expect(await explain(await insert(null, 'infinity'))).toMatchObject({
      state: 'kept',
      because: 'its own retain-until date keeps it for ever',
      due_at: 'infinity',
    });
    expect(await explain(await insert('infinity', null))).toMatchObject({
      state: 'kept',
      because: 'its completion date is infinity, so it is kept for ever: correct the date',
      completed_at: 'infinity',
    });
    expect(await explain(await insert(null, FAR_AHEAD))).toMatchObject({
      state: 'kept',
      because: 'its own retain-until date keeps it until 12026-03-15T12:00:00.000Z',
      due_at: '12026-03-15 12:00:00+00',
    });
  });

  test('what was due before the year 1 is due, and is said to have been so for ages', async () => {
    const runId = await insert(AGES_AGO, null);
    expect(await explain(runId)).toMatchObject({
      state: 'due',
      because: expect.stringContaining('since 0044-04-14T12:00:00.000Z BC') as string,
      completed_at: '0044-03-15 12:00:00+00 BC',
    });
    const { due, due_since } = await database().store.readStatus();
    expect({ due, due_since }).toEqual({ due: 1, due_since: '0044-04-14 12:00:00+00 BC' });
    expect(await shown(runId)).toContain('retention_oldest_overdue_seconds +Inf');
  });

  test('a stamp of infinity is shown as the database has it', async () => {
    const runId = await insert(null, null);
    await database().query(`update runs set result_cleared_at = 'infinity'`);
    expect(await explain(runId)).toMatchObject({ state: 'cleared', cleared_at: 'infinity' });
  });
});
