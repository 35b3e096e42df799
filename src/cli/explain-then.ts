import { showCount } from '../numbers.ts';
import { escapeControls } from '../safe-text.ts';
import type { ExplanationThen } from '../store/history.ts';
import { printJson, printLine } from './output.ts';
import { withUsage } from './refusals.ts';
import { readSettings } from './settings.ts';
import { describeHold, showDate } from './commands/explain.ts';

/** `retention explain RUN --at TIME` */
export async function explainThen(
  runIds: readonly string[],
  time: string,
  isJson: boolean,
): Promise<void> {
  const { parsePointInTime } = await import('../point-in-time.ts');
  const at = parsePointInTime(time, '--at');
  const { config, logger } = await readSettings('explain');
  const { withStore } = await import('../assembly.ts');
  const runs = await withStore({ config, logger }, (store) =>
    withUsage(store.explainAt(runIds, at)),
  );
  if (runs.some(({ state }) => state === 'unreadable')) process.exitCode = 1;
  if (isJson) {
    printJson({ at, runs });
    return;
  }
  for (const [index, run] of runs.entries()) {
    if (index > 0) printLine();
    printRun(run);
  }
}

function printRun(run: ExplanationThen): void {
  printLine(
    `Run ${escapeControls(run.run_id)} at ${run.at.toISOString()}: ${run.state.toUpperCase()}`,
  );
  printLine(`  ${escapeControls(`${run.because}.`)}`);
  const facts = factsOf(run).filter(([, text]) => text !== undefined);
  if (facts.length > 0) printLine();
  for (const [name, text = ''] of facts) {
    printLine(`  ${name.padEnd(13)}${escapeControls(text)}`);
  }
}

function factsOf(
  run: ExplanationThen,
): readonly (readonly [name: string, text: string | undefined])[] {
  const setBy =
    run.policy_set_by === null
      ? ''
      : `, set by ${run.policy_set_by} at ${showDate(run.policy_set_at)}`;
  return [
    ['tenant', run.tenant_id ?? undefined],
    ['completed', showDate(run.completed_at)],
    ['object', run.key === null ? undefined : `${run.bucket ?? '(no bucket)'} ${run.key}`],
    ['receipt', run.receipt ?? undefined],
    [
      'policy',
      run.retain_days === null ? undefined : `${showCount(run.retain_days, 'day')}${setBy}`,
    ],
    ['due', showDate(run.due_at)],
    ...(run.holds ?? []).map((hold) => ['hold', describeHold(hold)] as const),
    ['flagged', showDate(run.flagged_at)],
    ...(run.not_known ?? []).map((text) => ['not known', text] as const),
  ];
}
