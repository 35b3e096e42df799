import { setTimeout as pause } from 'node:timers/promises';
import type { MemoryS3 } from '../../stack/memory-s3.ts';
import type { PrivatePostgres } from '../../stack/private-postgres.ts';
import type { HttpProxy } from '../../support/http-proxy.ts';
import type { Crew } from './crew.ts';
import type { DeletionRecord } from './deletion-record.ts';
import type { Draws } from './draws.ts';

/** Whom listeners log in as. */
export const LISTENER_ROLE = 'retention_listener';

/** What faults are done to. */
export interface Scene {
  readonly postgres: PrivatePostgres;
  readonly s3: MemoryS3;
  /** In front of it. */
  readonly proxy: HttpProxy;
  readonly record: DeletionRecord;
  readonly crew: Crew;
  /** Ticks, or falls silent. */
  readonly scheduler: { isSilent: boolean };
  /** While the server goes down and comes up; once at a time. */
  restarting: Promise<void> | undefined;
}

/** Strikes, lasts, heals itself, and leaves nothing behind. */
export type Fault = (scene: Scene, draws: Draws) => Promise<void>;

/** Faults by their names, each drawn by its weight. */
export type Faults = readonly (readonly [
  weight: number,
  fault: readonly [name: string, run: Fault],
])[];

/** Lasts as long as the draws want, in milliseconds. */
export async function last(draws: Draws, min = 500, max = 6_000): Promise<void> {
  await pause(draws.integer(min, max));
}
