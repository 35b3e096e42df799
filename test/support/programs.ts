import type { ListedProgram } from '../stack/packages.ts';
import { findProgram, howToGet } from '../stack/programs.ts';

/** Where a program is, or why it cannot be had here. */
export type FoundProgram =
  | { readonly path: string }
  | { readonly path: undefined; readonly reason: string };

/**
 * Finds a program that the distribution has for the tests. Where it is not, stderr says what is
 * skipped.
 *
 * @throws with `CI=true` when it is not here.
 */
export function haveProgram(program: ListedProgram): FoundProgram {
  const path = findProgram(program);
  if (path !== undefined) return { path };
  const reason = howToGet([program]);
  if (process.env['CI'] === 'true') throw new Error(reason);
  process.stderr.write(`Tests are skipped: ${reason}\n`);
  return { path: undefined, reason };
}
