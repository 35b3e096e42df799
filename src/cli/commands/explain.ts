import { Command } from 'commander';
import { sayFailure } from '../../failure-words.ts';
import { type Instant, showInstant } from '../../instant.ts';
import { showCount } from '../../numbers.ts';
import type { BearingHold, Explanation } from '../../store/explanation.ts';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';

/** `retention explain` */
export function explainCommand(): Command {
  return new Command('explain')
    .description('Say why a result is kept, or what becomes of it, in plain words.')
    .argument('<run_id...>', "the run's id")
    .option('--at <time>', 'what was true then, such as 2026-04-01T09:30Z')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits 1 when there is no such run, or its row cannot be read.

Example:
  $ retention explain 5f2c1c1e-9d5e-4c55-8a0c-0d6d9c1c7f11`,
    )
    .action(explain);
}

const UNKNOWN: ReadonlySet<string> = new Set(['unknown', 'unreadable']);

async function explain(
  runIds: readonly string[],
  options: { readonly at?: string; readonly json?: boolean },
): Promise<void> {
  if (options.at !== undefined) {
    const { explainThen } = await import('../explain-then.ts');
    await explainThen(runIds, options.at, options.json === true);
    return;
  }
  const { config, logger } = await readSettings('explain');
  const [{ withStore }, { namedBuckets }] = await Promise.all([
    import('../../assembly.ts'),
    import('../../config/config.ts'),
  ]);
  const runs = await withStore({ config, logger }, (store) => store.explain(runIds));
  // Nothing is known of its result, so a script must not take it for kept.
  if (runs.some(({ state }) => UNKNOWN.has(state))) process.exitCode = 1;
  if (options.json === true) {
    printJson({ runs });
    return;
  }
  for (const [index, run] of runs.entries()) {
    if (index > 0) printLine();
    printRun(run, namedBuckets(config));
  }
}

function printRun(run: Explanation, allowedBuckets: readonly string[] | undefined): void {
  printLine(`Run ${escapeControls(run.run_id)}: ${run.state.toUpperCase()}`);
  printLine(`  ${escapeControls(`${run.because}.`)}`);
  const facts = factsOf(run).filter(([, text]) => text !== undefined);
  const isRefused = run.bucket !== null && allowedBuckets?.includes(run.bucket) === false;
  if (facts.length > 0) printLine();
  for (const [name, text = ''] of facts) {
    printLine(`  ${name.padEnd(13)}${escapeControls(text)}`);
  }
  if (isRefused && run.cleared_at === null) {
    printLine();
    printLine(
      `  ${escapeControls(`Bucket not allowed: S3_RESULT_BUCKET, as it is set here, does not list ${run.bucket}.`)}`,
    );
  }
}

function factsOf(run: Explanation): readonly (readonly [name: string, text: string | undefined])[] {
  return [
    ['tenant', run.tenant_id ?? undefined],
    ['status', run.status ?? undefined],
    ['completed', showDate(run.completed_at)],
    ['object', run.key === null ? undefined : `${run.bucket ?? '(no bucket)'} ${run.key}`],
    ['cleared', showDate(run.cleared_at)],
    ['policy', run.retain_days === null ? undefined : showCount(run.retain_days, 'day')],
    ['due', showDate(run.due_at)],
    ...(run.holds ?? []).map((hold) => ['hold', describeHold(hold)] as const),
    ['flagged', run.flagged_at === null ? undefined : describeWork(run)],
    ['last error', run.last_code === null ? undefined : sayFailure(run.last_code, run.last_error)],
    ['next attempt', showDate(run.next_attempt_at)],
    ['shares with', run.shares_with === null ? undefined : `run ${run.shares_with}`],
  ];
}

export function describeHold(hold: BearingHold): string {
  const end = hold.ends === null ? 'until it is released' : `until ${showDate(hold.ends)}`;
  return (
    `${hold.hold_id} on its ${hold.on}, ${end}; placed by ${hold.placed_by} at ` +
    `${showDate(hold.placed_at)}: ${hold.reason}`
  );
}

function describeWork(run: Explanation): string {
  const place = run.batch_id === null ? '' : `, in batch ${run.batch_id}`;
  const attempts = showCount(run.attempts ?? 0, 'attempt has', 'attempts have');
  return `${showDate(run.flagged_at)}${place}; ${attempts} failed`;
}

export function showDate(date: Instant | null): string | undefined {
  return date === null ? undefined : showInstant(date);
}
