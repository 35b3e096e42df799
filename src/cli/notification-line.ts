import { showCount, showNumber } from '../numbers.ts';
import { type ChannelPayloads, type Notification, readNotification } from '../payloads/channels.ts';
import { escapeControls, shorten } from '../safe-text.ts';

/** What a notification says, for people. */
export interface NotificationLine {
  /** `flagged`, `cleared`, `failed`, `attention`, `sealed`; or the channel, where the schema did not send it. */
  readonly word: string;
  /** Without control characters: anyone may send one. */
  readonly text: string;
  /** Whether it has the shape that the schema's triggers give it. Anyone may have sent it still. */
  readonly isKnown: boolean;
}

const MAX_TEXT_CHARACTERS = 200;
const MAX_RAW_CHARACTERS = 500;

/**
 * Reads a notification of one of our channels.
 *
 * @param payload a JSON value, or the text itself where that is not JSON.
 * @param raw the text.
 */
export function describeNotification(
  channel: string,
  payload: unknown,
  raw: string,
): NotificationLine {
  const known = readNotification(channel, payload);
  if (known === undefined) {
    const safe = escapeControls(shorten(raw, MAX_RAW_CHARACTERS));
    return { word: safeText(channel), text: `not from the schema: ${safe}`, isKnown: false };
  }
  return { ...say(known), isKnown: true };
}

function say(known: Notification): Pick<NotificationLine, 'word' | 'text'> {
  switch (known.channel) {
    case 'retention_expired':
      return { word: 'flagged', text: sayExpired(known.payload) };
    case 'retention_cleared':
      return { word: 'cleared', text: sayCleared(known.payload) };
    case 'retention_failed':
      return { word: 'failed', text: sayFailed(known.payload) };
    case 'retention_attention':
      return { word: 'attention', text: sayAttention(known.payload) };
    case 'retention_sealed':
      return { word: 'sealed', text: `${known.payload.seal}-${known.payload.digest}` };
  }
}

type Payload<Name extends keyof ChannelPayloads> = ChannelPayloads[Name];

function sayExpired({ batches, results, buckets, oldest }: Payload<'retention_expired'>): string {
  const age = oldest === null ? '' : `, oldest ${oldest.replace(/T[^Z]*Z/u, '')}`;
  const places = buckets.map((bucket) => safeText(bucket)).join(', ');
  return `${showCount(results, 'result')} in ${showCount(batches, 'batch', 'batches')} (${places})${age}`;
}

function sayCleared({ bucket, cleared, spared, failed, ms }: Payload<'retention_cleared'>): string {
  return [
    `${showCount(cleared, 'result')} (${safeText(bucket)}) in ${showNumber(ms)} ms`,
    spared > 0 ? `${showNumber(spared)} spared` : '',
    failed > 0 ? `${showNumber(failed)} failed` : '',
  ]
    .filter((part) => part !== '')
    .join(', ');
}

function sayFailed(payload: Payload<'retention_failed'>): string {
  const { bucket, code, results, run_ids: runIds, retry_at: retryAt } = payload;
  const named = runIds.map((runId) => safeText(runId)).join(', ');
  const runs =
    runIds.length === 0 ? '' : `, ${runIds.length < results ? 'among them ' : ''}${named}`;
  const next =
    retryAt === null ? 'dead, until: retention retry --all' : `next attempt at ${retryAt}`;
  return `${showCount(results, 'result')} (${safeText(bucket)}): ${safeText(code)}${runs}; ${next}`;
}

function sayAttention(payload: Payload<'retention_attention'>): string {
  switch (payload.kind) {
    case 'resumed':
      return 'results are flagged and deleted again';
    case 'halted':
      return `halted: ${safeText(payload.because ?? payload.reasons.join(', '))}`;
    case 'surge':
      return `${showCount(payload.results, 'late result')} set aside, until: retention surge release ${payload.surge_id}`;
    case 'canary':
      return `the canary fails (${safeText(payload.bucket)}): ${safeText(payload.code)}`;
    case 'dead':
      return `${showCount(payload.results, 'result')} dead (${safeText(payload.bucket)}): ${safeText(payload.code)}`;
  }
}

function safeText(text: string): string {
  return escapeControls(shorten(text, MAX_TEXT_CHARACTERS));
}
