import type { Check, Findings } from '../reactor/doctor/check.ts';
import { showCount } from '../numbers.ts';
import { escapeControls } from '../safe-text.ts';
import { printLine } from './output.ts';
import { paint } from './terminal.ts';

const COLORS = { ok: 'green', warning: 'yellow', failed: 'red' } as const;

/** Writes each check with its remedy, and how many there are of each state. */
export function printFindings({ checks }: Findings): void {
  for (const check of checks) printCheck(check);
  const count = (state: Check['state']): number =>
    checks.filter((check) => check.state === state).length;
  printLine();
  const warnings = showCount(count('warning'), 'warning');
  printLine(`${count('ok')} ok, ${warnings}, ${count('failed')} failed.`);
}

function printCheck({ name, state, found, remedy }: Check): void {
  const label = paint(COLORS[state], state.padEnd('warning'.length));
  printLine(`${label}  ${escapeControls(`${name}: ${found}`)}`);
  if (remedy !== null) printLine(`         ${escapeControls(`-> ${remedy}`)}`);
}
