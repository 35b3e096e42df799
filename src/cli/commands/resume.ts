import { Command } from 'commander';
import { printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';

interface Options {
  readonly json?: boolean;
}

/** `retention resume` */
export function resumeCommand(): Command {
  return new Command('resume')
    .description('End a halt by hand.')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Other reasons of the gate (retention disabled, table detached, ...) stay; status names them.

Example:
  $ retention resume`,
    )
    .action(resume);
}

async function resume({ json }: Options): Promise<void> {
  const { config, logger } = await readSettings('resume');
  const { withStore } = await import('../../assembly.ts');
  const { resumed, reasons } = await withStore({ config, logger }, async (store) => ({
    resumed: await store.resume(),
    reasons: await store.readGate(),
  }));
  if (json === true) {
    printJson({ resumed, reasons });
    return;
  }
  printLine(resumed ? 'Resumed.' : 'It was not halted by hand.');
  for (const { because, remedy } of reasons) {
    printLine(`Still nothing is flagged or claimed: ${because}. Remedy: ${remedy}`);
  }
}
