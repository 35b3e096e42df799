import { Command } from 'commander';
import { showCount } from '../../numbers.ts';
import { refuseBoth, refuseEmpty } from '../narrowing.ts';
import { printJson, printLine } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { escapeControls } from '../../safe-text.ts';
import type { RetrySelection } from '../../store/retry.ts';
import { readSettings } from '../settings.ts';

interface Options {
  readonly run?: readonly string[];
  readonly tenant?: string;
  readonly bucket?: string;
  readonly code?: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** `retention retry` */
export function retryCommand(): Command {
  return new Command('retry')
    .description('Revive dead results and bring failed ones forward: those named, or all.')
    .option('--run <id...>', 'only these runs')
    .option('--tenant <id>', 'only results of this tenant')
    .option('--bucket <name>', 'only results in this bucket')
    .option('--code <code>', 'only what S3 refused with this code, such as AccessDenied')
    .option('--all', 'every dead and every failed result')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Their attempts are counted from zero again. Results in flight are left alone.

Examples:
  $ retention retry --all
  $ retention retry --bucket dpp-results --code AccessDenied`,
    )
    .action(retry);
}

async function retry(options: Options): Promise<void> {
  const selection = await readSelection(options);
  const { config, logger } = await readSettings('retry');
  const [{ withStore }, { namedBuckets }] = await Promise.all([
    import('../../assembly.ts'),
    import('../../config/config.ts'),
  ]);
  const buckets = namedBuckets(config);
  const { revived, waiting } = await withStore({ config, logger }, async (store) => ({
    revived: await withUsage(store.retry(selection)),
    waiting: buckets === undefined ? [] : await store.readUnsettled({ buckets }),
  }));
  if (options.json === true) {
    printJson({ revived });
    return;
  }
  if (revived === 0) printLine('Nothing to revive: no failed or dead result is meant by that.');
  else printLine(`${showCount(revived, 'result')} revived`);
  for (const { bucket, results } of waiting.filter(({ kind }) => kind === 'not allowed')) {
    const wait = showCount(results, 'result waits', 'results wait');
    printLine(
      escapeControls(`${wait} in bucket ${bucket}, which S3_RESULT_BUCKET does not list here`),
    );
  }
}

async function readSelection(options: Options): Promise<RetrySelection> {
  const { run, tenant, bucket, code, all = false } = options;
  const named = { '--run': run, '--tenant': tenant, '--bucket': bucket, '--code': code };
  await refuseEmpty(named);
  await refuseBoth(all, named);
  if (!all && Object.values(named).every((value) => value === undefined)) {
    const { UsageError } = await import('../../errors.ts');
    throw new UsageError(
      'retry: expected --run, --tenant, --bucket, --code, or --all; given none of them',
      { remedy: 'See what is dead with: retention status. For all of it, say --all.' },
    );
  }
  return {
    ...(run === undefined ? {} : { runIds: run }),
    ...(tenant === undefined ? {} : { tenantId: tenant }),
    ...(bucket === undefined ? {} : { bucket }),
    ...(code === undefined ? {} : { code }),
    ...(all ? { all: true as const } : {}),
  };
}
