import { expect, test } from 'vitest';
import { SETTINGS } from '../../src/config/settings.ts';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { addressOf } from '../support/scrape.ts';
import { until } from '../support/until.ts';

const ROUNDS = 2;
const RESULTS_AT_FIRST = 3_000;
const RESULTS_PER_WAVE = 100;
/** Enough that every listener has work, whatever the machine. */
const BACKLOG_BATCHES = 100;
const WAITS = 'settled_at is null';
const WAIT = { limitMs: 120_000, pollMs: 20 };
const GRACE_MS = SETTINGS.shutdownGraceSeconds.default * 1_000;

describeDatabase('a rolling update of two listeners under load', () => {
  const stack = useCliStack();
  const count = async (condition: string): Promise<number> => {
    const { found } = await stack
      .database()
      .one<{ found: number }>(
        `select count(*)::int as found from retention.batch where ${condition}`,
      );
    return found;
  };

  /** As a Deployment does it: the new one is ready before the old one is told to stop. */
  test('loses nothing and deletes nothing twice', { timeout: 300_000 }, async () => {
    await stack.database().set({ batch_size: '10', flag_limit: '1000' });
    await stack.insertResults({ count: RESULTS_AT_FIRST });
    await flag();
    const running = [await startReady(), await startReady()];
    const flow = keepFlagging();
    try {
      for (let restart = 0; restart < ROUNDS * running.length; restart += 1) {
        const successor = await startReady();
        const old = running[restart % running.length];
        running[restart % running.length] = successor;
        if (old !== undefined) await stopInFlight(old);
      }
    } finally {
      flow.stop();
    }
    const total = RESULTS_AT_FIRST + (await flow.inserted);
    await flag();
    await until('all is settled', async () => (await count(WAITS)) === 0, WAIT);

    const deleted = stack
      .requests()
      .flatMap(({ operation, keys }) => (operation === 'DeleteObjects' ? keys : []));
    expect(new Set(deleted).size).toBe(total);
    expect(deleted).toHaveLength(total);
    expect(await stack.countCleared()).toBe(total);
    // Nothing failed or was given back; a lease that is lost is warned of.
    expect(await count('attempts <> 0 or postponed <> 0 or lease is not null')).toBe(0);
    for (const listener of running) {
      expect(listener.stderr).not.toMatch(/ (?:WARNING|ERROR) /u);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    }
  });

  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

  async function startReady(): Promise<RunningCli> {
    const listener = await stack.listen({ RETENTION_HTTP_PORT: '0' });
    const base = await addressOf(listener);
    await until('it is ready', async () => (await fetch(`${base}readyz`)).ok, {
      limitMs: 60_000,
      pollMs: 100,
    });
    return listener;
  }

  /** Tells a listener to stop while it works on batches, and watches how it goes. */
  async function stopInFlight(listener: RunningCli): Promise<void> {
    const its = `leased_by like '%:${listener.pid}'`;
    await until('it works on batches', () => count(`lease is not null and ${its}`), {
      limitMs: 30_000,
      pollMs: 1,
    });
    const toldAt = Date.now();
    listener.kill();
    const { code, stderr } = await listener.ended();
    expect([code, Date.now() - toldAt < GRACE_MS]).toEqual([0, true]);
    expect(stderr).not.toMatch(/ (?:WARNING|ERROR) /u);
    expect(await count(`lease is not null and ${its}`)).toBe(0);
    // What it claimed at most was under way already when it heard of it.
    const heardAt = /^(\S+) INFO SIGTERM: finishing what is in flight$/mu.exec(stderr)?.[1];
    const late = await count(`${its} and leased_at > '${heardAt}'::timestamptz`);
    expect(late).toBeLessThanOrEqual(4);
  }

  /** New results fall due all the time. */
  function keepFlagging(): { readonly inserted: Promise<number>; readonly stop: () => void } {
    const over = new AbortController();
    const insert = async (): Promise<number> => {
      let inserted = 0;
      while (!over.signal.aborted) {
        await until(
          'the backlog is small',
          async () => (await count(WAITS)) < BACKLOG_BATCHES,
          WAIT,
        );
        await stack.insertResults({ count: RESULTS_PER_WAVE });
        inserted += RESULTS_PER_WAVE;
        await flag();
      }
      return inserted;
    };
    return { inserted: insert(), stop: () => over.abort() };
  }
});
