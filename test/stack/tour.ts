import {
  type StopSignal,
  type StopSignals,
  watchStopSignals,
} from '../../src/lifecycle/signals.ts';
import { DATABASE_NAME, forgetOtherStacks, startDatabase, startStack } from './demo-stack.ts';
import { keepStack } from './keep-stack.ts';
import { createNarrator, type Narrator } from './narration.ts';
import { startPsqlWatch } from './psql-watch.ts';
import { createTidyUp, type TidyUp } from './tidy-up.ts';
import { compareCounts, countEverything } from './tour-counts.ts';
import { missAnEvent, reconcileNow } from './tour-missed-event.ts';
import { prepare, startListener, watchInPsql } from './tour-set-up.ts';
import type { Tour } from './tour-state.ts';
import { followTick } from './tour-tick.ts';

/** How the demo runs. */
export interface DemoOptions {
  /** Leave the stack up in the end, until Ctrl-C. */
  readonly keep: boolean;
}

const INTERRUPTED = 130;
const ECHO_MILLISECONDS = 1_000;
const LOG_LINES = 10;

/**
 * Shows the main job on a private, throw-away stack, counts what happened and compares it with what
 * should have. Whatever happens, nothing is left running.
 *
 * @returns what to exit with: 0 when every figure is as expected, 1 when one is not, 130 when it
 *   was interrupted.
 * @throws when the stack cannot be had, or something that should happen does not.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  forgetOtherStacks();
  const narrator = createNarrator();
  const tidyUp = createTidyUp();
  const stop = watchInterrupts(narrator);
  let result: number | undefined;
  try {
    result = await giveTour(narrator, stop.signal, tidyUp, options);
  } catch (error) {
    // What breaks on the way out is no news.
    if (!stop.signal.aborted) throw error;
  } finally {
    await tidyUp.run();
    stop.dispose();
  }
  narrator.say('', 'Everything is stopped, and its files are removed.');
  return result ?? INTERRUPTED;
}

async function giveTour(
  narrator: Narrator,
  signal: AbortSignal,
  tidyUp: TidyUp,
  options: DemoOptions,
): Promise<number> {
  const startedAt = performance.now();
  narrator.title('Retention Reactor: the main job, on a private stack that is thrown away');
  const tour = await setUp(narrator, signal, tidyUp);
  try {
    await prepare(tour);
    await watchInPsql(tour);
    await startListener(tour);
    const first = await followTick(tour);
    await missAnEvent(tour);
    const second = await reconcileNow(tour);

    narrator.step('What was counted');
    const counts = await countEverything(tour, first, second);
    const isGood = compareCounts(narrator, counts, performance.now() - startedAt);
    if (options.keep) await keepStack(tour);
    return isGood ? 0 : 1;
  } catch (error) {
    if (!signal.aborted) tellServerLog(tour);
    throw error;
  }
}

/** What PostgreSQL said last, for whoever looks into a failure: its log goes with it. */
function tellServerLog({ narrator, stack }: Tour): void {
  for (const line of stack.postgres.logTail(LOG_LINES).split('\n')) narrator.hear('postgres', line);
}

async function setUp(narrator: Narrator, signal: AbortSignal, tidyUp: TidyUp): Promise<Tour> {
  narrator.step('A private PostgreSQL with pg_cron, and a small S3');
  const postgres = await startDatabase(narrator, tidyUp);
  signal.throwIfAborted();
  narrator.say(
    `PostgreSQL ${postgres.major} with pg_cron listens on ${postgres.host}:${postgres.port},`,
    `its data in ${postgres.folder}. Other clusters are not touched.`,
  );
  const stack = await startStack(postgres, narrator, tidyUp);
  narrator.say(`S3 answers at ${stack.s3.endpoint}, in this process, all in memory.`);
  const psql = startPsqlWatch({
    psqlPath: postgres.psqlPath,
    url: postgres.url(),
    databaseName: DATABASE_NAME,
    hear: (line) => narrator.hear('psql', line),
  });
  tidyUp.add(() => psql.stop());
  signal.throwIfAborted();
  return {
    narrator,
    signal,
    tidyUp,
    stack,
    psql,
    listener: undefined,
    listenerLog: [],
    sampleRunId: '',
  };
}

/**
 * The first Ctrl-C takes everything down in good order, a second one at once. npm passes on the
 * signal that the terminal has sent already, so what follows within a second is the same one.
 */
function watchInterrupts(narrator: Narrator): StopSignals {
  const hearers = new Map<() => void, () => void>();
  let firstAt: number | undefined;
  return watchStopSignals({
    onFirst: (signal) => narrator.say('', `${signal}: taking everything down...`),
    source: {
      on: (signal: StopSignal, listener) => {
        const hear = (): void => {
          const now = performance.now();
          const isEcho = firstAt !== undefined && now - firstAt < ECHO_MILLISECONDS;
          firstAt ??= now;
          if (!isEcho) listener();
        };
        hearers.set(listener, hear);
        process.on(signal, hear);
      },
      off: (signal: StopSignal, listener) => process.off(signal, hearers.get(listener) ?? listener),
    },
  });
}
