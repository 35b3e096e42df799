import { Command } from 'commander';
import { printJson } from '../output.ts';
import { readSettings } from '../settings.ts';
import type { StatusAndTrend } from '../status-watch.ts';
import {
  causesOfRefusal,
  printCanaries,
  printDrift,
  printStatus,
  printVariables,
  printWaitCauses,
} from '../status-table.ts';

interface Options {
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly interval?: string;
}

/** `retention status` */
export function statusCommand(): Command {
  return new Command('status')
    .description('Show how things stand: due, flagged, failed, dead, held, and the scheduler.')
    .option('--json', 'print one JSON document, the columns of retention.status as keys')
    .option('--watch', 'again and again until Ctrl-C; with --json, one document a line')
    .option('--interval <duration>', 'with --watch, how often; default: 2s')
    .addHelpText(
      'after',
      '\nExamples:\n  $ retention status --json\n  $ retention status --watch --interval 10s',
    )
    .action(status);
}

async function status(options: Options): Promise<void> {
  const interval = await readInterval(options);
  const { config, logger } = await readSettings('status');
  const [{ withStore }, { namedBuckets, storedSettings }] = await Promise.all([
    import('../../assembly-store.ts'),
    import('../../config/config.ts'),
  ]);
  await withStore({ config, logger }, async (store) => {
    const read = async (): Promise<StatusAndTrend> => {
      const row = await store.readStatus();
      return { row, trend: await store.readTrend(row) };
    };
    const first = await read();
    if (options.watch === true) {
      const { watchStatus } = await import('../status-watch.ts');
      await watchStatus(first, read, interval, options.json === true);
      return;
    }
    const { row, trend } = first;
    const buckets = namedBuckets(config);
    const refused = causesOfRefusal(
      buckets === undefined ? [] : await store.readUnsettled({ buckets }),
    );
    const variables = await store.readVariables(storedSettings(config));
    const differing = variables.filter(({ differs }) => differs);
    const canaries = await store.readCanaries();
    const verifies = await store.readStandingVerifies();
    if (options.json === true) {
      printJson({ ...row, trend, variables, not_allowed: refused, canaries, verifies });
    } else {
      printStatus(row, trend);
      printWaitCauses([...(await store.readWaitCauses()), ...refused]);
      printCanaries(canaries);
      printDrift(verifies);
      printVariables(differing);
    }
  });
}

const DEFAULT_INTERVAL = '2s';
const MIN_INTERVAL_MILLISECONDS = 1_000;

async function readInterval({ interval, watch }: Options): Promise<number> {
  const [{ parseDuration }, { UsageError }] = await Promise.all([
    import('../../lifecycle/duration.ts'),
    import('../../errors.ts'),
  ]);
  if (interval !== undefined && watch !== true) {
    throw new UsageError('--interval: expected together with --watch; given alone');
  }
  const milliseconds = parseDuration(interval ?? DEFAULT_INTERVAL, '--interval');
  if (milliseconds >= MIN_INTERVAL_MILLISECONDS) return milliseconds;
  throw new UsageError(`--interval: expected 1s or more; given "${interval}"`);
}
