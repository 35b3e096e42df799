/**
 * Retention Reactor as a library: read a configuration, migrate, run a reactor, reconcile.
 *
 * @packageDocumentation
 */
export {
  type LibraryOptions,
  type Reactor,
  type ReactorOptions,
  type ReconcileRequest,
  type VerifyRequest,
  createReactor,
  migrate,
  reconcile,
  verify,
  withStore,
} from './assembly.ts';
export { type AdoptionProposal, proposeAdoption } from './assembly-adoption.ts';
export { type CertificateRequest, certify } from './assembly-certificates.ts';
export { fenceReport } from './assembly-fence.ts';
export { preview, previewRuns } from './assembly-looks.ts';
export { addKeeper, listKeepers, removeKeeper } from './assembly-keepers.ts';
export {
  type ProofRequest,
  type ProofVerifyRequest,
  exportProof,
  proofHead,
  setReceiptKeys,
  verifyProof,
} from './assembly-proof.ts';
export { listSurges, releaseSurge, showSurge } from './assembly-surges.ts';
export { explainAt, history } from './assembly-history.ts';
export { testWebhook } from './assembly-webhook.ts';
export {
  confirmPolicy,
  explain,
  gate,
  halt,
  listHolds,
  listPolicies,
  placeHolds,
  previewPolicy,
  releaseHolds,
  resume,
  retry,
  setPolicy,
  status,
  unsetPolicy,
  upcoming,
} from './assembly-people.ts';
export {
  type EventSubscription,
  type OnEvent,
  type RetentionEvent,
  type SubscribeRequest,
  subscribe,
} from './assembly-subscribe.ts';

export {
  type OrphanDeletionRequest,
  type OrphanListRequest,
  deleteOrphans,
  listOrphans,
  orphanLists,
} from './assembly-orphans.ts';
export { type Config, readConfig } from './config/config.ts';
export {
  ClosedError,
  ConfigurationError,
  DatabaseError,
  EXIT_CODE,
  RefusedError,
  RetentionError,
  UsageError,
} from './errors.ts';
export { type Logger, type LoggerOptions, createLogger } from './logger.ts';
export type {
  BucketInspection,
  ListedObject,
  ConditionalObject,
  ConditionalWrites,
  ObjectListing,
  ObjectRestoration,
  VersionPurge,
} from './objects/abilities.ts';
export type { DeletionOptions, DeletionReport, KeyEnd } from './objects/deletion-report.ts';
export type { ObjectStore } from './objects/object-store.ts';
export type {
  FailureOutcome,
  KeyFailure,
  ObjectStoreErrorDetails,
  ObjectStoreErrorKind,
  StoreFailure,
} from './objects/store-failure.ts';
export { ObjectStoreError } from './objects/store-failure.ts';
export type { OrphanDeletion } from './reactor/orphans/tally.ts';
export type { OrphanListing } from './reactor/orphans/making.ts';
export type { Certificate } from './proof/certificate.ts';
export type { Reconciliation } from './reactor/reconcile.ts';
export type { Verification } from './reactor/verify.ts';
export type { Keeper, KeeperRequest } from './store/keepers.ts';
export type { StampAccount } from './store/receipts.ts';
export type { Head, SealProblem } from './store/seals.ts';
export type { JudgedHead, SealVerification } from './proof/verify-seals.ts';
export type { SealExport } from './proof/export-seals.ts';
export type { DueGroup, DueRun, Selection } from './store/selection.ts';
export type { Surge, SurgeGroup } from './store/surges.ts';
export type { Ceilings, KnownBucket } from './store/buckets.ts';
export type { Approval } from './store/approvals.ts';
export type { Guard } from './store/guards.ts';
export type { ExplanationThen, HistoryEntry, HistoryRequest } from './store/history.ts';
export type { Store } from './store/store.ts';
export type { Trend } from './store/trend.ts';
export type { Upcoming, UpcomingRequest } from './store/upcoming.ts';
export type { OrphanList } from './store/orphans.ts';
export type { FenceOutside, FenceReport } from './reactor/fence-report.ts';
export type { FenceLoss, FenceState } from './store/fence.ts';
export type { Explanation } from './store/explanation.ts';
export type { GateReason } from './store/gate.ts';
export type { Hold, HoldRequest, PlacedHold, ReleasedHold } from './store/holds.ts';
export type { NewlyDue, Policy } from './store/policies.ts';
export type { RetrySelection } from './store/retry.ts';
export type { Status } from './store/status.ts';
export type { Channel, ChannelPayloads, Notification } from './payloads/channels.ts';
