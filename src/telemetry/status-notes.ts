import { QUIET_SECONDS } from '../config/ticks.ts';
import { millisecondsOf } from '../instant.ts';
import { MILLISECONDS, formatDuration } from '../lifecycle/duration.ts';
import { showCount } from '../numbers.ts';
import { isCanaryOld } from '../store/canary.ts';
import type { Vitals } from '../store/overview.ts';
import { type Insertion, type Markup, html } from '../html.ts';
import type { Snapshot } from './snapshot.ts';

/** How serious something is. */
export type Tone = 'good' | 'warn' | 'bad';

interface Note {
  readonly tone: Tone;
  readonly text: Insertion;
}

const FULL_QUEUE = 0.5;

/** The state of everything in one word or two. */
export function showState(snapshot: Snapshot): Markup {
  const [tone, words] = nameState(snapshot);
  return html`<span class="pill ${tone}">${words}</span>`;
}

function nameState(snapshot: Snapshot): readonly [Tone, string] {
  const { vitals, readiness, listener } = snapshot;
  if (listener.stopping) return ['warn', 'Stopping'];
  if (!readiness.ready) return ['bad', 'Not ready'];
  if (vitals.ok && !vitals.value.status.enabled) return ['warn', 'Disabled'];
  if (vitals.ok && vitals.value.gate.length > 0) return ['bad', 'Halted'];
  if (notesOf(snapshot).length > 0) return ['warn', 'Needs attention'];
  return vitals.ok && vitals.value.status.due > 0 ? ['good', 'Working'] : ['good', 'All clear'];
}

/** What a person should know first; nothing when all is well. */
export function showNotes(snapshot: Snapshot): Markup | undefined {
  const notes = notesOf(snapshot);
  if (notes.length === 0) return undefined;
  const items = notes.map(({ tone, text }) => html`<li class="${tone}">${text}</li> `);
  return html`<ul class="notes">
    ${items}
  </ul>`;
}

function notesOf({ readiness, vitals, overview, staleSeconds }: Snapshot): readonly Note[] {
  const notes: Note[] = readiness.reasons.map((text) => ({ tone: 'bad', text }));
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
    const text = html`Bucket <b>${bucket}</b> pauses until ${clock} UTC: ${code ?? 'unknown'}.`;
    notes.push({ tone: 'warn', text });
  }
  return notes;
}

function notesOn({ asOf, status, notifyQueueUsage, gate, canaries = [] }: Vitals): readonly Note[] {
  const notes: Note[] = [];
  const warn = (text: Insertion): void => void notes.push({ tone: 'warn', text });
  for (const { because, remedy } of gate) {
    warn(html`Nothing is flagged and nothing deleted: ${because}. Remedy: <code>${remedy}</code>.`);
  }
  if (status.scheduler_health === 'silent' && status.scheduler === 'pg_cron') {
    warn(
      html`pg_cron is silent; listeners stand in for it. <code>retention doctor</code> says why.`,
    );
  }
  if (status.dead > 0) {
    const wait = status.dead === 1 ? 'waits' : 'wait';
    warn(`${showCount(status.dead, 'dead result')} ${wait} for a person; see below.`);
  }
  const { newest_run: newest } = status;
  const quiet = newest === null ? 0 : asOf.getTime() - millisecondsOf(newest);
  if (quiet > QUIET_SECONDS * MILLISECONDS.second) {
    warn(
      `No run has completed for ${formatDuration(quiet)}. Does the application write to another table now?`,
    );
  }
  if (status.set_aside > 0) {
    warn(
      html`${showCount(status.set_aside, 'late result is', 'late results are')} set aside; nothing
        of it goes before it is released: <code>retention surge list</code>.`,
    );
  }
  if (status.policies_pending > 0) {
    const waits = showCount(status.policies_pending, 'policy waits', 'policies wait');
    warn(`${waits} for a confirmation; see below.`);
  }
  for (const { bucket, age_seconds: age, problem } of canaries.filter(isCanaryOld)) {
    const since = formatDuration(age * MILLISECONDS.second);
    warn(
      html`No canary of bucket <b>${bucket}</b> was deleted for ${since}:
        ${problem ?? 'none has come to its end'}.`,
    );
  }
  if (notifyQueueUsage > FULL_QUEUE) {
    const percent = Math.round(notifyQueueUsage * 100);
    warn(
      `The notification queue of the server is ${percent} % full: some session listens in a transaction that never ends. Nothing is announced past half.`,
    );
  }
  return notes;
}
