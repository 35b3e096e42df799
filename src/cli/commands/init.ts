import { Command } from 'commander';
import { printFindings } from '../findings.ts';
import { printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';

/** `retention init` */
export function initCommand(): Command {
  return new Command('init')
    .description('Report all that is missing or odd before the table is adopted; change nothing.')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits 1 when something stands in the way of \`retention migrate up\`.

Example:
  $ DATABASE_URL=postgres://owner@db/app retention init`,
    )
    .action(init);
}

async function init(options: { readonly json?: boolean }): Promise<void> {
  const { config } = await readSettings('migrate');
  const [{ migrationSettings }, { readAdoptionReport }] = await Promise.all([
    import('../../assembly.ts'),
    import('../../database/migrations.ts'),
  ]);
  const lines = await readAdoptionReport(
    config.databaseMigrateUrl,
    migrationSettings(config),
    config.passwordFile,
  );
  const checks = lines.map(({ name, state, found, remedy }) => ({ name, state, found, remedy }));
  const ok = checks.every(({ state }) => state !== 'failed');
  if (options.json === true) printJson({ ok, checks });
  else {
    printFindings({ ok, checks });
    if (ok) printLine('The table can be adopted: retention migrate up');
  }
  if (!ok) process.exitCode = 1;
}
