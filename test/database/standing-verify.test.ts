import { expect, onTestFinished, test } from 'vitest';
import { openStandingVerify } from '../../src/assembly-standing.ts';
import { createReactor, readConfig } from '../../src/index.ts';
import { silentLogger } from '../../src/logger.ts';
import type { ObjectListing } from '../../src/objects/abilities.ts';
import type { ObjectStore } from '../../src/objects/object-store.ts';
import { createS3ObjectStore } from '../../src/objects/s3/object-store.ts';
import { checkStandingVerify } from '../../src/reactor/doctor/standing-check.ts';
import { createStandingVerify } from '../../src/reactor/standing-verify.ts';
import { verify } from '../../src/reactor/verify.ts';
import { describeDatabase } from '../support/database.ts';
import { type ListedBucket, listedBucket } from '../support/listed-bucket.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { until } from '../support/until.ts';
import { DEFAULT_USERS, type MemoryS3Request, startMemoryS3 } from '../stack/memory-s3.ts';

const BUCKET = 'dpp-results';

describeDatabase('the standing verify', () => {
  const database = useMigrated();

  const state = async () => (await database().store.readStandingVerifies())[0];
  /** As if it were time for the next step of every bucket that is being verified. */
  const pass = () =>
    database().query(
      `update retention.standing_verify set next_at = now() where verify_id is not null or finished_at is null`,
    );
  /** As if the last verify had begun so long ago as the next one waits for, and what it found were to be looked at again. */
  const passAll = () =>
    database().query(
      `update retention.standing_verify set next_at = now(), rechecked_at = now() - interval '1 hour'`,
    );

  /** A listener's loop; `step` lets time pass until it has done something. */
  function listenerOf(bucket: ListedBucket, buckets: readonly string[] = [BUCKET]) {
    const logger = createRecordingLogger();
    let steps = 0;
    const { store } = database();
    const loop = createStandingVerify({
      store: {
        ...store,
        nextStandingStep: async (...request) => {
          const next = await store.nextStandingStep(...request);
          steps += 1;
          return next;
        },
      },
      listing: bucket.listing,
      logger,
      buckets,
      everyDays: 7,
      pollSeconds: 60,
    });
    onTestFinished(() => loop.stop());
    const step = async () => {
      const before = steps;
      await until('a step is done', async () => {
        await pass();
        loop.wake();
        return steps >= before + 2;
      });
    };
    const finish = async () => {
      const before = (await state())?.finished_at ?? null;
      for (let left = 30; left > 0; left -= 1) {
        await step();
        const after = await state();
        if (after !== undefined && after.finished_at !== before && !after.is_running) return after;
      }
      throw new Error('it comes to no end');
    };
    return { loop, logger, step, finish };
  }

  /** Live rows with an object, two without, a cleared one with an object, and an orphan. */
  async function makeDrift() {
    const live = await database().insertRuns({ count: 3, completedAgo: '3 days' });
    const [dueGone, youngGone] = [
      await database().insertRun({ completedAgo: '31 days' }),
      await database().insertRun({ completedAgo: '2 days' }),
    ];
    const back = await database().insertRun({ clearedAgo: '1 day' });
    // Too young to be judged: its object may still come.
    await database().insertRun({ completedAgo: '5 minutes' });
    const keys = [...live.map(keyOf), keyOf(back), 'results/orphan', '.retention/canary/1'];
    return { keys, dueGone, youngGone, back };
  }

  test('finds drift of both kinds and orphans, counts them, and changes nothing', async () => {
    // Deleted by a listener at this moment: it stamps the row itself.
    await database().insertRun();
    await database().query('select retention.flag_expired()');
    await database().claimNext();
    const { keys, dueGone, youngGone, back } = await makeDrift();
    const bucket = listedBucket(keys);
    // Not there when its page is listed, and there when it is looked for.
    await database().insertRun({ completedAgo: '3 days', key: 'a/late' });
    const listing: ObjectListing = {
      ...bucket.listing,
      headObject: (...request) => {
        bucket.keys.add('a/late');
        return bucket.listing.headObject(...request);
      },
    };
    const { loop, logger, finish } = listenerOf({ ...bucket, listing });
    const before = await database().query('select * from runs order by run_id');
    await loop.start();
    expect(await finish()).toMatchObject({
      bucket: BUCKET,
      every_seconds: 7 * 86_400,
      listed: 5,
      gone: 2,
      returned: 1,
      orphans: 1,
      orphan_bytes: 7,
      code: null,
    });
    const kept = await database().query<{ run_id: string }>(
      'select run_id from retention.standing_gone',
    );
    expect(kept.map((row) => row.run_id).toSorted()).toEqual([dueGone, youngGone].toSorted());
    // Each missing object was asked for by name before it counted.
    for (const runId of [dueGone, youngGone]) expect(bucket.heads).toContain(keyOf(runId));
    expect(bucket.heads).toContain('a/late');
    expect(await database().query('select * from runs order by run_id')).toEqual(before);
    const { flagged } = await database().store.readStatus();
    expect(flagged).toBe(1);
    expect(await database().query('select from retention.receipt')).toEqual([]);
    expect(await database().query('select from retention.stray')).toEqual([]);
    expect(await database().query('select from retention.key_copy')).toEqual([]);
    expect(logger.lines.filter(({ level }) => level === 'warning')).toMatchObject([
      { fields: { remedy: 'retention reconcile --verify --bucket dpp-results' } },
    ]);
    expect((await database().store.readVitals()).verifies).toMatchObject([{ gone: 2 }]);

    expect(await checkStandingVerify(database().store)).toMatchObject([
      { state: 'warning', remedy: 'Run: retention reconcile --verify --bucket dpp-results' },
    ]);

    // What a command repairs is no drift any more, and nor is what the cycle has stamped.
    await verify({
      store: database().store,
      objects: { listing: bucket.listing },
      logger: silentLogger,
      buckets: [BUCKET],
    });
    expect((await state())?.returned).toBe(0);
    await passAll();
    await database().store.nextStandingStep([BUCKET], 7);
    expect(await state()).toMatchObject({ gone: 0, returned: 0 });
    expect((await database().run(back)).result_cleared_at).toBeNull();
  });

  test('counts all that is gone where much is, and looks again when what it has kept is repaired', async () => {
    await database().insertRuns({ count: 1_100, completedAgo: '3 days' });
    const bucket = listedBucket([], { pageSize: 1_000 });
    const { loop, finish } = listenerOf(bucket);
    await loop.start();
    expect(await finish()).toMatchObject({ listed: 0, gone: 1_100 });
    expect(bucket.heads).toEqual([]);
    await loop.stop();
    await database().query(`update runs set result_cleared_at = now()
      where run_id in (select g.run_id from retention.standing_gone g)`);
    await database().query(
      `update retention.standing_verify set rechecked_at = now() - interval '11 minutes'`,
    );
    expect(await database().store.nextStandingStep([BUCKET], 7)).toMatchObject({
      step: 'list',
      afterKey: undefined,
    });
    expect(await state()).toMatchObject({ gone: 100, is_running: true });
  });

  test('goes on where it was ended, also by another listener, and repeats one page', async () => {
    const runs = await database().insertRuns({ count: 7, completedAgo: '3 days' });
    const bucket = listedBucket(runs.slice(1).map(keyOf));
    const first = listenerOf(bucket);
    await first.loop.start();
    await until('a page is compared', async () => (await state())?.listed_now === 2);
    await first.loop.stop();
    expect((await database().store.nextStandingStep([BUCKET], 7)).step).toBe('wait');
    // Killed at its next step, of which it wrote nothing down.
    await pass();
    const taken = await database().store.nextStandingStep([BUCKET], 7);
    if (taken.step === 'wait') throw new Error('nothing was taken');
    const second = listenerOf(bucket);
    await second.loop.start();
    expect(await second.finish()).toMatchObject({ listed: 6, gone: 1, returned: 0, orphans: 0 });
    const keys = runs.slice(1).map(keyOf).toSorted();
    expect(bucket.pages.map(({ after }) => after)).toEqual([undefined, keys[1], keys[3], keys[5]]);
    // What the one that was killed brings late is not written down.
    expect(await database().store.noteStandingPage(taken, undefined, [])).toBe(false);
    expect(await database().store.endStanding(taken)).toBeUndefined();
  });

  test('of two listeners one works, one bucket after the other, one page at a time', async () => {
    await database().insertRuns({ count: 2, completedAgo: '3 days' });
    const ask = () => database().store.nextStandingStep([BUCKET, 'other'], 7);
    const both = await Promise.all([ask(), ask(), ask()]);
    const work = both.flatMap((it) => (it.step === 'wait' ? [] : [it]));
    expect(work).toHaveLength(1);
    const [taken] = work;
    if (taken === undefined) throw new Error('nothing was taken');
    expect((await ask()).step).toBe('wait');
    await database().store.noteStandingPage(taken, undefined, []);
    const next = await ask();
    expect(next.step).toBe('wait');
    await database().query(
      `update retention.standing_verify set next_at = now() where verify_id is not null`,
    );
    expect(await ask()).toMatchObject({ bucket: taken.bucket });
    // What cannot go on keeps no other bucket waiting.
    await database().store.noteStandingProblem(taken, { code: 'SlowDown', reason: 'Reduce' });
    expect((await ask()).step).toBe('wait');
    await pass();
    const again = await ask();
    if (again.step === 'wait') throw new Error('nothing was taken');
    await database().store.noteStandingProblem(again, { code: 'SlowDown', reason: 'Reduce' });
    const others = await ask();
    expect(others.step).toBe('list');
    expect(others).not.toMatchObject({ bucket: again.bucket });
  });

  test('a late answer is refused, and so is one for a verify that an operator has begun', async () => {
    const { query, one, store } = database();
    const next = (): Promise<{ verify_id: string; holder: string }> =>
      one(`select * from retention.next_standing_step(array['dpp-results'], '30 days')`);
    const note = (run: { verify_id: string; holder: string }): Promise<unknown> =>
      one(`select retention.note_standing_page($1, $2, null, '{}', '{}', '{}', '{}') as is_noted`, [
        run.verify_id,
        run.holder,
      ]);
    const late = await next();
    await query(`update retention.standing_verify set next_at = now() - interval '1 second'`);
    const now = await next();
    expect(now.verify_id).toBe(late.verify_id);
    expect(await note(late)).toEqual({ is_noted: false });
    expect(await note(now)).toEqual({ is_noted: true });
    await store.resumeVerify({
      bucket: 'dpp-results',
      prefixes: [],
      kind: 'repair',
      restart: true,
    });
    const operators = await one<{ verify_id: string; holder: string }>(
      `select verify_id, holder from retention.verify_run where kind = 'repair'`,
    );
    expect(await note(operators)).toEqual({ is_noted: false });
  });

  test('spreads its pages over the days that it has, a second apart at least', async () => {
    await database().insertRuns({ count: 2, completedAgo: '3 days' });
    const begun = await database().store.nextStandingStep([BUCKET], 10);
    if (begun.step === 'wait') throw new Error('nothing was taken');
    /** Seconds until the next page, where so many of so many are listed. */
    const pauseAt = async (pages: number, expected: number, daysAgo = 0): Promise<number> => {
      await database().query(
        `update retention.standing_verify
        set pages = $1, expected = $2, began_at = now() - make_interval(days => $3)`,
        [pages, expected, daysAgo],
      );
      const [row] = await database().query<{ seconds: number }>(
        `select extract(epoch from retention._standing_pause(s))::float8 as seconds from retention.standing_verify s`,
      );
      return row?.seconds ?? 0;
    };
    // Nine days of ten: 777,600 seconds.
    expect(await pauseAt(0, 77_760)).toBeCloseTo(10, 1);
    expect(await pauseAt(38_880, 77_760, 8)).toBeCloseTo(86_400 / 38_880, 1);
    expect(await pauseAt(0, 3)).toBe(60);
    expect(await pauseAt(0, 9_000_000)).toBe(1);
    expect(await pauseAt(77_761, 77_760, 20)).toBe(1);
    // More is listed than was expected: about half as much is to come.
    expect(await pauseAt(77_760, 1_000)).toBeCloseTo(20, 0);
    const finished = listenerOf(listedBucket([]));
    await finished.loop.start();
    await finished.finish();
    await finished.loop.stop();
    await database().query(
      `update retention.standing_verify set began_at = now() - interval '6 days', next_at = now() + interval '1 day'`,
    );
    expect((await database().store.nextStandingStep([BUCKET], 7)).step).toBe('wait');
    expect((await database().store.nextStandingStep([BUCKET], 5)).step).toBe('list');
  });

  test('that may not list is off: it says so once, and doctor too', async () => {
    const bucket = listedBucket([]);
    const s3 = await startMemoryS3();
    onTestFinished(() => s3.stop());
    s3.createBucket(BUCKET);
    const objects = createS3ObjectStore({
      endpoint: s3.endpoint,
      region: s3.region,
      clientConfig: { credentials: DEFAULT_USERS[1] },
    });
    onTestFinished(() => objects.close());
    const { loop, logger, step } = listenerOf({ ...bucket, listing: objects.listing });
    await loop.start();
    await step();
    await step();
    expect(await state()).toMatchObject({ is_off: true, code: 'AccessDenied', finished_at: null });
    const warnings = logger.lines.filter(({ level }) => level === 'warning');
    expect(warnings).toHaveLength(1);
    expect(warnings[0]?.fields['remedy']).toContain('s3:ListBucket');
    const [check] = await checkStandingVerify(database().store);
    expect(check?.state).toBe('warning');
    expect(check?.remedy).toContain('s3:ListBucket');
  });

  test('is done by a listener against a real store, and by none that was not told to', async () => {
    const requests: MemoryS3Request[] = [];
    const s3 = await startMemoryS3({ onRequest: (request) => void requests.push(request) });
    onTestFinished(() => s3.stop());
    s3.createBucket(BUCKET);
    const { keys, dueGone } = await makeDrift();
    // The listener would delete it.
    await database().query('delete from runs where run_id = $1', [dueGone]);
    for (const key of keys) s3.putObject(BUCKET, key);
    const start = async (env: Record<string, string>) => {
      const objects = createS3ObjectStore({
        endpoint: s3.endpoint,
        region: s3.region,
        clientConfig: { credentials: DEFAULT_USERS[0] },
      });
      const reactor = createReactor({
        config: readConfig({
          DATABASE_URL: database().url,
          S3_RESULT_BUCKET: BUCKET,
          RETENTION_CANARY_SECONDS: '0',
          RETENTION_HTTP_PORT: '0',
          RETENTION_POLL_SECONDS: '1',
          ...env,
        }),
        objects,
      });
      onTestFinished(async () => {
        await reactor.stop();
        objects.close();
      });
      await reactor.start();
      await until('it listens', () => reactor.listening().listening);
      return reactor;
    };
    const isListing = ({ operation }: MemoryS3Request): boolean => operation === 'ListObjectsV2';
    const idle = await start({});
    await idle.stop();
    const logger = createRecordingLogger();
    const objects = { listing: listedBucket([]).listing } as ObjectStore;
    const any = { S3_RESULT_BUCKET: '*', RETENTION_VERIFY_DAYS: '1' };
    const config = readConfig({ DATABASE_URL: database().url, ...any });
    expect(openStandingVerify(config, { objects, logger })).toBeUndefined();
    expect(logger.lines[0]?.message).toContain('S3_RESULT_BUCKET names no bucket');
    expect(requests.filter(isListing)).toEqual([]);
    expect(await state()).toBeUndefined();

    const reactor = await start({ RETENTION_VERIFY_DAYS: '1' });
    const found = await until('it has come to its end', async () => {
      await pass();
      const now = await state();
      return now?.finished_at === null ? undefined : now;
    });
    expect(found).toMatchObject({ gone: 1, returned: 1, orphans: 0, listed: 5 });
    const at = `http://127.0.0.1:${reactor.httpPort() ?? 0}`;
    const metrics = await until('the gauges are there', async () => {
      const text = await (await fetch(`${at}/metrics`)).text();
      return text.includes('retention_verify_age_seconds{') ? text : undefined;
    });
    expect(metrics).toContain('retention_drift_results{bucket="dpp-results",kind="gone"} 1');
    expect(metrics).toContain('retention_drift_results{bucket="dpp-results",kind="returned"} 1');
    expect(metrics).toContain('retention_verify_interval_seconds{bucket="dpp-results"} 86400');
    expect(await (await fetch(at)).text()).toContain('Drift in bucket dpp-results');
    expect(await (await fetch(`${at}/status.json`)).json()).toMatchObject({
      verifies: [{ gone: 1, returned: 1 }],
    });
    expect(requests.every(({ operation }) => !operation.startsWith('Delete'))).toBe(true);
  });
});
