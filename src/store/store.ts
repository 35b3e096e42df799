import type { Queryable } from '../database/queryable.ts';
import { approve, askApproval, listApprovals, withdrawApproval } from './approvals.ts';
import {
  confirmMissing,
  forgetHabits,
  knownBucket,
  learnHabits,
  noteBucket,
  noteLook,
  readBuckets,
  setCeilings,
  setHabits,
  setOnVersioned,
} from './buckets.ts';
import {
  certificateChanges,
  certificateFacts,
  certificateLeaves,
  certificateResults,
  certificateSeals,
} from './certificates.ts';
import {
  acceptFence,
  confirmFence,
  fenceLosses,
  judgeFence,
  readFence,
  renewFence,
} from './fence.ts';
import { explain } from './explanation.ts';
import { explainAt, readHistory } from './history.ts';
import {
  endStanding,
  nextStandingStep,
  noteStandingLook,
  noteStandingPage,
  noteStandingProblem,
  readStandingVerifies,
} from './standing.ts';
import { beginCanary, noteCanary, readCanaries } from './canary.ts';
import { flagExpired, pulse, scansAfter, tick } from './flagging.ts';
import { listGuards, setGuard } from './guards.ts';
import { listHolds, placeHolds, releaseHolds } from './holds.ts';
import { addKeeper, listKeepers, removeKeeper } from './keepers.ts';
import { claim, countPostponed, postpone, settle, split, takeTurn } from './leases.ts';
import {
  beginVerify,
  compareListing,
  forgetStrays,
  knownBuckets,
  hasKeyLike,
  nextOrphans,
  requeueReturned,
  sortStrays,
  stampGone,
} from './drift.ts';
import {
  beginOrphans,
  claimOrphans,
  listOrphanLists,
  noteOrphanList,
  settleOrphans,
} from './orphans.ts';
import { claimMessages, settleMessage } from './messages.ts';
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
import { readReadable } from './readable.ts';
import { accountStamps } from './receipts.ts';
import { retry } from './retry.ts';
import { dueGroups, endCutoff, flagSelected, readDueRuns, readUnsettled } from './selection.ts';
import {
  exportSeals,
  listHeads,
  noteSealsWritten,
  sealNow,
  sealsSince,
  sealsToWrite,
  verifyEnd,
  verifyHead,
  verifyRepeats,
  verifySeals,
} from './seals.ts';
import { applyVariables, configure, readVariables } from './settings.ts';
import { stampAgain, tryStamp, unstamp } from './stamps.ts';
import { readUpcoming } from './upcoming.ts';
import {
  dropStrays,
  endVerify,
  nextListed,
  nextReturned,
  nextStretch,
  noteListed,
  notePartDone,
  noteStretch,
  noteVerified,
  resumeVerify,
  unsortVerify,
  verifyParts,
} from './verify-progress.ts';
import { listReleases, listSurges, releaseSurge, showSurge } from './surges.ts';
import { readLosses, readStatus, readWaitCauses } from './status.ts';
import { readTrend } from './trend.ts';

const functions = {
  claim,
  takeTurn,
  settle,
  postpone,
  split,
  countPostponed,
  tick,
  flagExpired,
  pulse,
  scansAfter,
  configure,
  applyVariables,
  readVariables,
  listPolicies,
  newlyDue,
  findTenant,
  setPolicy,
  unsetPolicy,
  confirmPolicy,
  placeHolds,
  releaseHolds,
  listHolds,
  askApproval,
  approve,
  withdrawApproval,
  listApprovals,
  listGuards,
  setGuard,
  addKeeper,
  removeKeeper,
  listKeepers,
  explain,
  explainAt,
  readHistory,
  retry,
  readGate,
  halt,
  resume,
  listSurges,
  showSurge,
  releaseSurge,
  listReleases,
  readFence,
  judgeFence,
  renewFence,
  confirmFence,
  fenceLosses,
  acceptFence,
  dueGroups,
  readDueRuns,
  flagSelected,
  endCutoff,
  readUnsettled,
  readStatus,
  readWaitCauses,
  readTrend,
  readUpcoming,
  readReadable,
  readLosses,
  readVitals,
  readOverview,
  beginVerify,
  resumeVerify,
  verifyParts,
  compareListing,
  noteVerified,
  notePartDone,
  nextStretch,
  noteStretch,
  unsortVerify,
  noteListed,
  nextListed,
  nextReturned,
  dropStrays,
  endVerify,
  stampGone,
  hasKeyLike,
  sortStrays,
  requeueReturned,
  nextOrphans,
  forgetStrays,
  noteOrphanList,
  beginOrphans,
  claimOrphans,
  settleOrphans,
  listOrphanLists,
  knownBuckets,
  knownBucket,
  noteBucket,
  readBuckets,
  learnHabits,
  setCeilings,
  setHabits,
  setOnVersioned,
  forgetHabits,
  noteLook,
  confirmMissing,
  unstamp,
  stampAgain,
  tryStamp,
  certificateFacts,
  certificateResults,
  certificateChanges,
  certificateLeaves,
  certificateSeals,
  sealNow,
  listHeads,
  sealsSince,
  verifySeals,
  verifyEnd,
  verifyRepeats,
  verifyHead,
  exportSeals,
  sealsToWrite,
  noteSealsWritten,
  beginCanary,
  noteCanary,
  readCanaries,
  nextStandingStep,
  noteStandingPage,
  noteStandingLook,
  endStanding,
  noteStandingProblem,
  readStandingVerifies,
  accountStamps,
  claimMessages,
  settleMessage,
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
