import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

const OLDEST = 9;

/**
 * Stops where the command line of an older node-pg-migrate runs these migrations: what it does otherwise shows only in the
 * middle of them.
 *
 * @param script what this process runs; where it is another program, nothing is asked.
 */
export function checkRunner(script = process.argv[1]): void {
  const version = script === undefined ? undefined : versionOf(script);
  if (version === undefined || Number.parseInt(version, 10) >= OLDEST) return;
  throw new Error(
    `these migrations need node-pg-migrate ${OLDEST} or later, given: ${version}. Nothing was done. ` +
      `Install it (npm install node-pg-migrate@${OLDEST}), or run: npx retention migrate up`,
  );
}

function versionOf(script: string): string | undefined {
  try {
    const manifest = join(dirname(realpathSync(script)), '../package.json');
    const { name, version } = JSON.parse(readFileSync(manifest, 'utf8')) as {
      readonly name?: string;
      readonly version?: string;
    };
    return name === 'node-pg-migrate' ? version : undefined;
  } catch {
    return undefined;
  }
}
