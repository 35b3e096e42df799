import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

// One line per door: the file, and what it tries to import. A file's other lines are harmless.
const CLOSED: readonly (readonly [file: string, imported: string])[] = [
  ['src/errors.ts', './database/pool.ts'],
  ['src/errors.ts', 'zod'],
  ['src/config.ts', './database/pool.ts'],
  ['src/config.ts', './store/claims.ts'],
  ['src/config.ts', 'pg'],
  ['src/logger.ts', './cli/output.ts'],
  ['src/logger.ts', 'commander'],
  ['src/lifecycle/service.ts', '../database/pool.ts'],
  ['src/lifecycle/service.ts', '../objects/object-store.ts'],
  ['src/lifecycle/service.ts', 'pg'],
  ['src/lifecycle/service.ts', '@aws-sdk/client-s3'],
  ['src/database/pool.ts', '../store/claims.ts'],
  ['src/database/pool.ts', '../objects/object-store.ts'],
  ['src/database/pool.ts', '@aws-sdk/client-s3'],
  ['src/database/pool.ts', 'winston'],
  ['src/store/claims.ts', '../database/pool.ts'],
  ['src/store/claims.ts', '../database/notifications.ts'],
  ['src/store/claims.ts', '../objects/s3/object-store.ts'],
  ['src/store/claims.ts', '../reactor/worker.ts'],
  ['src/store/claims.ts', 'pg'],
  ['src/objects/object-store.ts', '../database/pool.ts'],
  ['src/objects/object-store.ts', '../store/claims.ts'],
  ['src/objects/object-store.ts', '@aws-sdk/client-s3'],
  ['src/objects/abilities.ts', '@aws-sdk/client-s3'],
  ['src/objects/s3/object-store.ts', '../../store/claims.ts'],
  ['src/objects/s3/object-store.ts', 'pg'],
  ['src/objects/object-store.ts', './s3/object-store.ts'],
  ['src/reactor/worker.ts', '../database/pool.ts'],
  ['src/reactor/worker.ts', '../database/queryable.ts'],
  ['src/reactor/worker.ts', '../objects/s3/object-store.ts'],
  ['src/reactor/worker.ts', '../objects/s3/listing.ts'],
  ['src/reactor/worker.ts', 'pg'],
  ['src/reactor/worker.ts', 'pg-listen'],
  ['src/reactor/worker.ts', '@aws-sdk/client-s3'],
  ['src/reactor/worker.ts', 'prom-client'],
  ['src/reactor/worker.ts', '../cli/output.ts'],
  ['src/reactor/worker.ts', '../demo/tour.ts'],
  ['src/telemetry/metrics.ts', '../database/pool.ts'],
  ['src/telemetry/metrics.ts', 'winston'],
  ['src/cli/commands/listen.ts', 'pg'],
  ['src/cli/commands/listen.ts', '../../objects/s3/object-store.ts'],
  ['src/cli/commands/listen.ts', '@aws-sdk/client-s3'],
  ['src/cli/commands/listen.ts', 'node-pg-migrate'],
  ['src/demo/tour.ts', '../cli/output.ts'],
  ['src/demo/tour.ts', 'pg'],
  ['src/assembly.ts', './objects/s3/object-store.ts'],
  ['src/index.ts', './cli/output.ts'],
  ['src/index.ts', './demo/tour.ts'],
  ['src/index.ts', 'pg'],
];

const OPEN: readonly (readonly [file: string, imported: string])[] = [
  ['src/config.ts', 'zod'],
  ['src/logger.ts', 'winston'],
  ['src/database/pool.ts', 'pg'],
  ['src/database/pool.ts', '../config.ts'],
  ['src/store/claims.ts', '../database/queryable.ts'],
  ['src/objects/s3/object-store.ts', '@aws-sdk/client-s3'],
  ['src/objects/s3/object-store.ts', '../object-store.ts'],
  ['src/objects/open-object-store.ts', './s3/object-store.ts'],
  ['src/reactor/worker.ts', '../store/claims.ts'],
  ['src/reactor/worker.ts', '../objects/object-store.ts'],
  ['src/reactor/worker.ts', '../lifecycle/service.ts'],
  ['src/telemetry/metrics.ts', 'prom-client'],
  ['src/cli/commands/listen.ts', '../../database/pool.ts'],
  ['src/cli/commands/listen.ts', '../../demo/tour.ts'],
  ['src/cli/commands/listen.ts', 'commander'],
  ['src/demo/tour.ts', '../reactor/worker.ts'],
  ['src/index.ts', './reactor/worker.ts'],
  ['src/assembly.ts', './objects/open-object-store.ts'],
  ['src/cli/commands/listen.ts', '../../objects/open-object-store.ts'],
  ['test/unit/any.test.ts', '../../src/database/pool.ts'],
  ['test/unit/any.test.ts', 'pg'],
];

// Files that break another rule which everything here relies on.
const HABITS: Readonly<Record<string, { readonly text: string; readonly rule: string }>> = {
  'src/reactor/floating.ts': {
    text: `export function start(): void {\n  Promise.resolve(1);\n}\n`,
    rule: 'no-floating-promises',
  },
  'src/reactor/misused.ts': {
    text: `export function each(names: string[]): void {\n  names.forEach(async () => {\n    await Promise.resolve();\n  });\n}\n`,
    rule: 'no-misused-promises',
  },
  'src/reactor/any.ts': {
    text: `export const value: any = 1;\n`,
    rule: 'no-explicit-any',
  },
  'src/reactor/inherited-any.ts': {
    text: `export const value: string = JSON.parse('1');\n`,
    rule: 'no-unsafe-assignment',
  },
  'src/reactor/typed-import.ts': {
    text: `import { Thing } from './thing.ts';\n\nexport const thing: Thing = { one: 1 };\n`,
    rule: 'consistent-type-imports',
  },
  'src/reactor/circle-a.ts': {
    text: `import { b } from './circle-b.ts';\n\nexport const a = (): number => b();\n`,
    rule: 'no-cycle',
  },
  'src/reactor/environment.ts': {
    text: `export const url = process.env['DATABASE_URL'];\n`,
    rule: 'no-process-env',
  },
};

interface Diagnostic {
  readonly code?: string;
  readonly filename: string;
  readonly labels: readonly { readonly span: { readonly line: number } }[];
}

let folder: string;
let diagnostics: readonly Diagnostic[];

// Each import stands on a line of its own in the file that it belongs to, and the linter, which
// takes a second to start, runs over all of them at once.
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'retention-rooms-'));
  copyFileSync(join(ROOT, '.oxlintrc.json'), join(folder, '.oxlintrc.json'));
  // The linter looks for its type-aware half from where it runs.
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  write('package.json', '{ "type": "module" }');
  const strict = { strict: true, noEmit: true, allowImportingTsExtensions: true };
  write('tsconfig.json', JSON.stringify({ compilerOptions: { ...strict, module: 'nodenext' } }));
  for (const file of new Set([...CLOSED, ...OPEN].map(([name]) => name))) {
    write(file, importsOf(file).map(importLine).join('\n'));
  }
  write('src/reactor/thing.ts', 'export interface Thing {\n  readonly one: number;\n}\n');
  write(
    'src/reactor/circle-b.ts',
    `import { a } from './circle-a.ts';\n\nexport const b = (): number => a();\n`,
  );
  for (const [file, { text }] of Object.entries(HABITS)) write(file, text);
  diagnostics = lint();
}, 60_000);

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function write(file: string, text: string): void {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), text);
}

function importsOf(file: string): string[] {
  return [...CLOSED, ...OPEN].filter(([name]) => name === file).map(([, imported]) => imported);
}

function importLine(imported: string): string {
  return `import '${imported}';`;
}

function lint(): readonly Diagnostic[] {
  const oxlint = join(ROOT, 'node_modules/.bin/oxlint');
  let output: string;
  try {
    output = execFileSync(oxlint, ['--type-aware', '--format', 'json'], {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  } catch (error) {
    // It ends with 1 when it finds something, which is what is wanted here.
    output = (error as { stdout: string }).stdout;
  }
  return (JSON.parse(output) as { diagnostics: Diagnostic[] }).diagnostics;
}

function rulesBroken(file: string, line?: number): string[] {
  return diagnostics
    .filter(({ filename }) => filename === file)
    .filter(({ labels }) => line === undefined || labels[0]?.span.line === line)
    .map(({ code }) => code ?? '');
}

function isRefused(file: string, imported: string): boolean {
  const line = importsOf(file).indexOf(imported) + 1;
  return rulesBroken(file, line).some((code) => code.includes('no-restricted-imports'));
}

test.each(CLOSED)('%s may not import %s', (file, imported) => {
  expect(isRefused(file, imported)).toBe(true);
});

test.each(OPEN)('%s may import %s', (file, imported) => {
  expect(isRefused(file, imported)).toBe(false);
});

test.each(Object.entries(HABITS))('%s is refused', (file, { rule }) => {
  expect(rulesBroken(file)).toContainEqual(expect.stringContaining(rule));
});
