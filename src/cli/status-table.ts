import type { Status } from '../store/status.ts';
import { printTable } from './output.ts';

/** Writes the view as a table. */
export function printStatus(row: Status): void {
  printTable(
    ['', ''],
    Object.entries(row as unknown as Record<string, unknown>).map(([name, value]) => [
      name.replaceAll('_', ' '),
      typeof value === 'number' ? value.toLocaleString('en') : value,
    ]),
  );
}
