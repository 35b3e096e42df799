import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ToolEnded } from './kube-tools.ts';
import { ROOT } from './project-files.ts';

/** What a clone has that a release reads. */
const PARTS: readonly string[] = [
  '.ci',
  '.npmrc',
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'SECURITY.md',
  'deploy',
  'docs',
  'migrations',
  'package-lock.json',
  'package.json',
  'src',
  'tsconfig.build.json',
  'tsconfig.json',
];

/** A clean clone of this project, where a test may change what it likes. */
export interface ReleaseFolder {
  readonly path: string;
  readonly read: (file: string) => string;
  /** Replaces text in a file. @throws when it is not there. */
  readonly change: (file: string, from: string, to: string) => void;
  /** Puts a file back to what it is in this project. */
  readonly restore: (file: string) => void;
  /** Runs a step of a workflow, as the runner would. */
  readonly run: (step: string, variables?: Readonly<Record<string, string>>) => Promise<ToolEnded>;
  readonly remove: () => void;
}

/** @param programs folders of programs that the steps may use beside those of the PATH. */
export function makeReleaseFolder(...programs: readonly string[]): ReleaseFolder {
  const path = mkdtempSync(join(tmpdir(), 'retention-release-'));
  const restore = (file: string): void =>
    cpSync(join(ROOT, file), join(path, file), { recursive: true });
  const read = (file: string): string => readFileSync(join(path, file), 'utf8');
  for (const part of PARTS) restore(part);
  // npm ci is the one step that needs a registry.
  symlinkSync(join(ROOT, 'node_modules'), join(path, 'node_modules'));
  const env = {
    HOME: process.env['HOME'],
    PATH: [...programs, dirname(process.execPath), process.env['PATH']].join(':'),
  };
  return {
    path,
    read,
    restore,
    change: (file, from, to) => {
      const text = read(file);
      if (!text.includes(from)) throw new Error(`${file} does not hold ${from}`);
      writeFileSync(join(path, file), text.replaceAll(from, to));
    },
    run: (step, variables = {}) =>
      new Promise((resolve, reject) => {
        const options = {
          cwd: path,
          env: { ...env, ...variables },
          timeout: 120_000,
          maxBuffer: 16 * 1024 ** 2,
        };
        const shell = ['-e', '-o', 'pipefail', '-c', step];
        execFile('bash', shell, options, (error, stdout, stderr) => {
          const code = error === null ? 0 : error.code;
          if (typeof code === 'number') resolve({ code, stdout, stderr });
          else reject(new Error(`${step} did not end by itself: ${stderr}`, { cause: error }));
        });
      }),
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}
