import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type ListedProgram, type PartName, packagesOf, programParts } from './packages.ts';

// A plain user's PATH lacks the folders of daemons.
const MORE_FOLDERS = ['/usr/bin', '/usr/local/bin', '/usr/sbin', '/usr/local/sbin'];

/** Where a program is, if it is here. */
export function findProgram(program: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...MORE_FOLDERS];
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

/** The programs of a part that are not here. */
export function missingPrograms(name: PartName): readonly ListedProgram[] {
  const part = programParts().find(([partName]) => partName === name)?.[1];
  const programs = Object.keys(part?.programs ?? {}) as ListedProgram[];
  return programs.filter((program) => findProgram(program) === undefined);
}

/** What is missing, and how to get it. */
export function howToGet(programs: readonly ListedProgram[]): string {
  const verb = programs.length === 1 ? 'is' : 'are';
  return (
    `${programs.join(' and ')} ${verb} not installed. "npm run packages" installs ` +
    `${packagesOf(programs).join(' and ')}, and all else that the tests need.`
  );
}

/** Whether a file is there and may be run. */
export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
