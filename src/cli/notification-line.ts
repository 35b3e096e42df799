import { showCount, showNumber } from '../numbers.ts';
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

type Fields = Readonly<Record<string, unknown>>;

const MAX_TEXT_CHARACTERS = 200;
const MAX_RAW_CHARACTERS = 500;
/** As retention._iso() writes them, also what no calendar has. */
const ISO_DATE = /^(?:-?infinity|\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z(?: BC)?)$/u;

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
  const fields = typeof payload === 'object' && payload !== null ? (payload as Fields) : {};
  const reader = READERS.get(channel);
  const text = reader?.read(fields);
  if (reader === undefined || text === undefined) {
    const safe = escapeControls(shorten(raw, MAX_RAW_CHARACTERS));
    return { word: safeText(channel), text: `not from the schema: ${safe}`, isKnown: false };
  }
  return { word: reader.word, text, isKnown: true };
}

const READERS: ReadonlyMap<
  string,
  { readonly word: string; readonly read: (fields: Fields) => string | undefined }
> = new Map([
  ['retention_expired', { word: 'flagged', read: readExpired }],
  ['retention_cleared', { word: 'cleared', read: readCleared }],
  ['retention_failed', { word: 'failed', read: readFailed }],
  ['retention_attention', { word: 'attention', read: readAttention }],
  ['retention_sealed', { word: 'sealed', read: readSealed }],
]);

function readExpired({ batches, results, buckets, oldest }: Fields): string | undefined {
  if (!isCount(batches) || !isCount(results) || !isTexts(buckets)) return undefined;
  if (oldest !== null && !isDate(oldest)) return undefined;
  const age = oldest === null ? '' : `, oldest ${oldest.replace(/T[^Z]*Z/u, '')}`;
  const places = buckets.map((bucket) => safeText(bucket)).join(', ');
  return `${showCount(results, 'result')} in ${showCount(batches, 'batch', 'batches')} (${places})${age}`;
}

function readCleared(fields: Fields): string | undefined {
  const { batch, bucket, cleared, spared, failed, ms } = fields;
  if (!isCount(batch) || typeof bucket !== 'string') return undefined;
  if (!isCount(cleared) || !isCount(spared) || !isCount(failed) || !isCount(ms)) return undefined;
  const others = [
    spared > 0 ? `${showNumber(spared)} spared` : '',
    failed > 0 ? `${showNumber(failed)} failed` : '',
  ];
  return [
    `${showCount(cleared, 'result')} (${safeText(bucket)}) in ${showNumber(ms)} ms`,
    ...others,
  ]
    .filter((part) => part !== '')
    .join(', ');
}

function readFailed(fields: Fields): string | undefined {
  const { batch, bucket, code, results, run_ids: runIds, retry_at: retryAt } = fields;
  if (!isCount(batch) || typeof bucket !== 'string' || typeof code !== 'string') return undefined;
  if (!isCount(results) || !isTexts(runIds)) return undefined;
  const isDead = retryAt === null || retryAt === undefined;
  if (!isDead && !isDate(retryAt)) return undefined;
  const named = runIds.map((runId) => safeText(runId)).join(', ');
  const runs =
    runIds.length === 0 ? '' : `, ${runIds.length < results ? 'among them ' : ''}${named}`;
  const next = isDead ? 'dead, until: retention retry --all' : `next attempt at ${retryAt}`;
  return `${showCount(results, 'result')} (${safeText(bucket)}): ${safeText(code)}${runs}; ${next}`;
}

function readAttention(fields: Fields): string | undefined {
  const { kind, because, bucket, code, results, surge_id: surgeId } = fields;
  if (kind === 'resumed') return 'results are flagged and deleted again';
  if (kind === 'halted') {
    return typeof because === 'string' ? `halted: ${safeText(because)}` : undefined;
  }
  if (kind === 'surge') {
    if (!isCount(results) || !isCount(surgeId)) return undefined;
    return `${showCount(results, 'late result')} set aside, until: retention surge release ${surgeId}`;
  }
  if (kind === 'canary' && typeof bucket === 'string' && typeof code === 'string') {
    return `the canary fails (${safeText(bucket)}): ${safeText(code)}`;
  }
  if (kind !== 'dead' || typeof bucket !== 'string' || typeof code !== 'string') return undefined;
  if (!isCount(results)) return undefined;
  return `${showCount(results, 'result')} dead (${safeText(bucket)}): ${safeText(code)}`;
}

function readSealed({ seal, digest, sealed_at: sealedAt }: Fields): string | undefined {
  if (!isCount(seal) || typeof digest !== 'string' || !/^[0-9a-f]{64}$/u.test(digest))
    return undefined;
  return isDate(sealedAt) ? `${seal}-${digest}` : undefined;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isDate(value: unknown): value is string {
  return typeof value === 'string' && ISO_DATE.test(value);
}

function safeText(text: string): string {
  return escapeControls(shorten(text, MAX_TEXT_CHARACTERS));
}
