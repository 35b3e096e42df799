/**
 * Retention Reactor as a library: read a configuration, migrate, run a reactor, reconcile.
 *
 * @packageDocumentation
 */
export {
  type LibraryOptions,
  type Reactor,
  type ReconcileRequest,
  type VerifyRequest,
  createReactor,
  fenceReport,
  migrate,
  reconcile,
  verify,
} from './assembly.ts';
export { type Config, readConfig } from './config/config.ts';
export {
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
  ConditionalObject,
  ConditionalWrites,
  ObjectListing,
  ObjectRestoration,
  VersionPurge,
} from './objects/abilities.ts';
export type { DeletionOptions, DeletionReport } from './objects/deletion-report.ts';
export type { ObjectStore } from './objects/object-store.ts';
export type {
  FailureOutcome,
  KeyFailure,
  ObjectStoreErrorDetails,
  ObjectStoreErrorKind,
  StoreFailure,
} from './objects/store-failure.ts';
export { ObjectStoreError } from './objects/store-failure.ts';
export type { FenceOutside, FenceReport } from './reactor/fence-report.ts';
export type { Reconciliation } from './reactor/reconcile.ts';
export type { Verification } from './reactor/verify.ts';
export type { FenceLoss, FenceState } from './store/fence.ts';
export type { Selection } from './store/selection.ts';
