import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The same in a checkout and in the package, where `dist` takes the place of `src`. */
export const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

/** The current truth: functions, views, triggers and rights, one subject a file. */
export interface ShippedFunctions {
  readonly files: readonly { readonly name: string; readonly sql: string }[];
  /** As `migrations/support/functions.ts` digests them. */
  readonly digest: string;
}

/** Reads `migrations/functions/` in its order. */
export async function readFunctions(): Promise<ShippedFunctions> {
  const folder = join(MIGRATIONS, 'functions');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).toSorted();
  const files = await Promise.all(
    names.map(async (name) => ({ name, sql: await readFile(join(folder, name), 'utf8') })),
  );
  const digest = createHash('sha256');
  for (const { name, sql } of files) digest.update(`${name}\0${sql}\0`);
  return { files, digest: digest.digest('hex') };
}

/** The names of the numbered migrations, in their order. */
export async function listMigrations(): Promise<readonly string[]> {
  const entries = await readdir(MIGRATIONS, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && /^\d+_.*\.(?:sql|ts)$/u.test(entry.name))
    .map((entry) => entry.name.replace(/\.(?:sql|ts)$/u, ''))
    .toSorted();
}
