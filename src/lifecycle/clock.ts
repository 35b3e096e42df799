import { pause } from './pause.ts';

/** Time as the lifecycle parts see it, so that tests can turn it by hand. */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /** As `pause` of pause.ts. */
  pause(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = { now: () => performance.now(), pause };
