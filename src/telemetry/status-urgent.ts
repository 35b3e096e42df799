import { type Insertion, type Markup, html } from '../html.ts';
import { showCount } from '../numbers.ts';
import type { Vitals } from '../store/overview.ts';
import type { Surge } from '../store/surges.ts';
import { showCommandLine, showSince } from './status-words.ts';
import type { Note } from './status-notes.ts';

/** So many surges are told of one by one. */
const MOST_SURGES = 3;

/** What keeps everything or a great part of it from going, with the command: what a person reads first. */
export function urgentNotes(
  vitals: Vitals,
  surges: readonly Surge[] | undefined,
  now: Date,
): readonly Note[] {
  const notes: Note[] = vitals.gate.map(({ because, since, remedy }) => ({
    tone: 'bad',
    isUrgent: true,
    text: html`<b>Nothing is flagged and nothing deleted:</b>
      ${because}${since === null ? undefined : html`, for ${showSince(since, now)}`}.
      ${showRemedy('To go on:', remedy)}`,
  }));
  const { set_aside: setAside } = vitals.status;
  if (setAside === 0) return notes;
  if (surges === undefined || surges.length === 0) {
    notes.push({
      tone: 'warn',
      isUrgent: true,
      text: html`<b>${showCount(setAside, 'late result is', 'late results are')} set aside.</b>
        ${showRemedy('Look at them:', 'retention surge list')}`,
    });
    return notes;
  }
  for (const surge of surges.slice(0, MOST_SURGES)) {
    notes.push({ tone: 'warn', isUrgent: true, text: describeSurge(surge, now) });
  }
  const others = surges.length - MOST_SURGES;
  if (others > 0) {
    notes.push({
      tone: 'warn',
      isUrgent: true,
      text: html`${showCount(others, 'more surge waits', 'more surges wait')} for a person.
      ${showRemedy('All of them:', 'retention surge list')}`,
    });
  }
  return notes;
}

function describeSurge(surge: Surge, now: Date): Markup {
  const { surge_id: id, results, tenants, due_since: since, because } = surge;
  const what = showCount(results, 'late result is', 'late results are');
  const of = tenants === null ? '' : ` of ${showCount(tenants, 'tenant')}`;
  const age = since === null ? undefined : html`, the oldest due for ${showSince(since, now)}`;
  const words = html`<b>${what} set aside${id === null ? '' : ` as surge ${id}`}</b>${of}${age}:
    ${because}.`;
  if (id === null) return html`${words} It is still being counted; the next ticks go on.`;
  return html`${words} None of them goes before a person says so.
  ${showRemedy('Look first:', `retention surge show ${id}`)}
  ${showRemedy('If they are to go, with the count that it shows:', `retention surge release ${id} --expect COUNT`)}`;
}

function showRemedy(words: string, command: string): Insertion {
  return html`<span class="small do">${words}</span>${showCommandLine(command)}`;
}
