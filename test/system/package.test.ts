import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeDatabase, useDatabase } from '../support/database.ts';
import {
  type InstalledPackage,
  installNode,
  installPackage,
  run,
} from '../support/installed-package.ts';

/** This one, and the newest of the majors that it must run on as well. */
const OTHER_NODES = ['22.23.3', '24.9.0'];
const MAX_PACKED_BYTES = 900_000;
const INSTALL_MILLISECONDS = 240_000;

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const PROGRAM = `
import { type Config, type Reactor, createLogger, createReactor, readConfig } from 'retention-reactor';

const config: Config = readConfig({
  DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing',
  S3_RESULT_BUCKET: 'dpp-results',
});
const days: number | undefined = config.retentionDays;
const reactor: Reactor = createReactor({ config, logger: createLogger({ level: 'error' }) });
const stopped: Promise<void> = reactor.stop();
await stopped;
console.log(typeof reactor.start, days);
`;

let installed: InstalledPackage | undefined;

beforeAll(async () => {
  installed = await installPackage();
}, INSTALL_MILLISECONDS);

afterAll(() => installed?.remove());

function thePackage(): InstalledPackage {
  if (installed === undefined) throw new Error('The package is only there inside tests.');
  return installed;
}

describe('the package', () => {
  it('holds what runs, its documents and nothing else', async () => {
    const { files, size, tarball } = thePackage();
    await expectSuccess(process.execPath, ['.ci/release.mjs', 'files', tarball], ROOT);
    // The suite for other object stores is a part of it.
    expect(
      files.filter((path) => /^dist\/(?!testing\/).*(?:demo|stack|memory-s3|test)/u.test(path)),
    ).toEqual([]);
    expect(size).toBeLessThan(MAX_PACKED_BYTES);
  });

  it('is what its package.json says (publint)', async () => {
    const tarball = new Uint8Array(readFileSync(thePackage().tarball)).buffer;
    const { messages } = await publint({ pack: { tarball }, level: 'warning' });
    expect(messages).toEqual([]);
  });

  it('has types that resolve (are the types wrong)', { timeout: 60_000 }, async () => {
    const tarball = new Uint8Array(readFileSync(thePackage().tarball));
    const analysis = await checkPackage(createPackageFromTarballData(tarball));
    if (analysis.types === false) throw new Error('The package has no types.');
    // ESM only: an old resolution and a require() that is no import() are not served.
    const served = analysis.problems.filter(
      (problem) => !('resolutionKind' in problem) || ESM_ONLY.has(problem.resolutionKind),
    );
    expect(served).toEqual([]);
  });

  it('compiles in a strict project that checks its declarations', () => {
    const { project } = thePackage();
    writeFileSync(join(project, 'program.ts'), PROGRAM);
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(TSCONFIG));
    return expectSuccess(process.execPath, [TSC, '-p', '.'], project);
  });

  it('gives npx its command', async () => {
    const { project } = thePackage();
    const { stdout } = await expectSuccess('npx', ['--no-install', 'retention', '--help'], project);
    expect(stdout).toContain('Usage: retention');
  });
});

describe.each([process.versions.node, ...OTHER_NODES])('on Node %s', (version) => {
  let node: string | undefined;
  let reason = '';

  beforeAll(async () => {
    if (version === process.versions.node) {
      node = process.execPath;
      return;
    }
    const found = await installNode(version, join(dirname(thePackage().project), version));
    if ('node' in found) ({ node } = found);
    else {
      ({ reason } = found);
      process.stderr.write(`Tests on another Node are skipped: ${reason}\n`);
    }
  }, INSTALL_MILLISECONDS);

  it('the command helps and says its version', async ({ skip }) => {
    if (node === undefined) return skip(reason);
    const { project, folder } = thePackage();
    const main = join(folder, 'dist/cli/main.js');
    const help = await expectSuccess(node, [main, '--help'], project);
    expect(help.stdout).toContain('Usage: retention');
    expect(help.stderr).toBe('');
    const { stdout } = await expectSuccess(node, [main, '--version'], project);
    expect(stdout.trim()).toBe(versionOf(folder));
    return undefined;
  });

  it('the library is imported and runs', async ({ skip }) => {
    if (node === undefined) return skip(reason);
    const { project } = thePackage();
    // Without types it is the same program on every Node.
    const plain = PROGRAM.replaceAll(
      /\btype \w+,? ?|: (?:Config|Reactor|Promise<void>|number \| undefined)/gu,
      '',
    );
    writeFileSync(join(project, 'plain.js'), plain);
    const { stdout } = await expectSuccess(node, ['plain.js'], project);
    expect(stdout.trim()).toBe('function undefined');
    return undefined;
  });

  describeDatabase('with a database', () => {
    const database = useDatabase();

    it('the migrations that the package brings go up and down', async ({ skip }) => {
      if (node === undefined) return skip(reason);
      const { project, folder } = thePackage();
      const main = join(folder, 'dist/cli/main.js');
      const variables = { DATABASE_URL: database().url, RETENTION_SCHEDULER: 'internal' };
      const retention = (...words: readonly string[]) =>
        expectSuccess(node ?? '', [main, ...words], project, variables);
      await retention('migrate', 'up');
      const { stdout } = await retention('migrate', 'status', '--json');
      expect((JSON.parse(stdout) as { readonly pending: unknown }).pending).toEqual([]);
      await retention('status', '--json');
      await retention('migrate', 'down', '--yes');
      return undefined;
    });
  });
});

const ESM_ONLY: ReadonlySet<string> = new Set(['node16-esm', 'bundler']);

/** The compiler of this project, for a project that has none. */
const TSC = join(
  dirname(createRequire(import.meta.url).resolve('typescript/package.json')),
  'bin/tsc',
);

const TSCONFIG = {
  compilerOptions: {
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  },
  files: ['program.ts'],
};

function versionOf(folder: string): string {
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    readonly version: string;
  };
  return version;
}

async function expectSuccess(
  program: string,
  parameters: readonly string[],
  folder: string,
  variables: Readonly<Record<string, string>> = {},
): ReturnType<typeof run> {
  const ended = await run(program, parameters, folder, variables);
  expect(ended.code, `${ended.stdout}\n${ended.stderr}`).toBe(0);
  return ended;
}
