import { setTimeout as pause } from 'node:timers/promises';
import type { Draws } from './draws.ts';
import { NETWORK_FAULTS } from './network-faults.ts';
import { PROCESS_FAULTS } from './process-faults.ts';
import { S3_FAULTS } from './s3-faults.ts';
import type { Faults, Scene } from './scene.ts';
import { isOfTheServer, SERVER_FAULTS } from './server-faults.ts';

/** Faults done to a campaign until it is to be calm. */
export interface Trouble {
  /** How often each was done. */
  readonly done: ReadonlyMap<string, number>;
  readonly work: () => Promise<void>;
  /** No new fault; those that run heal themselves, and {@link work} ends with them. */
  readonly stop: () => void;
}

/** Which faults, and how close together. */
export interface TroubleOptions {
  /** Names of faults that are not to be done. */
  readonly without?: readonly string[];
  /** From the beginning of one to that of the next, at least. */
  readonly pauseMs?: { readonly min: number; readonly max: number };
}

const PAUSE_MS = { min: 200, max: 2_500 };
const AT_ONCE = 3;

const FAULTS: Faults = [...PROCESS_FAULTS, ...SERVER_FAULTS, ...NETWORK_FAULTS, ...S3_FAULTS];

/** Draws faults and does them, a few at a time. */
export function createTrouble(
  scene: Scene,
  draws: Draws,
  { without = [], pauseMs = PAUSE_MS }: TroubleOptions = {},
): Trouble {
  const faults = FAULTS.filter(([, [name]]) => !without.includes(name));
  const done = new Map<string, number>();
  const running = new Set<Promise<void>>();
  const stopping = new AbortController();
  return {
    done,
    stop: () => stopping.abort(),
    work: async () => {
      while (!stopping.signal.aborted) {
        const [name, run] = draws.weighted(faults);
        done.set(name, (done.get(name) ?? 0) + 1);
        // A fault may find the server down by another.
        const fault: Promise<void> = run(scene, draws)
          .catch((error: unknown) => {
            if (!isOfTheServer(error)) throw error;
          })
          .finally(() => running.delete(fault));
        running.add(fault);
        if (running.size >= AT_ONCE) await Promise.race(running);
        await pause(draws.integer(pauseMs.min, pauseMs.max));
      }
      await Promise.all(running);
    },
  };
}
