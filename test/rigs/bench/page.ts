import { readFileSync, writeFileSync } from 'node:fs';
import type { Report } from './report.ts';

const BEGIN = '<!-- bench -->';
const END = '<!-- /bench -->';

/** Puts the figures of a report between the two marks of the benchmark page; all else of it stays. */
export function writePage(report: Report, file: string): void {
  writeFileSync(file, replaceFigures(readFileSync(file, 'utf8'), report));
}

/** The text of the page with the figures of a report. */
export function replaceFigures(page: string, report: Report): string {
  const from = page.indexOf(BEGIN);
  const to = page.indexOf(END, from);
  if (from === -1 || to === -1) throw new Error(`the benchmark page lacks ${BEGIN} or ${END}`);
  return `${page.slice(0, from + BEGIN.length)}\n${renderFigures(report)}\n${page.slice(to)}`;
}

function renderFigures({ machine, node, postgres, runs, scale, figures }: Report): string {
  const rows = figures.map(({ title, unit, median, min, max, target, met }) => {
    const missed = met === false ? ' (missed)' : '';
    return `| ${title} | ${say(median)} ${unit} | ${say(min)}–${say(max)} | ${target ?? ''}${missed} |`;
  });
  const share = scale === 1 ? '' : `, at ${scale} of the rows`;
  return [
    `Measured on ${machine.cores} cores (${machine.cpu}), ${machine.gigabytes} GB, Node ${node.slice(1)},`,
    `PostgreSQL ${postgres.major}, ${runs} runs${share}:`,
    '',
    '| figure | median | min–max | target |',
    '| --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}

function say(value: number): string {
  if (Math.abs(value) >= 100) return String(Math.round(value));
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
