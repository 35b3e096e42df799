import { Command } from 'commander';
import type { Config } from '../../config/config.ts';
import { confirm, printJson, printLine, printTable } from '../output.ts';
import { readSettings } from '../settings.ts';
import { readWholeNumber } from '../whole-number.ts';

const MOST_STEPS = 9_999;

interface DownOptions {
  readonly steps?: string;
  readonly yes?: boolean;
}

/** `retention migrate up|down|status|sql` */
export function migrateCommand(): Command {
  const command = new Command('migrate').description('Manage the schema `retention`.');
  command
    .command('up')
    .description('Adopt the table, bring the schema up to date, schedule the one job.')
    .addHelpText(
      'after',
      '\nExample:\n  $ DATABASE_URL=postgres://owner@db/app retention migrate up',
    )
    .action(up);
  command
    .command('down')
    .description('Remove the schema, the job and the indexes; the cleared-at column stays.')
    .option(
      '--steps <count>',
      'take back only the last migrations; what has no tables loses nothing',
    )
    .option('--yes', 'do not ask, although holds, policies and flagged work are lost')
    .addHelpText('after', '\nExample:\n  $ retention migrate down --yes')
    .action(down);
  command
    .command('status')
    .description('List the migrations that the database has and those that it lacks.')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention migrate status --json')
    .action(status);
  command
    .command('sql')
    .description('Print what `up` would run, for migrations that another tool runs.')
    .option('--from <migration>', 'the first to print, by its number or name')
    .option('--to <migration>', 'the last to print')
    .option('--no-transaction', 'leave out begin and commit, for a tool that brings its own')
    .addHelpText(
      'after',
      `
Examples:
  $ retention migrate sql --from 0003
  $ retention migrate sql --no-transaction > sql/V42__retention.sql`,
    )
    .action(sql);
  return command;
}

async function up(): Promise<void> {
  const { config, logger } = await readSettings('migrate');
  const { migrate } = await import('../../assembly.ts');
  printRan(await migrate({ config, logger, direction: 'up' }), 'The schema is up to date.');
}

async function down(options: DownOptions): Promise<void> {
  const { config, logger } = await readSettings('migrate');
  const { migrate, withStore } = await import('../../assembly.ts');
  const steps =
    options.steps === undefined
      ? undefined
      : await readWholeNumber(options.steps, '--steps', MOST_STEPS);
  if (options.yes !== true && (await takesTables(config, steps))) {
    const losses = await withStore({ config, logger }, (store) => store.readLosses());
    if (losses !== undefined) await confirm(`Migrating down loses ${losses}. Go on?`, false);
  }
  const ran = await migrate({
    config,
    logger,
    direction: 'down',
    ...(steps === undefined ? {} : { count: steps }),
  });
  printRan(ran, 'There was nothing to take back.');
}

/** Whether so many migrations back is where the tables go, and with them what people put there. */
async function takesTables(config: Config, steps: number | undefined): Promise<boolean> {
  if (steps === undefined) return true;
  const { readMigrationState } = await import('../../database/migrations.ts');
  const { applied } = await readMigrationState(config.databaseMigrateUrl, config.passwordFile);
  return applied.slice(-steps).some(({ name }) => name.endsWith('_tables'));
}

async function sql({
  from,
  to,
  transaction,
}: {
  readonly from?: string;
  readonly to?: string;
  readonly transaction: boolean;
}): Promise<void> {
  const { config } = await readSettings('migrate');
  const { migrationSettings } = await import('../../assembly.ts');
  const { writeMigrationSql } = await import('../../database/migration-sql.ts');
  printLine(
    await writeMigrationSql({ from, to, transaction, settings: migrationSettings(config) }),
  );
}

async function status(options: { readonly json?: boolean }): Promise<void> {
  const { config } = await readSettings('migrate');
  const { readMigrationState } = await import('../../database/migrations.ts');
  const state = await readMigrationState(config.databaseMigrateUrl, config.passwordFile);
  if (options.json === true) {
    printJson(state);
    return;
  }
  printTable(
    ['migration', 'applied'],
    [
      ...state.applied.map(({ name, at }) => [name, at]),
      ...state.pending.map((name) => [name, 'not yet']),
    ],
  );
}

function printRan(names: readonly string[], nothing: string): void {
  if (names.length === 0) printLine(nothing);
  for (const name of names) printLine(name);
}
