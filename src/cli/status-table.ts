import { showNumber } from '../numbers.ts';
import type { Status } from '../store/status.ts';
import { printTable } from './output.ts';

/** Writes the view as a table. */
export function printStatus(row: Status): void {
  printTable(
    ['', ''],
    Object.entries(row as unknown as Record<string, unknown>).map(([name, value]) => [
      name.replaceAll('_', ' '),
      // As a text, so that the column is not aligned as one of figures.
      typeof value === 'number' ? showNumber(value) : value,
    ]),
  );
}
