import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. This may run compiled, from a folder below it. */
export const PROJECT = findProject(dirname(fileURLToPath(import.meta.url)));

/** The built command. */
export const COMMAND_FILE = join(PROJECT, 'dist/cli/main.js');

function findProject(folder: string): string {
  if (existsSync(join(folder, 'package-lock.json'))) return folder;
  const above = dirname(folder);
  if (above === folder) throw new Error('This is not inside the project.');
  return findProject(above);
}
