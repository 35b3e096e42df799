import type { BacklogPoint } from './work.ts';

const WIDTH = 720;
const HEIGHT = 300;
const MARGIN = { left: 84, right: 24, top: 20, bottom: 48 };

/** The backlog against time, as an SVG that stands on light and on dark paper. */
export function drawBacklog(points: readonly BacklogPoint[]): string {
  const most = niceAbove(Math.max(...points.map(({ results }) => results), 1));
  const longest = niceAbove(Math.max(...points.map(({ seconds }) => seconds), 1));
  const x = (seconds: number): number =>
    MARGIN.left + (seconds / longest) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (results: number): number =>
    HEIGHT - MARGIN.bottom - (results / most) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const line = points
    .filter(
      (_, index) => index % Math.ceil(points.length / 200) === 0 || index === points.length - 1,
    )
    .map(({ seconds, results }) => `${x(seconds).toFixed(1)},${y(results).toFixed(1)}`)
    .join(' ');
  const steps = [0, 0.25, 0.5, 0.75, 1];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" ` +
      'font-family="system-ui, sans-serif" font-size="12" fill="#777">',
    '<title>Flagged results that are left, against time</title>',
    ...steps.flatMap((step) => [
      `<path d="M${MARGIN.left} ${y(step * most)}H${WIDTH - MARGIN.right}" stroke="#7773"/>`,
      `<text x="${MARGIN.left - 8}" y="${y(step * most) + 4}" text-anchor="end">${count(step * most)}</text>`,
      `<text x="${x(step * longest)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${+(step * longest).toFixed(1)}</text>`,
    ]),
    `<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">seconds since the work was shown to one listener</text>`,
    `<text x="14" y="${HEIGHT / 2 - 14}" text-anchor="middle" transform="rotate(-90 14 ${HEIGHT / 2 - 14})">flagged results left</text>`,
    `<polyline points="${line}" fill="none" stroke="#2a78c8" stroke-width="2"/>`,
    '</svg>\n',
  ].join('\n');
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** The next of 1, 2, 4, 5 or 8 times a power of ten: its quarters are plain numbers. */
function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 5, 8, 10].find((step) => step * power >= value) ?? 10) * power;
}
