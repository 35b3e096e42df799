import { type InstallRight, installCommand } from './apt.ts';
import { choosePostgresServer, type PostgresServer } from './find-postgres.ts';
import { PARTS, type PartName, programParts } from './packages.ts';

/** What is known of this machine before deciding what to install. */
export interface PackageFacts {
  /** The PostgreSQL servers that are installed, newest first. */
  readonly servers: readonly PostgresServer[];
  readonly hasProgram: (program: string) => boolean;
  /** Whether this is Debian or one of its descendants. */
  readonly hasApt: boolean;
  readonly right: InstallRight;
  /** The major version of PostgreSQL that this distribution ships, where it is known. */
  readonly distributionMajor: number | undefined;
  /** Whether the distribution offers a package. */
  readonly isOffered: (packageName: string) => boolean;
}

/** What to do about the parts of the list. */
export interface PackagePlan {
  /** The parts that are not here, or not complete. */
  readonly missing: readonly PartName[];
  /** What to install, in one transaction. */
  readonly packages: readonly string[];
  /** Why parts stay missing, and what a person can do; undefined: none does. */
  readonly refusal: string | undefined;
}

interface MissingPart {
  readonly name: PartName;
  /** Each of these would complete it; the best first. */
  readonly choices: readonly (readonly string[])[];
}

/**
 * Decides what to install so that the parts are there: what is missing of them, and nothing that is
 * here already. Asks nothing and changes nothing.
 */
export function planPackages(names: readonly PartName[], facts: PackageFacts): PackagePlan {
  const parts = names
    .map((name) => ({ name, choices: choicesFor(name, facts) }))
    .filter((part): part is MissingPart => part.choices !== undefined);
  const missing = parts.map(({ name }) => name);
  if (missing.length === 0) return { missing, packages: [], refusal: undefined };
  if (!facts.hasApt) {
    const refusal = `Packages can be installed only on Debian and Ubuntu; install by hand: ${namesOf(missing)}.`;
    return { missing, packages: [], refusal };
  }
  const offered = parts.map(({ choices }) =>
    choices.find((choice) => choice.every(facts.isOffered)),
  );
  const packages = [...new Set(offered.flatMap((choice) => choice ?? []))];
  const notOffered = missing.filter((_, index) => offered[index] === undefined);
  if (facts.right === 'none' && packages.length > 0) {
    return { missing, packages: [], refusal: refuseRight(missing, packages) };
  }
  return {
    missing,
    packages,
    refusal: notOffered.length === 0 ? undefined : refuseSources(notOffered),
  };
}

/** What people call these parts. */
export function namesOf(names: readonly PartName[]): string {
  return names.map((name) => PARTS[name].name).join(', ');
}

function refuseRight(missing: readonly PartName[], packages: readonly string[]): string {
  return (
    `Only root, or sudo without a password, may install ${namesOf(missing)}. Run this once:\n` +
    `  ${installCommand(packages)}`
  );
}

function refuseSources(names: readonly PartName[]): string {
  return (
    `The package sources of this machine do not offer ${namesOf(names)}. Add the distribution's main ` +
    'repository (for PostgreSQL, or apt.postgresql.org) and run "sudo apt-get update".'
  );
}

/** Undefined: the part is complete. */
function choicesFor(name: PartName, facts: PackageFacts): MissingPart['choices'] | undefined {
  const part = programParts().find(([partName]) => partName === name)?.[1];
  if (part === undefined) return postgresChoices(facts);
  const missing = Object.entries(part.programs).filter(([program]) => !facts.hasProgram(program));
  return missing.length === 0 ? undefined : [missing.map(([, packageName]) => packageName)];
}

// A server that is there and lacks only pg_cron is completed rather than joined by another.
function postgresChoices(facts: PackageFacts): MissingPart['choices'] | undefined {
  if (choosePostgresServer(facts.servers, true) !== undefined) return undefined;
  const { server, cron } = PARTS.postgres;
  const completed = facts.servers.map(({ major }) => [cron(major)]);
  const major = facts.distributionMajor;
  return major === undefined ? completed : [...completed, [server(major), cron(major)]];
}
