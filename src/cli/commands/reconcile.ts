import { Command, Option } from 'commander';
import type { ReconcileRequest } from '../../assembly.ts';
import type { Config } from '../../config/config.ts';
import type { Logger } from '../../logger.ts';
import type { ObjectStore } from '../../objects/object-store.ts';
import { countOf } from '../../numbers.ts';
import type { Reconciliation } from '../../reactor/reconcile.ts';
import type { Selection, Unsettled } from '../../store/selection.ts';
import { dryRun } from '../dry-run.ts';
import { type EarlyOptions, confirmEarly, countEarly } from '../early.ts';
import { collect, refuseBoth, refuseEmpty } from '../narrowing.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { createProgress } from '../progress.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';
import { keepHeapSmall } from '../small-heap.ts';
import {
  type VerifyOptions,
  describeVerified,
  hasFailed,
  printVerified,
  verifyIfAsked,
} from '../verification.ts';
import { readWholeNumber } from '../whole-number.ts';

/** One DeleteObjects request takes no more. */
const MOST_PER_BATCH = 1_000;
const MOST_RESULTS = 1_000_000_000;

interface Options extends VerifyOptions, EarlyOptions {
  readonly tenant?: string;
  readonly run?: readonly string[];
  readonly expect?: string;
  readonly batchSize?: string;
  readonly limit?: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** `retention reconcile` */
export function reconcileCommand(): Command {
  return new Command('reconcile')
    .description(
      'Flag what is due now, delete it and stamp it; needs no listener and no scheduler.',
    )
    .option('--dry-run', 'change nothing; list what would go')
    .option('--tenant <id>', 'only results of this tenant')
    .option('--run <id>', 'only this run (repeatable)', collect)
    .option('--older-than <duration>', 'only results that completed longer ago, such as 30d')
    .option('--all', 'with --older-than, also results of all tenants that are not due yet')
    .option('--batch-size <count>', 'results per batch, 1 to 1000')
    .option('--limit <count>', 'at most so many results')
    .option(
      '--expect <count>',
      'confirm: so many results are selected, and go, late or not; with --older-than: so many of them are not due yet',
    )
    .option(
      '--yes',
      'confirm: delete up to 1,000 results that are not due yet, stamp much that is gone',
    )
    .option('--verbose', 'with --dry-run, list every run')
    .option('--verify', 'repair drift first: stamp what is gone, flag again what is back')
    .option('--orphans', 'report objects that no run points at')
    .addOption(new Option('--delete').hideHelp())
    .addOption(new Option('--deleted-list <file>').hideHelp())
    .option('--bucket <name>', 'verify only this bucket (repeatable)', collect)
    .option(
      '--prefix <text>',
      'verify only keys that begin with this (repeatable, listed side by side)',
      collect,
    )
    .option('--restart', 'begin the verify again, not where it was broken off')
    .option(
      '--inventory <file...>',
      'verify by what S3 Inventory lists: its manifest.json and files; asks S3 for no listing',
    )
    .option('--max-requests-per-second <count>', 'a ceiling on what the verify asks S3')
    .option('--margin <duration>', 'report only orphans older than this, 1h or more (default: 24h)')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  $ retention reconcile --dry-run
  $ retention reconcile --tenant tenant_abc --older-than 30d --batch-size 100
  $ retention reconcile --older-than 14d --all --expect 2500
  $ retention reconcile --verify --orphans --dry-run`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  // A listing brings a thousand objects at a time that live for one comparison; with a small young
  // generation, collecting them would take longer than comparing them.
  if (options.verify !== true && options.orphans !== true) keepHeapSmall();
  // Options are checked before settings.
  const typed = await readOptions(options);
  const { config, logger } = await readSettings('reconcile');
  const { openObjectStore } = await import('../../objects/open-object-store.ts');
  // One for the verify and the reconcile, so that both go over the same connections.
  const objects = openObjectStore(config, logger);
  try {
    await runTyped(typed, { config, logger, objects }, options);
  } finally {
    objects.close();
  }
}

/** What a run of the command works with. */
interface Tools {
  readonly config: Config;
  readonly logger: Logger;
  readonly objects: ObjectStore;
}

type Typed = Awaited<ReturnType<typeof readOptions>>;

async function runTyped(typed: Typed, tools: Tools, options: Options): Promise<void> {
  const { config, logger, objects } = tools;
  const [{ withStore }, { withSnapshot }, { namedBuckets }] = await Promise.all([
    import('../../assembly.ts'),
    import('../../assembly-looks.ts'),
    import('../../config/config.ts'),
  ]);
  const looking = withStore({ config, logger }, async (store) => {
    if (options.dryRun === true) {
      const verified = await verifyIfAsked(config, logger, objects, options);
      const request = { ...options, allowedBuckets: namedBuckets(config) };
      await withSnapshot({ config, logger }, (snapshot) =>
        dryRun(snapshot, typed.selection, request, verified),
      );
      if (hasFailed(verified)) process.exitCode = 1;
    }
    if (options.dryRun === true || typed.selection?.early !== true) return typed.selection;
    const early = countEarly(await store.dueGroups(typed.selection));
    return confirmEarly(typed.selection, early, options, typed.expected);
  });
  const selection = await withUsage(looking);
  if (options.dryRun !== true) {
    await reconcileNow({ ...typed, selection }, tools, options);
  }
}

async function reconcileNow(
  typed: Typed,
  { config, logger, objects }: Tools,
  options: Options,
): Promise<void> {
  const [{ reconcile }, { EXIT_CODE }, { watchStopSignals }] = await Promise.all([
    import('../../assembly.ts'),
    import('../../errors.ts'),
    import('../../lifecycle/signals.ts'),
  ]);
  const verified = await verifyIfAsked(config, logger, objects, options);
  const signals = watchStopSignals();
  const progress = await createProgress();
  const request: ReconcileRequest = {
    config,
    logger,
    objects,
    signal: signals.signal,
    onProgress: progress.update,
    ...(typed.selection === undefined ? {} : { selection: typed.selection }),
    ...(typed.batchSize === undefined ? {} : { batchSize: typed.batchSize }),
  };
  const result = await withUsage(reconcile(request)).finally(() => {
    progress.end();
    signals.dispose();
  });
  const { interrupted, waiting, ...counts } = result;
  if (options.json === true) {
    const plain = waiting.map(({ bucket, reason, until, results }) => ({
      bucket,
      reason,
      until,
      results,
    }));
    printJson({
      dry_run: false,
      ...counts,
      waiting: plain,
      interrupted,
      ...describeVerified(verified, options),
    });
  } else {
    printVerified(verified, options);
    printLine(
      `${counts.cleared} results cleared, ${counts.spared} spared, ${counts.failed} failed, ` +
        `${counts.dead} dead; ${counts.flagged} newly flagged, in ${counts.seconds} s` +
        (interrupted ? ' (interrupted: the rest is flagged and waits)' : ''),
    );
    printSurges(counts);
    printWaiting(waiting);
  }
  const isLeft = waiting.length > 0 || counts.failed > 0 || counts.dead > 0;
  if (isLeft || hasFailed(verified) || interrupted) process.exitCode = 1;
  else if (counts.surges.length > 0) process.exitCode = EXIT_CODE.refused;
}

/** What this run has set aside, and how it goes on. */
function printSurges({
  set_aside: results,
  surges,
  surges_before: known,
}: Pick<Reconciliation, 'set_aside' | 'surges' | 'surges_before'>): void {
  for (const id of surges) {
    printLine(
      `${countOf(results, 'late result')} set aside as surge ${id}; see: retention surge show ${id}`,
    );
  }
  for (const id of known) printLine(`Surge ${id} still waits; see: retention surge show ${id}`);
}

/** What is flagged and was not cleared, why, and until when. */
function printWaiting(waiting: readonly Unsettled[]): void {
  if (waiting.length === 0) return;
  printLine();
  printLine('Still there:');
  printTable(
    ['bucket', 'results', 'until', 'reason'],
    waiting.map((it) => [it.bucket, it.results, it.until, it.reason]),
  );
}

async function readOptions(options: Options): Promise<{
  readonly selection: Selection | undefined;
  readonly batchSize: number | undefined;
  readonly expected: number | undefined;
}> {
  const { tenant, run: runs, bucket, prefix, inventory } = options;
  await refuseEmpty({
    '--tenant': tenant,
    '--run': runs,
    '--bucket': bucket,
    '--prefix': prefix,
    '--inventory': inventory,
  });
  await refuseBoth(options.all === true, { '--tenant': tenant, '--run': runs });
  const [{ parseDuration, MILLISECONDS }, { UsageError }] = await Promise.all([
    import('../../lifecycle/duration.ts'),
    import('../../errors.ts'),
  ]);
  const batchSize =
    options.batchSize === undefined
      ? undefined
      : await readWholeNumber(options.batchSize, '--batch-size', MOST_PER_BATCH);
  const limit =
    options.limit === undefined
      ? undefined
      : await readWholeNumber(options.limit, '--limit', MOST_RESULTS);
  const expected =
    options.expect === undefined
      ? undefined
      : await readWholeNumber(options.expect, '--expect', MOST_RESULTS, 0);
  const olderThan =
    options.olderThan === undefined ? undefined : parseDuration(options.olderThan, '--older-than');
  if (olderThan !== undefined && olderThan < MILLISECONDS.day) {
    throw new UsageError(`--older-than: expected 1d or more; given "${options.olderThan}"`, {
      remedy: 'No policy keeps results for less than a day, and neither does a cutoff.',
    });
  }
  const isNarrowed = [tenant, runs, olderThan, limit].some((it) => it !== undefined);
  if (!isNarrowed && expected !== undefined) {
    throw new UsageError('--expect: expected beside what narrows the reconcile; given alone', {
      remedy: 'Release what was set aside instead: retention surge list',
    });
  }
  if (!isNarrowed) return { selection: undefined, batchSize, expected };
  return {
    batchSize,
    expected,
    selection: {
      ...(tenant === undefined ? {} : { tenantId: tenant }),
      ...(runs === undefined ? {} : { runIds: runs }),
      // Of what is due all goes without a word; what is not due wants --all on the command line.
      ...(tenant === undefined && runs === undefined ? { all: true as const } : {}),
      ...(olderThan === undefined ? {} : { olderThanSeconds: olderThan / 1_000, early: true }),
      ...(limit === undefined ? {} : { limit }),
      // Beside a cutoff it counts what is not due, see confirmEarly.
      ...(expected === undefined || olderThan !== undefined ? {} : { expected }),
    },
  };
}
