import { execFileSync, spawnSync } from 'node:child_process';
import { installPackages } from '../../src/demo/system-packages.ts';

/**
 * The name of promtool, of the distribution's package `prometheus`, which is installed where it may
 * be. Where it cannot be had, stderr says what is skipped, and CI fails.
 */
export async function findPromtool(): Promise<string | undefined> {
  if (isThere()) return 'promtool';
  try {
    await installPackages(['prometheus'], (line) => process.stderr.write(`${line}\n`));
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`Checks by promtool are skipped: ${reason}\n`);
  }
  return isThere() ? 'promtool' : undefined;
}

/** Runs promtool; returns what it says. Throws when it finds fault, with its words. */
export function runPromtool(parameters: readonly string[], folder: string): string {
  return execFileSync('promtool', parameters, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function isThere(): boolean {
  return spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status === 0;
}
