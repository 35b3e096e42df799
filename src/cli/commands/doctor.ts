import { Command } from 'commander';
import type { Check, Findings } from '../../reactor/doctor/check.ts';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';
import { paint } from '../terminal.ts';

/** `retention doctor` */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check everything the reactor depends on, and say what to do about what is wrong.')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits 1 when a check failed; a warning is something that works, but not as one may think.

Example:
  $ retention doctor`,
    )
    .action(doctor);
}

async function doctor(options: { readonly json?: boolean }): Promise<void> {
  const { config, logger } = await readSettings('doctor');
  const [{ withDoctorPorts }, { examine }] = await Promise.all([
    import('../doctor-ports.ts'),
    import('../../reactor/doctor/doctor.ts'),
  ]);
  const findings = await withDoctorPorts(config, logger, examine);
  if (options.json === true) printJson(findings);
  else printFindings(findings);
  if (!findings.ok) process.exitCode = 1;
}

const COLORS = { ok: 'green', warning: 'yellow', failed: 'red' } as const;

function printFindings({ checks }: Findings): void {
  for (const check of checks) printCheck(check);
  const count = (state: Check['state']): number =>
    checks.filter((check) => check.state === state).length;
  printLine();
  printLine(`${count('ok')} ok, ${count('warning')} warnings, ${count('failed')} failed.`);
}

function printCheck({ name, state, found, remedy }: Check): void {
  const label = paint(COLORS[state], state.padEnd('warning'.length));
  printLine(`${label}  ${escapeControls(`${name}: ${found}`)}`);
  if (remedy !== null) printLine(`         ${escapeControls(`-> ${remedy}`)}`);
}
