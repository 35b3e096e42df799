import { Command } from 'commander';
import type { RestoredRun } from '../../reactor/restore.ts';
import { countOf } from '../../numbers.ts';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';

interface Options {
  readonly holdFor: string;
  readonly json?: boolean;
}

const DEFAULT_HOLD = '7d';

/** `retention restore` */
export function restoreCommand(): Command {
  return new Command('restore')
    .description('Bring back the results of cleared runs from a versioned bucket, under a hold.')
    .argument('<run...>', 'the ids of the runs')
    .option('--hold-for <duration>', 'how long the hold on each lasts', DEFAULT_HOLD)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
A restored result is past its policy, so without its hold the next tick would take it again.

Example:
  $ retention restore 0190c5a2-7d5c-7f0e-9a51-0a4b6a1e2f33 --hold-for 14d`,
    )
    .action(restore);
}

async function restore(given: readonly string[], options: Options): Promise<void> {
  const [{ parseDuration, MILLISECONDS }, { UsageError }] = await Promise.all([
    import('../../lifecycle/duration.ts'),
    import('../../errors.ts'),
  ]);
  const holdFor = parseDuration(options.holdFor, '--hold-for');
  if (holdFor < MILLISECONDS.minute) {
    throw new UsageError(`--hold-for: expected 1m or more; given "${options.holdFor}"`, {
      remedy: 'Without a hold the next tick would delete it again.',
    });
  }
  const { config, logger } = await readSettings('restore');
  const [
    { withStore },
    { allowedBuckets },
    { openObjectStore },
    { abilityOf },
    { restoreRun },
    { refuseElsewhere },
    { withFence },
  ] = await Promise.all([
    import('../../assembly.ts'),
    import('../../config/config.ts'),
    import('../../objects/open-object-store.ts'),
    import('../../objects/object-store.ts'),
    import('../../reactor/restore.ts'),
    import('../../reactor/gate.ts'),
    import('../../reactor/open-fence.ts'),
  ]);
  const runs = await withStore({ config, logger }, async (store) => {
    await refuseElsewhere(store);
    const objects = openObjectStore(config, logger);
    const listing = abilityOf(objects, 'listing');
    const restoration = abilityOf(objects, 'restoration');
    const done: RestoredRun[] = [];
    try {
      return await withFence({ config, store, objects, logger }, async () => {
        for (const runId of new Set(given)) {
          const run = await restoreRun(
            {
              store,
              objects: { listing, restoration },
              holdForSeconds: holdFor / MILLISECONDS.second,
              allowedBuckets: allowedBuckets(config),
            },
            runId,
          );
          if (options.json !== true) report(run, options.holdFor);
          done.push(run);
        }
        return done;
      });
    } finally {
      objects.close();
    }
  });
  const restored = runs.filter((run) => run.restored).length;
  const refused = runs.length - restored;
  if (options.json === true) printJson({ restored, failed: refused, runs });
  else printLine(`${restored} of ${countOf(runs.length, 'result')} restored.`);
  if (refused > 0) process.exitCode = 1;
}

function report(run: RestoredRun, holdFor: string): void {
  const text = run.restored
    ? `run ${run.run_id}: restored ${run.key} in bucket ${run.bucket}, under hold ${run.hold_id} for ${holdFor}`
    : `run ${run.run_id}: not restored: ${run.reason}`;
  printLine(escapeControls(text));
}
