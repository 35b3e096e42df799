import { MILLISECONDS } from '../lifecycle/duration.ts';
import { showCount, showNumber } from '../numbers.ts';
import { ACTIVITY_HOURS, type ActivityPart } from '../store/overview.ts';
import { type Markup, html } from '../html.ts';

const WIDTH = 480;
const HEIGHT = 150;
/** The share of a part's width that the bar takes. */
const BAR_SHARE = 0.72;
/** The least height of a bar, so that one result among a million shows. */
const LEAST_BAR = 2;

/** What was flagged, upwards, and what was cleared and refused, downwards, on one scale. */
export function showActivity(activity: readonly ActivityPart[]): Markup {
  const sum = (pick: (part: ActivityPart) => number): number =>
    activity.reduce((total, part) => total + pick(part), 0);
  const flagged = sum((part) => part.flagged);
  const cleared = sum((part) => part.cleared);
  const failed = sum((part) => part.failed);
  const hours = [4, 3, 2, 1].map((quarter) => `${(ACTIVITY_HOURS / 4) * quarter} h ago`);
  const label = `${showCount(flagged, 'result')} flagged, ${showNumber(cleared)} cleared, ${showNumber(failed)} refused`;
  const chart = html`${drawBars(activity, label)}
    <div class="hours">${hours.map((hour) => html`<span>${hour}</span>`)}<span>now</span></div>`;
  return html`<section class="card">
    <div class="chart-head">
      <h2>The last ${ACTIVITY_HOURS} hours</h2>
      <span class="key"><i class="flagged"></i><b>${showNumber(flagged)}</b> flagged</span>
      <span class="key"><i class="cleared"></i><b>${showNumber(cleared)}</b> cleared</span>
      ${failed === 0 ? undefined : html`<span class="key"><i class="refused"></i><b>${showNumber(failed)}</b> refused</span>`}
    </div>
    ${flagged + cleared + failed === 0 ? html`<p class="nothing">Nothing was flagged and nothing cleared.</p>` : chart}
  </section>`;
}

function drawBars(activity: readonly ActivityPart[], label: string): Markup {
  const most = (pick: (part: ActivityPart) => number): number =>
    Math.max(0, ...activity.map((part) => pick(part)));
  const up = most((part) => part.flagged);
  const down = most((part) => part.cleared + part.failed);
  const scale = (HEIGHT - 2 * LEAST_BAR) / Math.max(up + down, 1);
  const zero = LEAST_BAR + up * scale;
  const step = WIDTH / Math.max(activity.length, 1);
  const tall = (count: number): number => (count === 0 ? 0 : Math.max(count * scale, LEAST_BAR));
  const bar = (kind: string, index: number, y: number, height: number): Markup | undefined =>
    height === 0
      ? undefined
      : html`<rect
          class="${kind}"
          x="${round(index * step + (step * (1 - BAR_SHARE)) / 2)}"
          y="${round(y)}"
          width="${round(step * BAR_SHARE)}"
          height="${round(height)}"
        />`;
  const parts = activity.map((part, index) => {
    const cleared = tall(part.cleared);
    return html`<g
      ><title>${describePart(part)}</title
      ><rect
        x="${round(index * step)}"
        y="0"
        width="${round(step)}"
        height="${HEIGHT}"
        fill="none"
        pointer-events="all"
      />${bar('flagged', index, zero - tall(part.flagged), tall(part.flagged))}${bar('cleared', index, zero, cleared)}${bar('refused', index, zero + cleared, tall(part.failed))}</g
    >`;
  });
  return html`<svg
    viewBox="0 0 ${WIDTH} ${HEIGHT}"
    preserveAspectRatio="none"
    role="img"
    aria-label="${label}"
  >
    <line class="axis" x1="0" x2="${WIDTH}" y1="${round(zero)}" y2="${round(zero)}" />
    ${parts}
  </svg>`;
}

function describePart({ begins_at, flagged, cleared, failed }: ActivityPart): string {
  const minutes = (ACTIVITY_HOURS * MILLISECONDS.hour) / 48 / MILLISECONDS.minute;
  const from = begins_at.toISOString().slice(11, 16);
  const figures = `${showNumber(flagged)} flagged, ${showNumber(cleared)} cleared, ${showNumber(failed)} refused`;
  return `${minutes} minutes from ${from} UTC: ${figures}`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
