import { QUIET_SECONDS } from '../config/ticks.ts';
import { millisecondsOf } from '../instant.ts';
import { MILLISECONDS, formatDuration } from '../lifecycle/duration.ts';
import { showCount } from '../numbers.ts';
import { isCanaryOld } from '../store/canary.ts';
import { describeDrift } from '../store/standing.ts';
import type { Vitals } from '../store/overview.ts';
import { type Insertion, type Markup, html } from '../html.ts';
import { showName } from './page-frame.ts';
import type { Snapshot } from './snapshot.ts';
import { urgentNotes } from './status-urgent.ts';

/** How serious something is. */
export type Tone = 'good' | 'warn' | 'bad';

/** One thing that a person should know. */
export interface Note {
  readonly tone: Tone;
  readonly text: Insertion;
  /** Comes first, and has the width to itself. */
  readonly isUrgent?: boolean;
}

const FULL_QUEUE = 0.5;

/** The state of everything in one word or two. */
export function showState(snapshot: Snapshot): Markup {
  const [tone, words] = nameState(snapshot);
  return html`<span class="pill ${tone}">${words}</span>`;
}

/** The state of everything, and how serious it is. */
export function nameState(snapshot: Snapshot): readonly [Tone, string] {
  const { vitals, readiness, listener } = snapshot;
  if (listener.stopping) return ['warn', 'Stopping'];
  if (vitals.ok && !vitals.value.status.enabled) return ['warn', 'Disabled'];
  if (vitals.ok && vitals.value.gate.length > 0) return ['bad', 'Halted'];
  if (!readiness.ready) return ['bad', 'Not ready'];
  if (notesOf(snapshot).length > 0) return ['warn', 'Needs attention'];
  return vitals.ok && vitals.value.status.due > 0 ? ['good', 'Working'] : ['good', 'All clear'];
}

/** What a person should know first; nothing when all is well. */
export function showNotes(snapshot: Snapshot): Markup | undefined {
  const notes = notesOf(snapshot);
  if (notes.length === 0) return undefined;
  const items = notes.map(
    ({ tone, text, isUrgent }) =>
      html`<li class="${tone}${isUrgent === true ? ' urgent' : ''}">${text}</li> `,
  );
  return html`<section aria-labelledby="attention">
    <h2 id="attention" class="unseen">What needs attention</h2>
    <ul class="notes">
      ${items}
    </ul>
  </section>`;
}

/** How readiness begins its sentence on a gate that is closed. */
const CLOSED = 'Nothing is flagged and nothing deleted:';

function notesOf(snapshot: Snapshot): readonly Note[] {
  const { at, readiness, vitals, overview, staleSeconds } = snapshot;
  const notes: Note[] = [];
  const surges = overview.ok ? overview.value.surges : undefined;
  if (vitals.ok) notes.push(...urgentNotes(vitals.value, surges, at));
  const isTold = vitals.ok && vitals.value.gate.length > 0;
  const reasons = readiness.reasons.filter((text) => !isTold || !text.startsWith(CLOSED));
  notes.push(...reasons.map((text): Note => ({ tone: 'bad', text })));
  if (staleSeconds > 0) {
    const age = formatDuration(staleSeconds * MILLISECONDS.second);
    notes.push({
      tone: 'warn',
      text: `These figures are ${age} old: the database has not answered since.`,
    });
  }
  if (vitals.ok) notes.push(...notesOn(vitals.value));
  if (vitals.ok && !overview.ok) {
    notes.push({ tone: 'bad', text: 'The lists could not be read; the log says why.' });
  }
  if (!overview.ok) return notes;
  for (const { bucket, pause_code: code, paused_until: until } of overview.value.buckets) {
    if (until === null) continue;
    const clock = until.toISOString().slice(11, 19);
    const name = showName(bucket);
    const text = html`Bucket <b>${name}</b> pauses until ${clock} UTC: ${code ?? 'unknown'}.`;
    notes.push({ tone: 'warn', text });
  }
  return notes;
}

function notesOn({
  asOf,
  status,
  notifyQueueUsage,
  canaries = [],
  verifies = [],
}: Vitals): readonly Note[] {
  const notes: Note[] = [];
  const warn = (text: Insertion): void => void notes.push({ tone: 'warn', text });
  if (status.scheduler_health === 'silent' && status.scheduler === 'pg_cron') {
    warn(
      html`pg_cron is silent; listeners stand in for it. <code>retention doctor</code> says why.`,
    );
  }
  if (status.dead > 0) {
    const wait = status.dead === 1 ? 'waits' : 'wait';
    warn(
      html`${showCount(status.dead, 'dead result')} ${wait} for a person;
        <a href="#failed">see which</a>.`,
    );
  }
  const { newest_run: newest } = status;
  const quiet = newest === null ? 0 : asOf.getTime() - millisecondsOf(newest);
  if (quiet > QUIET_SECONDS * MILLISECONDS.second) {
    warn(
      `No run has completed for ${formatDuration(quiet)}. Does the application write to another table now?`,
    );
  }
  if (status.policies_pending > 0) {
    const waits = showCount(status.policies_pending, 'policy waits', 'policies wait');
    warn(html`${waits} for a confirmation; <a href="#policies">see which</a>.`);
  }
  for (const { bucket, age_seconds: age, problem } of canaries.filter(isCanaryOld)) {
    const since = formatDuration(age * MILLISECONDS.second);
    warn(
      html`No canary of bucket <b>${bucket}</b> was deleted for ${since}:
        ${problem ?? 'none has come to its end'}.`,
    );
  }
  for (const text of verifies.map(describeDrift)) if (text !== undefined) warn(text);
  if (notifyQueueUsage > FULL_QUEUE) {
    const percent = Math.round(notifyQueueUsage * 100);
    warn(
      `The notification queue of the server is ${percent} % full: some session listens in a transaction that never ends. Nothing is announced past half.`,
    );
  }
  return notes;
}
