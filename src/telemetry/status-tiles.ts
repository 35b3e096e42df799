import { type Insertion, type Markup, html } from '../html.ts';
import { showCount, showNumber } from '../numbers.ts';
import type { Status } from '../store/status.ts';
import type { Trend } from '../store/trend.ts';
import { showSince } from './status-words.ts';
import { showDirection, showPace, showTimeToGo } from './trend-words.ts';

interface Tile {
  readonly title: string;
  readonly figure: Insertion;
  readonly under: Insertion;
  readonly isAlarm?: boolean;
}

/** The figures of the whole, the most telling first. */
export function showTiles(status: Status, trend: Trend | undefined, now: Date): Markup {
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
    ...showTrend(trend),
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
      figure: `≈\u00A0${showNumber(status.live_estimate)}`,
      under: 'not yet cleared, estimate',
    },
  ];
  return html`<dl class="tiles">${tiles.map(showTile)}</dl>`;
}

function showTrend(trend: Trend | undefined): readonly Tile[] {
  if (trend === undefined) return [];
  const left = showTimeToGo(trend);
  const at = trend.gone_at?.toISOString().slice(0, 16).replace('T', ' ');
  return [
    {
      title: 'Pace',
      figure: showPace(trend),
      under: `cleared; ${showDirection(trend)}`,
    },
    {
      title: 'Backlog gone in',
      figure: left ?? '–',
      under: left === undefined ? trend.because : `estimate: ${at} UTC`,
    },
  ];
}

function showTile({ title, figure, under, isAlarm }: Tile): Markup {
  const tone = isAlarm === true ? ' alarm' : '';
  return html`<div class="tile${tone}">
    <dt>${title}</dt>
    <dd class="figure">${figure}</dd>
    <dd class="under">${under}</dd>
  </div> `;
}
