import { Command } from 'commander';
import { showCount } from '../../numbers.ts';
import { printJson, printLine } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface Options {
  readonly run?: readonly string[];
  readonly tenant?: string;
  readonly bucket?: string;
  readonly code?: string;
  readonly json?: boolean;
}

/** `retention retry` */
export function retryCommand(): Command {
  return new Command('retry')
    .description('Revive dead results and bring failed ones forward: all, or those named.')
    .option('--run <id...>', 'only these runs')
    .option('--tenant <id>', 'only results of this tenant')
    .option('--bucket <name>', 'only results in this bucket')
    .option('--code <code>', 'only what S3 refused with this code, such as AccessDenied')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Their attempts count from the beginning again. What is being worked on is left alone.

Examples:
  $ retention retry
  $ retention retry --bucket dpp-results --code AccessDenied`,
    )
    .action(retry);
}

async function retry(options: Options): Promise<void> {
  const { config, logger } = await readSettings('retry');
  const { withStore } = await import('../../assembly.ts');
  const revived = await withStore({ config, logger }, (store) =>
    withUsage(
      store.retry({
        runIds: options.run,
        tenantId: options.tenant,
        bucket: options.bucket,
        code: options.code,
      }),
    ),
  );
  if (options.json === true) printJson({ revived });
  else if (revived === 0)
    printLine('Nothing to revive: no failed or dead result is meant by that.');
  else printLine(`${showCount(revived, 'result')} revived`);
}
