import type { Bound } from './flatness.ts';

/** By how much each kind of figure may be higher in a run's last third than in the one before. */
export interface Bounds {
  readonly memory: Bound;
  readonly heap: Bound;
  readonly descriptors: Bound;
  readonly timers: Bound;
  readonly sessions: Bound;
  readonly table: Bound;
  readonly deadTuples: Bound;
  readonly s3Connections: Bound;
  /** How often the listeners drain in each of the last two thirds. Fewer are no proof of anything. */
  readonly fewestDrains: number;
}

/** A listener's pool has five sessions and one listens; half as many may be on their way out. */
const SESSIONS = 9;

/**
 * For an hour, in which each listener loses its sessions about 80 times, 25 of them in each third:
 * what leaks with each of them is higher by 25 in the last third.
 */
export const HOUR: Bounds = {
  // V8 and malloc keep what a peak once took, and each of a few hundred faults may be the first of its
  // kind. What is really held is the next figure.
  memory: { share: 0, atLeast: 10 },
  // After a collection; compiled code comes and goes. 25 times 100 kB are 2.4 MB.
  heap: { share: 0, atLeast: 1.2 },
  // A pool has from one to five sessions, S3 up to three connections, as the last minute had it.
  descriptors: { share: 0, atLeast: 4 },
  timers: { share: 0, atLeast: 4 },
  sessions: { share: 0, atLeast: 2, ceiling: SESSIONS },
  // A table is as large as its worst moment since it was made, and worse ones become rare. Batches
  // that nobody removed would be a megabyte in each third.
  table: { share: 0.35, atLeast: 128 },
  // Autovacuum comes by once a minute, so a table has what died in up to a minute.
  deadTuples: { share: 0.5, atLeast: 200 },
  s3Connections: { share: 0, atLeast: 4 },
  fewestDrains: 150,
};

/**
 * For two minutes on a machine that does other work: code is still being compiled and tables are
 * finding their size. This finds what leaks with each batch, look or notification.
 */
export const TWO_MINUTES: Bounds = {
  memory: { share: 0, atLeast: 40 },
  // 40 times 100 kB.
  heap: { share: 0, atLeast: 4 },
  descriptors: { share: 0, atLeast: 8 },
  timers: { share: 0, atLeast: 8 },
  sessions: { share: 0, atLeast: 5, ceiling: SESSIONS },
  table: { share: 1, atLeast: 384 },
  // Autovacuum comes by every five seconds, in which 75 results pass through. Without it, 600 die in
  // a third.
  deadTuples: { share: 0.5, atLeast: 150 },
  s3Connections: { share: 0, atLeast: 8 },
  // A third has fifty, and ten on a machine with ten times as much to do.
  fewestDrains: 2,
};
