import { type Instant, millisecondsOf, showInstant } from '../instant.ts';
import { MILLISECONDS, formatDuration } from '../lifecycle/duration.ts';
import { showCount } from '../numbers.ts';
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

/** When something is to happen; what is past already happens as soon as it can. */
export function showNext(date: Instant, now: Date): Markup {
  const late = now.getTime() - millisecondsOf(date);
  if (!(late > 0 && Number.isFinite(late))) return showWhen(date, now);
  return html`as soon as it can <span class="quiet">(due for ${showSince(date, now)})</span>`;
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

/** A command to copy; its lines break between words and not after a hyphen. */
export function showCommand(command: string): Insertion {
  return command
    .split(' ')
    .map((word, index) => [index === 0 ? '' : ' ', html`<span class="phrase">${word}</span>`]);
}

/** A command on a line of its own. */
export function showCommandLine(command: string): Markup {
  return html`<code class="command">${showCommand(command)}</code>`;
}

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  readonly isNumber?: boolean;
  /** Undefined: an empty cell, left out on a phone. */
  readonly cell: (row: Row) => Insertion;
}

/** So many rows are shown at once; the others open when they are asked for. */
const ROWS_SHOWN = 12;
/** For this many more it is not worth folding them. */
const ROWS_SPARED = 3;

/** What a table is called and holds. */
export interface Table<Row> {
  /** For a screen reader, which jumps from table to table. */
  readonly name: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  /** In place of no rows. */
  readonly whenEmpty: string;
  /** What lists all of it, where there are more rows than these. */
  readonly rest?: Insertion;
}

/** A table that becomes a list of cards on a phone; a long one shows its first rows, and opens. */
export function showTable<Row>({ name, columns, rows, whenEmpty, rest }: Table<Row>): Markup {
  if (rows.length === 0) return html`<p class="nothing">${whenEmpty}</p>`;
  const isFolded = rows.length > ROWS_SHOWN + ROWS_SPARED;
  const first = isFolded ? rows.slice(0, ROWS_SHOWN) : rows;
  const others = rows.slice(first.length);
  const folded =
    others.length === 0
      ? undefined
      : html`<details>
          <summary>${showCount(others.length, 'more row')}</summary>
          ${drawTable(`${name}, the others`, columns, others)}
        </details>`;
  const more = rest === undefined ? undefined : html`<p class="rest quiet small">${rest}</p>`;
  return html`${drawTable(name, columns, first)}${folded}${more}`;
}

/** With its roles said: a phone's cards are no table to a browser. */
function drawTable<Row>(
  name: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): Markup {
  const head = columns.map(
    ({ title, isNumber }) =>
      html`<th
        scope="col"
        role="columnheader"
        ${isNumber === true ? html` class="number"` : undefined}
      >
        ${title}
      </th>`,
  );
  const showCell = (column: Column<Row>, row: Row): Markup => {
    const content = column.cell(row);
    const classes = [
      column.isNumber === true ? 'number' : '',
      content === undefined ? 'empty' : '',
    ].filter((each) => each !== '');
    const attribute = classes.length === 0 ? undefined : html` class="${classes.join(' ')}"`;
    return html`<td role="cell" ${attribute} data-label="${column.title}">
      <div>${content}</div>
    </td>`;
  };
  return html`<table role="table" aria-label="${name}">
    <thead role="rowgroup">
      <tr role="row">
        ${head}
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${rows.map(
        (row) =>
          html`<tr role="row">
            ${columns.map((column) => showCell(column, row))}
          </tr> `,
      )}
    </tbody>
  </table>`;
}
