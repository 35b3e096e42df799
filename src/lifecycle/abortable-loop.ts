import { type Backoff, createBackoff } from './backoff.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Service, createService } from './service.ts';

/** What a loop does. */
export interface LoopOptions {
  readonly name: string;
  /**
   * One turn. `signal` is aborted when the loop is stopped; the turn then ends in its own time.
   * Returns how many milliseconds to wait at most before the next turn; nothing for the interval.
   */
  turn(signal: AbortSignal): Promise<number | void>;
  /** Milliseconds between two turns that nobody woke; asked anew each time. */
  readonly intervalMilliseconds: number | (() => number);
  /** Told of every turn that failed, and after how many milliseconds the next one comes. */
  onError(error: unknown, failure: LoopFailure): void;
  /** Pauses after failed turns. Default: from half a second up to 30 seconds. */
  readonly backoff?: Backoff;
  readonly clock?: Clock;
}

/** A failed turn. */
export interface LoopFailure {
  /** How many turns in a row have failed. */
  readonly attempt: number;
  readonly retryInMilliseconds: number;
}

/** A loop: a turn, then a wait for a wake or the timer, and again. */
export interface AbortableLoop extends Service {
  /**
   * Asks for a turn soon. Wakes during a turn or a wait count as one; a wake during the pause after
   * a failure is kept until that is over, so that a stream of wakes cannot hammer what is broken.
   */
  wake(): void;
}

/** Makes a loop. One turn runs at a time, and `stop` waits for it. */
export function createAbortableLoop(options: LoopOptions): AbortableLoop {
  const clock = options.clock ?? systemClock;
  const backoff = options.backoff ?? createBackoff();
  const stopped = new AbortController();
  let isWoken = false;
  // A controller for each wait: signals joined by AbortSignal.any would gather up over the years.
  let wait: { readonly controller: AbortController; readonly endsOnWake: boolean } | undefined;
  let running: Promise<void> | undefined;

  const waitFor = async (milliseconds: number, endsOnWake: boolean): Promise<void> => {
    if (stopped.signal.aborted || (endsOnWake && isWoken)) return;
    wait = { controller: new AbortController(), endsOnWake };
    await clock.pause(milliseconds, wait.controller.signal);
    wait = undefined;
  };
  const interval = (): number =>
    typeof options.intervalMilliseconds === 'function'
      ? options.intervalMilliseconds()
      : options.intervalMilliseconds;

  const runTurn = async (): Promise<void> => {
    isWoken = false;
    try {
      const next = await options.turn(stopped.signal);
      backoff.reset();
      await waitFor(next ?? interval(), true);
    } catch (error) {
      if (stopped.signal.aborted) return;
      const retryInMilliseconds = backoff.next();
      options.onError(error, { attempt: backoff.attempts, retryInMilliseconds });
      await waitFor(retryInMilliseconds, false);
    }
  };
  const run = async (): Promise<void> => {
    while (!stopped.signal.aborted) await runTurn();
  };

  const service = createService({
    name: options.name,
    start: () => {
      running = run();
      // An error that escapes the loop itself, as from `onError`, is thrown by `stop`.
      running.catch(() => undefined);
    },
    stop: () => running,
  });
  return {
    start: () => service.start(),
    stop: () => {
      stopped.abort();
      wait?.controller.abort();
      return service.stop();
    },
    wake: () => {
      isWoken = true;
      if (wait?.endsOnWake === true) wait.controller.abort();
    },
  };
}
