import type { KeyFailure } from './store-failure.ts';
import type { LearnedHabits, StoreHabits } from './store-habits.ts';

/** How a key ended that was not simply deleted. */
export interface KeyEnd {
  /**
   * - `gone`: the store says that it had no such object.
   * - `marker`: a delete marker hides the object, and its versions stay.
   * - `purged`: all its versions went.
   */
  readonly end: 'gone' | 'marker' | 'purged';
  /** The version of the marker, or the last one that was purged. Undefined: the store names none. */
  readonly version?: string | undefined;
}

/** What became of the keys of one call: each is in exactly one of `deleted` and `failures`. */
export interface DeletionReport {
  /** The keys that the store named as deleted, or as already gone; each once. */
  readonly deleted: readonly string[];
  /** Whether every key that was asked for is in `deleted`. */
  readonly all: boolean;
  readonly failures: readonly KeyFailure[];
  /**
   * Keys for which a request was sent that got no answer, so that the store may still delete them,
   * whatever became of them otherwise: a second attempt may have been answered.
   */
  readonly unanswered: readonly string[];
  /** How keys of `deleted` ended. One that is not in it was deleted. Default: all were. */
  readonly ends?: ReadonlyMap<string, KeyEnd> | undefined;
  /** How the store names the requests in which it has deleted something. Default: it names none. */
  readonly requestIds?: readonly string[] | undefined;
  /** What the call has learned of the store, for later calls. */
  readonly learned?: LearnedHabits | undefined;
}

/** How a call that deletes is made. */
export interface DeletionOptions {
  /** Ends the call early; what was already deleted is then not known. */
  readonly signal?: AbortSignal | undefined;
  /**
   * No request is sent after it, in milliseconds of `safeNow()` of the lifecycle. A process or a machine that
   * was stopped goes on where it was, and a timer that is to end the call may come after the request.
   */
  readonly endsAt?: number | undefined;
  /** What is known of the bucket's store. Default: what this process has learned by itself. */
  readonly habits?: StoreHabits | undefined;
  /**
   * The etag, without quotes, of the only version of a key that may go. A store that holds another one deletes
   * nothing of that key: a failure with the outcome `changed`. Default: any version goes.
   */
  readonly etags?: ReadonlyMap<string, string> | undefined;
}

/** The most keys that one DeleteObjects request may carry. */
export const MAX_KEYS_PER_REQUEST = 1_000;
