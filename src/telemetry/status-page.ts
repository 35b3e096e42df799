import { formatDuration } from '../lifecycle/duration.ts';
import { showCount, showNumber } from '../numbers.ts';
import type { Status } from '../store/status.ts';
import { type Insertion, Markup, html } from '../html.ts';
import type { Snapshot } from './snapshot.ts';
import { showActivity } from './status-chart.ts';
import { showNotes, showState } from './status-notes.ts';
import { STYLE_ELEMENT } from './status-style.ts';
import {
  showBuckets,
  showCard,
  showHolds,
  showListeners,
  showPendingPolicies,
  showTenants,
  showTroubles,
} from './status-tables.ts';
import { showDays, showSince, showWhen } from './status-words.ts';

/** How often the page asks for itself again. */
const REFRESH_SECONDS = 10;

const ICON =
  'data:image/svg+xml,%3Csvg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"%3E%3Cpath fill="none" stroke="%2312867a" stroke-width="2.4" stroke-linecap="round" d="M13.5 8A5.5 5.5 0 1 1 8 2.5M8 2.5h3.6M8 5v3.2l2 1.6"/%3E%3C/svg%3E';

/** Writes the status page. */
export function renderStatusPage(snapshot: Snapshot): string {
  const { at, vitals } = snapshot;
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="robots" content="noindex" />
        <meta http-equiv="refresh" content="${REFRESH_SECONDS}" />
        <title>Retention Reactor</title>
        <link rel="icon" href="${new Markup(ICON.replaceAll('"', '%22'))}" />
        ${STYLE_ELEMENT}
      </head>
      <body>
        <main>
          <header>
            <h1>Retention Reactor</h1>
            ${showState(snapshot)}
            <p>
              As of ${at.toISOString().slice(0, 19).replace('T', ' ')} UTC, again every
              ${REFRESH_SECONDS} s
            </p>
          </header>
          ${showNotes(snapshot)} ${vitals.ok ? showTiles(vitals.value.status, at) : undefined}
          ${showDetails(snapshot)}
          <footer>
            <p>
              Figures are those of <code>retention status</code>. Also here:
              <a href="/status.json">status.json</a>, <a href="/metrics">metrics</a>,
              <a href="/readyz">readyz</a>
            </p>
          </footer>
        </main>
      </body>
    </html> `;
  return page.text;
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
      <div>${health}${showListeners(value, at)}</div>
    </div>`,
    showHolds(value, held, at),
  ];
}

interface Tile {
  readonly title: string;
  readonly figure: Insertion;
  readonly under: Insertion;
  readonly isAlarm?: boolean;
}

function showTiles(status: Status, now: Date): Markup {
  const { oldest_due: oldest, due_since: since } = status;
  const tiles: readonly Tile[] = [
    {
      title: status.due_is_capped ? 'Due, at least' : 'Due',
      figure: showNumber(status.due),
      under: since === null ? 'nothing waits' : html`the oldest for ${showSince(since, now)}`,
    },
    {
      title: 'Flagged',
      figure: showNumber(status.flagged),
      under:
        status.flagged === 0
          ? 'no batch waits'
          : `${showNumber(status.leased)} at work, ${showCount(status.batches, 'batch', 'batches')}`,
    },
    {
      title: 'Cleared today',
      figure: showNumber(status.cleared_today),
      under: `since midnight UTC, ${showNumber(status.spared_today)} spared`,
    },
    {
      title: 'Oldest due',
      figure: oldest === null ? '–' : showSince(oldest, now),
      under: oldest === null ? 'nothing is due' : 'since its run completed',
    },
    {
      title: 'Failed',
      figure: showNumber(status.failed),
      under: status.failed === 0 ? 'none' : 'tried again by themselves',
    },
    {
      title: 'Dead',
      figure: showNumber(status.dead),
      under: status.dead === 0 ? 'none' : 'wait for a person',
      isAlarm: status.dead > 0,
    },
    {
      title: 'Holds',
      figure: showNumber(status.held),
      under: 'on runs and tenants',
    },
    {
      title: 'Live',
      figure: `≈ ${showNumber(status.live_estimate)}`,
      under: 'not yet cleared, estimate',
    },
  ];
  return html`<dl class="tiles">${tiles.map(showTile)}</dl>`;
}

function showTile({ title, figure, under, isAlarm }: Tile): Markup {
  const tone = isAlarm === true ? ' alarm' : '';
  return html`<div class="tile${tone}">
    <dt>${title}</dt>
    <dd class="figure">${figure}</dd>
    <dd class="under">${under}</dd>
  </div> `;
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
  const rows = facts.map(
    ([name, value]) =>
      html`<dt>${name}</dt>
        <dd>${value}</dd> `,
  );
  return showCard('Listener and scheduler', html`<dl class="facts">${rows}</dl>`);
}

function describeScheduler(status: Status, now: Date): readonly (readonly [string, Insertion])[] {
  const { scheduler_health: health, last_tick: tick, last_pass: pass } = status;
  const { next_pass: next, newest_run: newest } = status;
  const tone = health === 'ok' ? 'good' : 'warn';
  return [
    ['Scheduler', html`${status.scheduler} <span class="pill ${tone}">${health}</span>`],
    ['Last tick', tick === null ? 'never' : showWhen(tick, now)],
    ['Last pass', pass === null ? 'never' : showWhen(pass, now)],
    ['Next pass', next === null ? status.next_pass_because : showWhen(next, now)],
    ['Newest run', newest === null ? 'none known' : showWhen(newest, now)],
    ['Flags every', formatDuration(status.loop_interval_seconds * 1_000)],
    ['Keeps results', `${showDays(status.default_retain_days)} by default`],
  ];
}
