import type { Clock } from '../../src/lifecycle/clock.ts';

interface Sleeper {
  readonly until: number;
  readonly wake: () => void;
}

/** A clock that a test turns by hand. */
export interface ManualClock extends Clock {
  /** Turns it on, waking whoever's time has come, in order. */
  advance(milliseconds: number): Promise<void>;
  /** How long each of those who wait still has to wait, in milliseconds. */
  readonly waiting: readonly number[];
}

/** Makes a clock that stands still until it is turned. */
export function createManualClock(): ManualClock {
  let now = 0;
  let sleepers: Sleeper[] = [];
  return {
    now: () => now,
    get waiting() {
      return sleepers.map((sleeper) => sleeper.until - now);
    },
    pause: (milliseconds, signal) =>
      new Promise((resolve) => {
        const sleeper = { until: now + milliseconds, wake: () => end() };
        const end = (): void => {
          sleepers = sleepers.filter((other) => other !== sleeper);
          signal?.removeEventListener('abort', end);
          resolve();
        };
        if (signal?.aborted === true) {
          resolve();
          return;
        }
        sleepers.push(sleeper);
        signal?.addEventListener('abort', end);
      }),
    advance: async (milliseconds) => {
      const target = now + milliseconds;
      for (;;) {
        await settle();
        const next = sleepers.toSorted((left, right) => left.until - right.until)[0];
        if (next === undefined || next.until > target) break;
        now = Math.max(now, next.until);
        next.wake();
      }
      now = target;
      await settle();
    },
  };
}

/** Lets everything that is ready run. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
