/** One key that was not deleted, and whether that counts against it. */
export interface KeyFailure {
  readonly key: string;
  /** The store's own code (`AccessDenied`, ...), or one of {@link LocalFailureCode}. */
  readonly code: string;
  readonly message: string;
  /** True: not the key's fault (throttled, 5xx, unanswered); not counted against it. */
  readonly transient: boolean;
}

/**
 * The codes of failures that no store sent.
 *
 * - `EmptyKey`, `KeyTooLongError`, `UnencodableKey`: refused here, never sent.
 * - `Unanswered`: the reply did not name the key, so nothing is known of it.
 * - `Timeout`: the call's time was over before the key's turn or its answer came.
 */
export type LocalFailureCode =
  | 'EmptyKey'
  | 'KeyTooLongError'
  | 'UnencodableKey'
  | 'Unanswered'
  | 'Timeout';

/** What became of the keys of one call: each is in exactly one of the two. */
export interface DeletionReport {
  /** Named by the store as deleted, or as already gone. */
  readonly deleted: ReadonlySet<string>;
  readonly failures: readonly KeyFailure[];
}

/** How a call that deletes is made. */
export interface DeletionOptions {
  /** Ends the call early; what was already deleted is then not known. */
  readonly signal?: AbortSignal | undefined;
  /**
   * No request is sent after it, in milliseconds of `performance.now()`. A process that was stopped goes
   * on where it was, and a timer that is to end the call may come after the request.
   */
  readonly endsAt?: number | undefined;
  /**
   * Told of keys for which a request was sent and no answer of the store's came, so that the store may
   * still delete them, whatever the call itself comes to: it may have ended with the answer to a
   * second attempt. Told before the call ends, and more than once perhaps.
   */
  readonly onUnanswered?: ((keys: readonly string[]) => void) | undefined;
}

/** The most keys that one DeleteObjects request may carry. */
export const MAX_KEYS_PER_REQUEST = 1_000;
