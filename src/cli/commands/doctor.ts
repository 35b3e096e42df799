import { Command } from 'commander';
import { printFindings } from '../findings.ts';
import { printJson } from '../output.ts';
import { readSettings } from '../settings.ts';

/** `retention doctor` */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check everything the reactor depends on, and say what to do about what is wrong.')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits with 1 when a check failed. What a warning names works, but perhaps not as you expect.

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
