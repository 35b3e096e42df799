import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The same in a checkout and in the package, where `dist` takes the place of `src`. */
export const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

/** The current truth: functions, views, triggers and rights, one subject a file. */
export interface ShippedFunctions {
  readonly files: readonly { readonly name: string; readonly sql: string }[];
  readonly digest: string;
}

/**
 * Reads `migrations/functions/` as the migrations do. Their module is found at run time: it lies beside the
 * folder that holds this one, and no compiler touches it.
 */
export async function readFunctions(): Promise<ShippedFunctions> {
  const address = pathToFileURL(join(MIGRATIONS, 'support', 'shipped.mjs')).href;
  const shipped = (await import(address)) as { readonly readFunctions: () => ShippedFunctions };
  return shipped.readFunctions();
}

/** The names of the numbered migrations, in their order. */
export async function listMigrations(): Promise<readonly string[]> {
  const entries = await readdir(MIGRATIONS, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && /^\d+_.*\.(?:sql|ts)$/u.test(entry.name))
    .map((entry) => entry.name.replace(/\.(?:sql|ts)$/u, ''))
    .toSorted();
}
