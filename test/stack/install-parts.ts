import { RetentionError } from '../../src/errors.ts';
import {
  distributionMajor,
  hasApt,
  installPackages,
  installRight,
  isOffered,
  refreshLists,
} from './apt.ts';
import { findPostgresServers } from './find-postgres.ts';
import { namesOf, type PackageFacts, type PackagePlan, planPackages } from './package-plan.ts';
import { PARTS, type PartName, programParts } from './packages.ts';
import { findProgram } from './programs.ts';

/** Every part that is needed here: not those that a variable replaces by something else. */
export function neededParts(): readonly PartName[] {
  const replaced = programParts()
    .filter(([, { unless }]) => unless !== undefined && (process.env[unless] ?? '') !== '')
    .map(([name]) => name);
  return (Object.keys(PARTS) as PartName[]).filter((name) => !replaced.includes(name));
}

/**
 * Installs what is missing of these parts from the distribution, in one transaction. No service of
 * theirs is started, and no database cluster is made.
 *
 * @param say hears what is about to be installed, before it happens.
 * @throws when a part is missing in the end; the message says which, why and what to run. What could
 *   be installed is installed before that.
 */
export async function installParts(
  names: readonly PartName[],
  say: (line: string) => void,
): Promise<void> {
  const { packages, refusal } = await planAfterRefresh(names, say);
  const right = installRight();
  if (packages.length > 0 && right !== 'none') {
    await installPackages(packages, right, say);
    const { missing } = planPackages(names, gatherFacts());
    const still = refusal === undefined ? missing : [];
    if (still.length > 0) {
      throw new RetentionError(
        `${packages.join(', ')} went in without an error, yet this is still missing: ` +
          `${namesOf(still)}. Look at: dpkg -L ${packages[0]}`,
      );
    }
  }
  if (refusal !== undefined) throw new RetentionError(refusal);
}

// A machine fresh from an image has empty package lists, so at first it seems to offer nothing.
async function planAfterRefresh(
  names: readonly PartName[],
  say: (line: string) => void,
): Promise<PackagePlan> {
  const facts = gatherFacts();
  const plan = planPackages(names, facts);
  if (plan.refusal === undefined || !facts.hasApt || facts.right === 'none') return plan;
  await refreshLists(facts.right, say);
  return planPackages(names, gatherFacts());
}

function gatherFacts(): PackageFacts {
  return {
    servers: findPostgresServers(),
    hasProgram: (program) => findProgram(program) !== undefined,
    hasApt: hasApt(),
    right: installRight(),
    distributionMajor: distributionMajor(),
    isOffered,
  };
}
