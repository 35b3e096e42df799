import { redactSecrets } from '../../safe-text.ts';
import type { KeyEnd } from '../deletion-report.ts';
import type { KeyFailure } from '../store-failure.ts';
import { failureOfCode, isGone, localFailure } from './failures.ts';

/** What a DeleteObjects reply holds, as far as it is read. */
export interface DeletionReply {
  readonly Deleted?: readonly DeletionReplyKey[] | undefined;
  readonly Errors?: readonly DeletionReplyError[] | undefined;
  readonly $metadata?: { readonly requestId?: string | undefined } | undefined;
}

/** A key in a reply; with its version where one was asked for. */
export interface ReplyName {
  readonly Key?: string | undefined;
  readonly VersionId?: string | undefined;
}

interface DeletionReplyKey extends ReplyName {
  readonly DeleteMarker?: boolean | undefined;
  readonly DeleteMarkerVersionId?: string | undefined;
}

interface DeletionReplyError extends ReplyName {
  readonly Code?: string | undefined;
  readonly Message?: string | undefined;
}

/** A reply, held against the keys that were sent. */
export interface ReadReply {
  readonly deleted: string[];
  readonly failures: KeyFailure[];
  /** How keys of `deleted` ended that were not simply deleted. */
  readonly ends: ReadonlyMap<string, KeyEnd>;
  /** Sent, and in no part of the reply. */
  readonly unnamed: string[];
  /** The reply names keys that were not sent: it spells some of ours in another way. */
  readonly misspelt: boolean;
  /** An error that names no key, and so may speak for all that are unnamed. */
  readonly keyless: DeletionReplyError | undefined;
}

/**
 * Holds a reply against the keys that were sent. A key that is both deleted and in error is taken
 * as failed: asking again does no harm, and a stamp must be true.
 *
 * @param nameOf the name under which an entry was sent, where that is more than its key.
 */
export function readReply(
  reply: DeletionReply,
  sent: readonly string[],
  nameOf: (entry: ReplyName) => string | undefined = (entry) => entry.Key,
): ReadReply {
  const named = new Set(sent);
  const waiting = new Set(sent);
  const deleted: string[] = [];
  const failures: KeyFailure[] = [];
  const ends = new Map<string, KeyEnd>();
  let misspelt = false;
  let keyless: DeletionReplyError | undefined;
  for (const error of reply.Errors ?? []) {
    const { Code: code = 'Unknown' } = error;
    const key = nameOf(error);
    if (key === undefined || key === '') keyless ??= error;
    else if (!waiting.delete(key)) misspelt ||= !named.has(key);
    else if (isGone(code)) {
      deleted.push(key);
      ends.set(key, { end: 'gone' });
    } else failures.push(failureOfCode(key, code, error.Message));
  }
  for (const entry of reply.Deleted ?? []) {
    const key = nameOf(entry);
    if (key === undefined) continue;
    if (waiting.delete(key)) {
      deleted.push(key);
      const { VersionId: asked, DeleteMarker: isMarker, DeleteMarkerVersionId: version } = entry;
      // Of a version that was asked for it says that this was a marker.
      if (isMarker === true && asked === undefined) ends.set(key, { end: 'marker', version });
    } else misspelt ||= !named.has(key);
  }
  return { deleted, failures, ends, unnamed: [...waiting], misspelt, keyless };
}

/** The failure of a key that the reply does not name. */
export function unanswered(key: string, keyless?: DeletionReplyError): KeyFailure {
  const hint = keyless ? `; it holds ${keyless.Code}: ${keyless.Message}` : '';
  return localFailure({
    key,
    code: 'Unanswered',
    reason: redactSecrets(`the reply does not name this key${hint}`),
    outcome: 'unknown',
  });
}
