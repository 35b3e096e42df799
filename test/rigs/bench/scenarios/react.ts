import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import {
  type Bench,
  BUCKET,
  type BenchDatabase,
  INSERT_RUNS,
  type Scenario,
  TENANTS,
} from '../bench.ts';
import { type Figure, median, quantile, ratios } from '../figure.ts';
import { startPart } from '../processes.ts';
import { startListener } from '../work.ts';

/** What a single reaction consists of, one after the other and nothing else. */
export const react: Scenario = {
  name: 'react',
  run: async (bench) => {
    const times = Math.max(bench.rows(300), 20);
    const base = await bench.makeDatabase((query) =>
      query(INSERT_RUNS, [100_000, TENANTS, '20 days']),
    );
    const bare: number[][] = [];
    const reactor: number[][] = [];
    for (let run = 0; run < bench.options.runs; run += 1) {
      bench.say(`react: run ${run + 1}`);
      bare.push(await bench.onCopy(base, (copy) => timeSequence(bench, copy, times)));
      reactor.push(await bench.onCopy(base, (copy) => timeReactions(copy, times)));
    }
    await base.drop();
    const at = (share: number, some: readonly number[][]): number[] =>
      some.map((each) => quantile(each, share));
    const ms = (some: readonly number[]): string => `${median(some).toFixed(1)} ms`;
    return ([0.5, 0.99] as const).map((share): Figure => ({
      name: share === 0.5 ? 'react-p50' : 'react-p99',
      title: `react: flag committed to stamp committed / the bare sequence, p${share * 100}`,
      unit: '×',
      samples: ratios(at(share, reactor), at(share, bare)),
      target: { is: 'at most', value: share === 0.5 ? 2 : 4 },
      detail: `${ms(at(share, reactor))} / ${ms(at(share, bare))}`,
    }));
  },
};

async function timeSequence(bench: Bench, copy: BenchDatabase, times: number): Promise<number[]> {
  const part = await startPart('floor');
  const place = { url: copy.url, endpoint: bench.s3Endpoint, bucket: BUCKET };
  try {
    await part.ask({ prepare: place, concurrency: 2, rows: times + WARM_UP, batch: 1 });
    const { milliseconds } = await part.ask<{ milliseconds: number[] }>({
      go: 'sequence',
      quietMilliseconds: QUIET_MILLISECONDS,
      times: times + WARM_UP,
    });
    await part.ask({ end: true });
    return milliseconds.slice(WARM_UP);
  } finally {
    await part.stop();
  }
}

/** What is loaded and planned once is not part of a reaction. */
const WARM_UP = 20;

const BUSY_MILLISECONDS = 100;

/** Between two of either kind. */
const QUIET_MILLISECONDS = 25;

/**
 * Lets one run fall due and be flagged, again and again; the stamp is committed when it is announced.
 */
async function timeReactions(copy: BenchDatabase, times: number): Promise<number[]> {
  const listener = await startListener(copy);
  const session = await copy.connect();
  const watcher = await copy.connect();
  await watcher.query('listen retention_cleared');
  try {
    const milliseconds: number[] = [];
    for (let index = 0; index < times + WARM_UP; index += 1) {
      milliseconds.push(await timeReaction(session, watcher));
    }
    return milliseconds.slice(WARM_UP);
  } finally {
    await listener.stop();
  }
}

async function timeReaction(session: pg.Client, watcher: pg.Client): Promise<number> {
  // Each by itself: what a listener does after the one before is over.
  await delay(QUIET_MILLISECONDS);
  const cleared = new Promise((resolve) => watcher.once('notification', resolve));
  await session.query(INSERT_RUNS, [1, TENANTS, '31 days']);
  for (;;) {
    const { rows } = await session.query<{ flagged: number }>(
      'select retention.flag_expired() as flagged',
    );
    const committedAt = performance.now();
    // Nothing: the listener's own tick is at it. What it finds is not measured.
    if (rows[0]?.flagged !== 1) {
      const isLeft = await Promise.race([
        cleared.then(() => false),
        delay(BUSY_MILLISECONDS, true),
      ]);
      if (isLeft) continue;
      return timeReaction(session, watcher);
    }
    // Sent by the settling transaction when it commits.
    await cleared;
    return performance.now() - committedAt;
  }
}
