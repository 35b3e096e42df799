import { Command } from 'commander';
import { printJson, printTable } from '../output.ts';
import { readSettings } from '../settings.ts';

/** `retention status` */
export function statusCommand(): Command {
  return new Command('status')
    .description('How things stand: due, flagged, failed, dead, held, and the scheduler.')
    .option('--json', 'print one JSON document, the columns of retention.status as keys')
    .addHelpText('after', '\nExample:\n  $ retention status --json')
    .action(status);
}

async function status(options: { readonly json?: boolean }): Promise<void> {
  const { config, logger } = await readSettings();
  const { withStore } = await import('../../assembly.ts');
  const row = await withStore({ config, logger }, (store) => store.readStatus());
  if (options.json === true) {
    printJson(row);
    return;
  }
  printTable(
    ['', ''],
    Object.entries(row as unknown as Record<string, unknown>).map(([name, value]) => [
      name.replaceAll('_', ' '),
      typeof value === 'number' ? value.toLocaleString('en') : value,
    ]),
  );
}
