import { type Instant, millisecondsOf, showInstant } from '../instant.ts';
import { MILLISECONDS, formatDuration } from '../lifecycle/duration.ts';
import { type Insertion, type Markup, html } from '../html.ts';

/** Days for people: `30 d`, `1.5 d`. */
export function showDays(days: number): string {
  return formatDuration(days * MILLISECONDS.day);
}

/** How long ago, or in how long; the exact time is in its title. */
export function showWhen(date: Instant, now: Date): Markup {
  const iso = showInstant(date);
  const milliseconds = now.getTime() - millisecondsOf(date);
  if (!Number.isFinite(milliseconds)) return html`${iso}`;
  const distance = showDistance(Math.abs(milliseconds));
  const words =
    Math.abs(milliseconds) < 1_000
      ? 'now'
      : milliseconds > 0
        ? `${distance} ago`
        : `in ${distance}`;
  return html`<time datetime="${iso}" title="${iso}">${words}</time>`;
}

/** How long something has been so. */
export function showSince(date: Instant, now: Date): Markup {
  const iso = showInstant(date);
  const milliseconds = Math.max(0, now.getTime() - millisecondsOf(date));
  if (!Number.isFinite(milliseconds)) return html`${iso}`;
  const distance = showDistance(milliseconds);
  return html`<time datetime="${iso}" title="since ${iso}">${distance}</time>`;
}

/** To the second at first, later to the minute. */
function showDistance(milliseconds: number): string {
  const { minute, second } = MILLISECONDS;
  const unit = milliseconds < 10 * minute ? second : minute;
  return milliseconds < second ? '0 s' : formatDuration(Math.round(milliseconds / unit) * unit);
}

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  readonly isNumber?: boolean;
  /** Undefined: an empty cell, left out on a phone. */
  readonly cell: (row: Row) => Insertion;
}

/** A table that becomes a list of cards on a phone; in place of no rows, words. */
export function showTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  whenEmpty: string,
): Markup {
  if (rows.length === 0) return html`<p class="nothing">${whenEmpty}</p>`;
  const head = columns.map(
    ({ title, isNumber }) =>
      html`<th scope="col" ${isNumber === true ? html` class="number"` : undefined}>${title}</th>`,
  );
  const showCell = (column: Column<Row>, row: Row): Markup => {
    const content = column.cell(row);
    const classes = [
      column.isNumber === true ? 'number' : '',
      content === undefined ? 'empty' : '',
    ].filter((name) => name !== '');
    const attribute = classes.length === 0 ? undefined : html` class="${classes.join(' ')}"`;
    return html`<td${attribute} data-label="${column.title}"><div>${content}</div></td>`;
  };
  return html`<table>
    <thead>
      <tr>
        ${head}
      </tr>
    </thead>
    <tbody>
      ${rows.map(
        (row) =>
          html`<tr>
            ${columns.map((column) => showCell(column, row))}
          </tr> `,
      )}
    </tbody>
  </table>`;
}
