import { type Config, readConfig } from '../../src/config/config.ts';
import { withDoctorPorts } from '../../src/cli/doctor-ports.ts';
import { silentLogger } from '../../src/logger.ts';
import type { Check, CheckState, Findings } from '../../src/reactor/doctor/check.ts';
import { examine } from '../../src/reactor/doctor/doctor.ts';

/** What a doctor found, by the name of the check. */
export interface Examination extends Findings {
  /** The one check of this name. */
  readonly check: (name: string) => Check;
  /** The names of the checks in a state. */
  readonly named: (state: CheckState) => string[];
}

/** Examines what the variables say, as `retention doctor` does. */
export async function examineWith(
  env: Readonly<Record<string, string | undefined>>,
): Promise<Examination> {
  const config: Config = readConfig(env);
  return asExamination(await withDoctorPorts(config, silentLogger, examine));
}

/** Reads the document of `retention doctor --json`. */
export function asExamination(findings: Findings): Examination {
  return {
    ...findings,
    check: (name) => {
      const [check, ...others] = findings.checks.filter((it) => it.name === name);
      if (check !== undefined && others.length === 0) return check;
      throw new Error(`Expected one check "${name}" in ${JSON.stringify(findings, null, 2)}`);
    },
    named: (state) => findings.checks.filter((it) => it.state === state).map(({ name }) => name),
  };
}
