import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { installPackages, installRight } from '../../src/demo/system-packages.ts';

/** Where a program is, or why it cannot be had here. */
export type FoundProgram =
  | { readonly path: string }
  | { readonly path: undefined; readonly reason: string };

/**
 * Finds a program, after installing the package of the distribution that holds it when it is missing
 * and this process may.
 *
 * @throws with `CI=true` when the package could not be installed although this process may.
 */
export async function haveProgram(program: string, packageName: string): Promise<FoundProgram> {
  const found = findProgram(program);
  if (found !== undefined) return { path: found };
  if (!existsSync('/usr/bin/apt-get')) return missing(`there is no ${program} here, nor apt-get`);
  if (installRight() === 'none') return missing(`${program} is missing: install ${packageName}`);
  try {
    await installPackages([packageName], (line) => process.stderr.write(`${line}\n`));
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    return missing(`${packageName} could not be installed: ${String(error)}`);
  }
  const installed = findProgram(program);
  if (installed !== undefined) return { path: installed };
  return missing(`${packageName} holds no ${program}`);
}

function missing(reason: string): FoundProgram {
  process.stderr.write(`Tests are skipped: ${reason}\n`);
  return { path: undefined, reason };
}

/** Where a program is, if it is here already. */
export function findProgram(program: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/usr/local/bin'];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}
