import { Command } from 'commander';
import { showCount, showNumber } from '../../numbers.ts';
import type { Upcoming } from '../../store/upcoming.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

const MOST_DAYS = 366;

interface Options {
  readonly days: string;
  readonly tenant?: string;
  readonly json?: boolean;
}

/** `retention upcoming` */
export function upcomingCommand(): Command {
  return new Command('upcoming')
    .description('What goes when: by day, tenant and bucket.')
    .option('--days <count>', 'today and so many days after it, by UTC', '7')
    .option('--tenant <id>', 'of this tenant only')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
A day says when results may go at the earliest, by the rules as they are now and with the cool-off. Without a day
stands what a hold, another run or a failure keeps.

Example:
  $ retention upcoming --days 30 --tenant tenant_abc`,
    )
    .action(upcoming);
}

async function upcoming({ days, tenant, json }: Options): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  if (!/^\d{1,3}$/u.test(days) || Number(days) > MOST_DAYS) {
    throw new UsageError(`--days: expected a whole number from 0 to ${MOST_DAYS}; given "${days}"`);
  }
  if (tenant === '') throw new UsageError('--tenant: expected a tenant id; given an empty text');
  const { config, logger } = await readSettings('upcoming');
  const { withStore } = await import('../../assembly.ts');
  const rows = await withStore({ config, logger }, (store) =>
    withUsage(store.readUpcoming({ days: Number(days), tenantId: tenant })),
  );
  if (json === true) {
    printJson({
      days: Number(days),
      tenant_id: tenant ?? null,
      results: sumOf(rows),
      upcoming: rows,
    });
    return;
  }
  if (rows.length === 0) {
    printLine('Nothing is flagged, due or falls due in these days.');
    return;
  }
  printTable(
    ['day', 'state', 'tenant', 'bucket', 'results'],
    rows.map(({ day, state, tenant_id, bucket, results }) => [
      day ?? 'no day',
      state,
      tenant_id,
      bucket,
      results,
    ]),
  );
  const dated = rows.filter(({ day }) => day !== null);
  printLine();
  printLine(
    `${showCount(sumOf(dated), 'result')} may go in these days, by UTC; ` +
      `${showNumber(sumOf(rows) - sumOf(dated))} are kept.`,
  );
}

function sumOf(rows: readonly Upcoming[]): number {
  return rows.reduce((sum, { results }) => sum + results, 0);
}
