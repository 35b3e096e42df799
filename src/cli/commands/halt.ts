import { Command } from 'commander';
import { printJson, printLine } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface Options {
  readonly reason?: string;
  readonly by?: string;
  readonly json?: boolean;
}

/** `retention halt` */
export function haltCommand(): Command {
  return new Command('halt')
    .description('Stop flagging and deleting at once, for all listeners, until `retention resume`.')
    .requiredOption('--reason <text>', 'why, for the people who find it halted')
    .option('--by <name>', 'who halts it (default: the user of the database)')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Batches in flight are finished. Status, dry runs and holds still work.

Example:
  $ retention halt --reason "wrong policy, see incident 114"`,
    )
    .action(halt);
}

async function halt({ reason = '', by, json }: Options): Promise<void> {
  const { config, logger } = await readSettings('halt');
  const { withStore } = await import('../../assembly.ts');
  const { halted, reasons } = await withStore({ config, logger }, (store) =>
    withUsage(
      (async () => ({
        halted: await store.halt({ reason, by }),
        reasons: await store.readGate(),
      }))(),
    ),
  );
  if (json === true) printJson({ halted, reasons });
  else if (halted) printLine('Halted: nothing is flagged or claimed until `retention resume`.');
  else printLine(`It was halted already: ${reasons.map(({ because }) => because).join('; ')}`);
}
