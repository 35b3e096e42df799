import type { Queryable } from '../database/queryable.ts';
import {
  confirmMissing,
  forgetHabits,
  knownBucket,
  learnHabits,
  noteBucket,
  noteLook,
  readBuckets,
  setHabits,
} from './buckets.ts';
import {
  acceptFence,
  confirmFence,
  fenceLosses,
  judgeFence,
  readFence,
  renewFence,
} from './fence.ts';
import { explain } from './explanation.ts';
import { flagExpired, pulse, scansAfter, tick } from './flagging.ts';
import { listHolds, placeHolds, releaseHolds } from './holds.ts';
import { claim, countPostponed, postpone, settle, split } from './leases.ts';
import {
  beginVerify,
  compareListing,
  forgetStrays,
  knownBuckets,
  nextOrphans,
  requeueReturned,
  sortStrays,
  stampGone,
} from './drift.ts';
import { readOverview, readVitals } from './overview.ts';
import {
  confirmPolicy,
  findTenant,
  listPolicies,
  newlyDue,
  setPolicy,
  unsetPolicy,
} from './policies.ts';
import { halt, readGate, resume } from './gate.ts';
import { retry } from './retry.ts';
import { dueGroups, dueRuns, endCutoff, flagSelected, readUnsettled } from './selection.ts';
import { configure } from './settings.ts';
import { stampAgain, tryStamp, unstamp } from './stamps.ts';
import { readLosses, readStatus, readWaitCauses } from './status.ts';

const functions = {
  claim,
  settle,
  postpone,
  split,
  countPostponed,
  tick,
  flagExpired,
  pulse,
  scansAfter,
  configure,
  listPolicies,
  newlyDue,
  findTenant,
  setPolicy,
  unsetPolicy,
  confirmPolicy,
  placeHolds,
  releaseHolds,
  listHolds,
  explain,
  retry,
  readGate,
  halt,
  resume,
  readFence,
  judgeFence,
  renewFence,
  confirmFence,
  fenceLosses,
  acceptFence,
  dueGroups,
  dueRuns,
  flagSelected,
  endCutoff,
  readUnsettled,
  readStatus,
  readWaitCauses,
  readLosses,
  readVitals,
  readOverview,
  beginVerify,
  compareListing,
  stampGone,
  sortStrays,
  requeueReturned,
  nextOrphans,
  forgetStrays,
  knownBuckets,
  knownBucket,
  noteBucket,
  readBuckets,
  learnHabits,
  setHabits,
  forgetHabits,
  noteLook,
  confirmMissing,
  unstamp,
  stampAgain,
  tryStamp,
} as const;

type Bound<Function_> = Function_ extends (database: Queryable, ...rest: infer Rest) => infer Result
  ? (...rest: Rest) => Result
  : never;

/** The SQL functions of the schema, bound to a database. */
export type Store = {
  readonly [Name in keyof typeof functions]: Bound<(typeof functions)[Name]>;
};

/** Binds the functions of this room to a database. */
export function createStore(database: Queryable): Store {
  const bound = Object.entries(functions).map(([name, call]) => {
    const unbound = call as (database: Queryable, ...rest: unknown[]) => unknown;
    return [name, (...rest: unknown[]) => unbound(database, ...rest)] as const;
  });
  return Object.fromEntries(bound) as unknown as Store;
}
