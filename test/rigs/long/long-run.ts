import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { APPLICATION_NAME } from '../chaos/application.ts';
import { calmDown } from '../chaos/calm.ts';
import { layGround, tick } from '../chaos/campaign.ts';
import { type Violation, check } from '../chaos/checker.ts';
import { sessionName, startCrew } from '../chaos/crew.ts';
import { createDraws } from '../chaos/draws.ts';
import { createTrouble } from '../chaos/faults.ts';
import { readHistory } from '../chaos/history.ts';
import { LISTENER_ROLE } from '../chaos/scene.ts';
import type { RunningCli } from '../../support/cli.ts';
import { addressOf, readFigures } from '../../support/scrape.ts';
import type { Bounds } from './bounds.ts';
import { prepareToCount } from './database-samples.ts';
import { growthByThirds, judge, round, type Verdict } from './flatness.ts';
import type { Pace } from './pace.ts';
import { HOLDINGS_MODULE } from './process-samples.ts';
import { figuresOf, type Sample, takeSamples } from './sampling.ts';
import { startSteadyApplication } from './steady-application.ts';

/** What a long run is asked for. */
export interface LongRunOptions {
  readonly seed: number;
  /** Of steady work; the calm after it comes on top. */
  readonly minutes: number;
  readonly bounds: Bounds;
  readonly pace: Pace;
  /** Hears how it goes. */
  readonly say?: (line: string) => void;
}

/** How a long run went. */
export interface LongRunOutcome {
  readonly seed: number;
  readonly verdicts: readonly Verdict[];
  readonly violations: readonly Violation[];
  readonly faults: ReadonlyMap<string, number>;
  readonly applicationSteps: ReadonlyMap<string, number>;
  readonly totals: Readonly<Record<string, number>>;
  /** The file with every sample. */
  readonly file: string;
}

const WITHOUT = [
  // A listener has to live through everything.
  'kill -9 of a listener',
  'SIGTERM to a listener',
  'no server when a listener starts, and SIGTERM meanwhile',
  // Who has learnt that asks one by one for as long as it lives, and then it is no steady work.
  'S3: a store without DeleteObjects',
];

const TICK_EVERY_MS = 1_000;
const CARETAKING_EVERY_MS = 30_000;

/** Settled batches and passes are kept for a week by default. */
const KEPT = `update retention.setting set history_kept = '1 minute'`;

/** What comes once an hour, at the next tick; and what a person does about dead results. */
const TAKE_CARE = `
update retention.heartbeat set cleaned_up_at = cleaned_up_at - interval '1 hour';
select retention.retry(p_all => true)`;

const SCRATCH = fileURLToPath(new URL('../../../.scratch/long-run', import.meta.url));

/** Steady work with faults for so many minutes, then calm, then judgement. */
export async function runLong(options: LongRunOptions): Promise<LongRunOutcome> {
  const { seed, minutes, pace, say = () => undefined } = options;
  await using ground = await layGround(pace.autovacuumNaptime);
  const { postgres, s3, record } = ground;
  await postgres.sql(KEPT, 'app');
  const counts = await prepareToCount(postgres);
  const folder = mkdtempSync(join(tmpdir(), 'retention-holdings-'));
  const url = postgres.url();
  const application = await startSteadyApplication({
    url,
    s3,
    record,
    draws: createDraws(seed, 0),
    pace: pace.stepsPerSecond,
  });
  const crew = await startCrew({
    listeners: pace.listeners,
    databaseUrl: postgres.url('app', LISTENER_ROLE),
    databasePort: postgres.port,
    env: {
      ...ground.env,
      HOLDINGS_FOLDER: folder,
      RETENTION_HTTP_PORT: '0',
      // Node says when an emitter has too many listeners.
      NODE_NO_WARNINGS: undefined,
    },
    draws: createDraws(seed, 1),
    reconcileEveryMs: pace.reconcileEveryMs,
    preload: [HOLDINGS_MODULE],
  });
  try {
    const listeners = await Promise.all(crew.posts.map((post) => meet(post.process())));
    const scheduler = { isSilent: false };
    const trouble = createTrouble(
      { ...ground, crew, scheduler, restarting: undefined },
      createDraws(seed, 2),
      { without: [...WITHOUT, ...pace.without], pauseMs: pace.faultPauseMs },
    );
    const working = new AbortController();
    const ticking = new AbortController();
    const sampling = takeSamples(
      { ground, crew, role: LISTENER_ROLE, counts, folder, everyMs: pace.sampleEveryMs, say },
      working.signal,
    );
    const ended = [
      application.work(),
      trouble.work(),
      crew.reconcile(),
      tick(url, scheduler, ticking.signal, TICK_EVERY_MS),
      takeCare(url, ticking.signal),
    ];
    say(`seed ${seed}: ${minutes} minutes of steady work`);
    await Promise.race([pause(minutes * 60_000), sampling, ...ended]);
    working.abort();
    const samples = await sampling;
    say('calm');
    trouble.stop();
    application.stop();
    // Each fault heals itself before it ends.
    await Promise.all(ended.slice(0, 2));
    const calm = await calmDown({ ...ground, application, crew, say });
    const reconnects = await Promise.all(listeners.map(countReconnects));
    ticking.abort();
    const survived = crew.posts.map((post, index) => post.process()?.pid === listeners[index]?.pid);
    const words = crew.posts.map((post) => post.process()?.stderr ?? '');
    await crew.stop();
    await Promise.all(ended);

    const history = await readHistory(url, application.acknowledged, APPLICATION_NAME);
    const { deletions, puts, requests } = record;
    const verdicts = figuresOf(samples, options.bounds).map(judge);
    const file = writeDown(options, samples, verdicts, words);
    return {
      seed,
      verdicts,
      file,
      violations: [
        ...verdicts.filter(({ isFlat }) => !isFlat).map(asViolation),
        ...idlenessIn(samples, options.bounds),
        ...check({ history, deletions, puts, tooLate: application.tooLate }),
        ...calm,
        ...words.flatMap(warningsIn),
        ...crew.complaints.map((what) => ({ promise: 'a listener lives through it', what })),
      ],
      faults: trouble.done,
      applicationSteps: application.done,
      totals: {
        minutes,
        runs: history.runs.size,
        batches: history.leases.size,
        requests: requests(),
        deletions: deletions.length,
        stamps: history.stamps.length,
        holds: history.holds.length,
        'reconcile runs': crew.started() - pace.listeners,
        'listeners that lived through it': survived.filter(Boolean).length,
        reconnects: reconnects.reduce((sum, count) => sum + count, 0),
        samples: samples.length,
      },
    };
  } finally {
    await crew.dispose();
    await application.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A listener, and where it says how it does. */
interface Acquaintance {
  readonly pid: number;
  readonly address: string;
}

async function meet(listener: RunningCli | undefined): Promise<Acquaintance> {
  if (listener === undefined) throw new Error('A listener did not start.');
  await listener.waitForLine('Listening for notifications', 60_000);
  return { pid: listener.pid, address: await addressOf(listener) };
}

/** Does, until it is aborted, what time and people do elsewhere. */
async function takeCare(url: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(CARETAKING_EVERY_MS, undefined, { signal }).catch(() => undefined);
    const client = new pg.Client({ connectionString: url, application_name: 'the caretaker' });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query(TAKE_CARE);
    } catch {
      // The server is down; the next time is as good.
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

async function countReconnects({ address }: Acquaintance): Promise<number> {
  const response = await fetch(new URL('/metrics', address));
  return readFigures(await response.text()).get('retention_reconnects_total') ?? Number.NaN;
}

/** Where a listener is added for each reconnect, Node says so. */
function warningsIn(words: string): Violation[] {
  const [warning] = /^.*MaxListenersExceededWarning.*$/mu.exec(words) ?? [];
  return warning === undefined ? [] : [{ promise: 'nobody listens twice', what: warning }];
}

function asViolation({ name, unit, middle, end, limit, high }: Verdict): Violation {
  const [was, is, may, most] = [middle, end, limit, high].map((value) =>
    `${round(value)} ${unit}`.trimEnd(),
  );
  const what = `${name}: ${was}, then ${is}; at most ${may}; a quarter of the time ${most} or more`;
  return { promise: 'nothing grows', what };
}

/** What leaks with each drain stays flat where there are none. */
function idlenessIn(samples: readonly Sample[], { fewestDrains }: Bounds): Violation[] {
  const done = growthByThirds(samples.map(({ drains }) => drains));
  if (done.slice(1).every((count) => count >= fewestDrains)) return [];
  return [{ promise: 'a run says something', what: `${done.join(', ')} drains in its thirds` }];
}

function writeDown(
  { seed, minutes }: LongRunOptions,
  samples: readonly Sample[],
  verdicts: readonly Verdict[],
  words: readonly string[],
): string {
  mkdirSync(SCRATCH, { recursive: true });
  const name = join(SCRATCH, `seed-${seed}-${minutes}-minutes-${process.pid}`);
  for (const [index, log] of words.entries())
    writeFileSync(`${name}-${sessionName(index)}.log`, log);
  const file = `${name}.json`;
  writeFileSync(file, JSON.stringify({ seed, minutes, verdicts, samples }));
  return file;
}
