import { formatDuration } from '../lifecycle/duration.ts';
import { showCount, showNumber } from '../numbers.ts';
import type { Overview } from '../store/overview.ts';
import type { Status } from '../store/status.ts';
import { type Insertion, type Markup, html } from '../html.ts';
import { framePage } from './page-frame.ts';
import type { Snapshot } from './snapshot.ts';
import { showActivity } from './status-chart.ts';
import { nameState, showNotes, showState } from './status-notes.ts';
import {
  showBuckets,
  showCard,
  showHolds,
  showListeners,
  showPendingPolicies,
  showTenants,
  showTroubles,
} from './status-tables.ts';
import { showTiles } from './status-tiles.ts';
import { showDays, showNext, showSince, showWhen } from './status-words.ts';

/** How often the page asks for itself again. */
export const REFRESH_SECONDS = 10;

/**
 * Writes the status page.
 *
 * @param isRefreshed whether it asks for itself again; a reader may stop that.
 */
export function renderStatusPage(snapshot: Snapshot, isRefreshed = true): string {
  const { at, vitals, overview, installation } = snapshot;
  const [, subject] = nameState(snapshot);
  const trend = overview.ok ? overview.value.trend : undefined;
  const again = isRefreshed
    ? html`again every ${REFRESH_SECONDS} s <a href="/?refresh=off">Stop</a>`
    : html`not again by itself <a href="/">Refresh every ${REFRESH_SECONDS} s</a>`;
  return framePage({
    installation,
    subject,
    beside: html`${showState(snapshot)}
      <p class="as-of">As of ${at.toISOString().slice(0, 19).replace('T', ' ')} UTC, ${again}</p>`,
    content: html`${showNotes(snapshot)}
      ${vitals.ok ? showTiles(vitals.value.status, trend, at) : undefined} ${showDetails(snapshot)}
      <footer>
        <p>
          Figures are those of <code>retention status</code>. Also here:
          <a href="/status.json">status.json</a>, <a href="/metrics">metrics</a>,
          <a href="/readyz">readyz</a>
        </p>
      </footer>`,
  });
}

function showDetails(snapshot: Snapshot): Insertion {
  const { at, vitals, overview } = snapshot;
  const health = showHealth(snapshot);
  if (!overview.ok) return health;
  const { value } = overview;
  const held = vitals.ok ? vitals.value.status.held : value.holds.length;
  return [
    showActivity(value.activity),
    showTroubles(value, at),
    showPendingPolicies(value, at),
    showBuckets(value, at),
    html`<div class="pair">
      ${showTenants(value, at)}
      <div>${health}${showProof(snapshot, value.head)}${showListeners(value, at)}</div>
    </div>`,
    showHolds(value, held, at),
  ];
}

function showHealth(snapshot: Snapshot): Markup {
  const { at, startedAt, listener, vitals } = snapshot;
  const facts: (readonly [string, Insertion])[] = [
    [
      'This listener',
      listener.listening
        ? html`<span class="pill good">listening</span>`
        : html`<span class="pill bad">not listening</span>`,
    ],
    ['Up for', showSince(startedAt, at)],
    [
      'Last heard',
      listener.provenAt === undefined ? 'nothing yet' : showWhen(listener.provenAt, at),
    ],
    ['Reconnects', showNumber(listener.reconnects)],
  ];
  if (vitals.ok) facts.push(...describeScheduler(vitals.value.status, at));
  return showCard('Listener and scheduler', showFacts(facts));
}

function showFacts(facts: readonly (readonly [string, Insertion])[]): Markup {
  const rows = facts.map(
    ([name, value]) =>
      html`<dt>${name}</dt>
        <dd>${value}</dd> `,
  );
  return html`<dl class="facts">${rows}</dl>`;
}

/** The latest seal, and whether it is also kept where the database cannot change it. */
function showProof({ at, vitals }: Snapshot, head: Overview['head']): Markup {
  const facts: (readonly [string, Insertion])[] = [
    ['Last seal', head === null ? 'none yet' : describeSeal(head, at)],
  ];
  if (vitals.ok && vitals.value.sealsUnwritten !== null) {
    facts.push(['Not yet kept outside', showCount(vitals.value.sealsUnwritten, 'seal')]);
  }
  return showCard('Proof', showFacts(facts));
}

function describeSeal(head: NonNullable<Overview['head']>, now: Date): Markup {
  return html`${showNumber(head.seal)}, ${showWhen(new Date(head.sealed_at), now)}
    <code class="small">${head.digest.slice(0, 16)}</code>`;
}

function describeScheduler(status: Status, now: Date): readonly (readonly [string, Insertion])[] {
  const { scheduler_health: health, last_tick: tick, last_pass: pass } = status;
  const { next_pass: next, newest_run: newest } = status;
  const tone = health === 'ok' ? 'good' : 'warn';
  return [
    ['Scheduler', html`${status.scheduler} <span class="pill ${tone}">${health}</span>`],
    ['Last tick', tick === null ? 'never' : showWhen(tick, now)],
    ['Last pass', pass === null ? 'never' : showWhen(pass, now)],
    ['Next pass', next === null ? status.next_pass_because : showNext(next, now)],
    ['Newest run', newest === null ? 'none known' : showWhen(newest, now)],
    ['Flags every', formatDuration(status.loop_interval_seconds * 1_000)],
    ['Keeps results', `${showDays(status.default_retain_days)} by default`],
  ];
}
