import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GUARDED_PACKAGES, ROOMS, type Room, SOURCE_ROOMS, roomOf } from '../../.ci/rooms.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CONFIG = 'oxlint.config.mjs';

interface Door {
  readonly file: string;
  readonly imported: string;
  readonly isOpen: boolean;
}

/** Every door of the table: a file of each row, and what it tries to import. */
const DOORS: readonly Door[] = ROOMS.flatMap((row) => {
  const file = fileOf(row.files[0]);
  const own = roomOf(row.files[0]);
  const modules = SOURCE_ROOMS.map((room) => ({
    imported: `src/${room}/any.ts`,
    isOpen: room === own || row.rooms.includes(room),
  }));
  const singled = row.rooms
    .filter((room) => room.includes('/'))
    .map((room) => ({ imported: `src/${room}`, isOpen: true }));
  const closed = (row.but ?? []).map((files) => ({
    imported: `src/${files.replace('*', 'any.ts')}`,
    isOpen: false,
  }));
  const packages = GUARDED_PACKAGES.map((name) => ({
    imported: name.replace('*', 'any'),
    isOpen: row.packages.includes(name),
  }));
  return [...modules, ...singled, ...closed, ...packages].map((door) => ({ file, ...door }));
});

/** Doors that are closed, and one that is open, whatever becomes of the table. */
const FIXED: readonly Door[] = [
  ['src/config/any.ts', 'src/store/any.ts'],
  ['src/lifecycle/any.ts', 'src/database/any.ts'],
  ['src/database/any.ts', 'src/store/any.ts'],
  ['src/store/any.ts', 'src/objects/any.ts'],
  ['src/store/any.ts', 'pg'],
  ['src/objects/any.ts', 'src/store/any.ts'],
  ['src/objects/any.ts', 'pg'],
  ['src/reactor/any.ts', 'src/database/any.ts'],
  ['src/reactor/any.ts', 'src/cli/any.ts'],
  ['src/reactor/any.ts', 'pg'],
  ['src/reactor/any.ts', '@aws-sdk/client-s3'],
  ['src/telemetry/any.ts', 'src/database/any.ts'],
  ['src/cli/any.ts', 'pg'],
  ['src/index.ts', 'src/cli/any.ts'],
  ['src/new-room/any.ts', 'src/database/any.ts'],
  ['src/new-room/any.ts', 'pg'],
].map(([file = '', imported = '']) => ({ file, imported, isOpen: false }));
const TESTS: readonly Door[] = [
  { file: 'test/unit/any.test.ts', imported: 'src/database/any.ts', isOpen: true },
  { file: 'test/unit/any.test.ts', imported: 'pg', isOpen: true },
];

const ALL_DOORS = [...DOORS, ...FIXED, ...TESTS];

/** A file that a pattern of the table is about. */
function fileOf(pattern: string): string {
  return pattern.replace('**/*.ts', 'any.ts').replace('**', 'any.ts').replace('*', 'any');
}

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
  'src/reactor/written-any.ts': {
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
  mkdirSync(join(folder, '.ci'));
  for (const file of [CONFIG, '.ci/rooms.mjs']) copyFileSync(join(ROOT, file), join(folder, file));
  // The linter looks for its type-aware half from where it runs.
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  write('package.json', '{ "type": "module" }');
  const strict = { strict: true, noEmit: true, allowImportingTsExtensions: true };
  write('tsconfig.json', JSON.stringify({ compilerOptions: { ...strict, module: 'nodenext' } }));
  for (const file of new Set(ALL_DOORS.map((door) => door.file))) {
    write(
      file,
      importsOf(file)
        .map((imported) => `import '${imported}';`)
        .join('\n'),
    );
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

/** What a file imports, one a line, as it is written there. */
function importsOf(file: string): readonly string[] {
  const imported = ALL_DOORS.filter((door) => door.file === file).map((door) => door.imported);
  return [...new Set(imported)].map((name) => specifierFrom(file, name));
}

function specifierFrom(file: string, imported: string): string {
  if (!imported.startsWith('src/')) return imported;
  const path = relative(dirname(file), imported);
  return path.startsWith('.') ? path : `./${path}`;
}

function lint(): readonly Diagnostic[] {
  const oxlint = join(ROOT, 'node_modules/.bin/oxlint');
  let output: string;
  try {
    output = execFileSync(oxlint, ['-c', CONFIG, '--type-aware', '--format', 'json'], {
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

function isRefused({ file, imported }: Door): boolean {
  const line = importsOf(file).indexOf(specifierFrom(file, imported)) + 1;
  return rulesBroken(file, line).some((code) => code.includes('no-restricted-imports'));
}

describe('the linter', () => {
  test.each([...new Set(ALL_DOORS.map(({ file }) => file))])(
    'keeps %s to the doors that are open',
    (file) => {
      const doors = ALL_DOORS.filter((door) => door.file === file);
      const said = doors.map((door) => `${door.imported}: ${isRefused(door) ? 'closed' : 'open'}`);
      const expected = doors.map(
        ({ imported, isOpen }) => `${imported}: ${isOpen ? 'open' : 'closed'}`,
      );
      expect(said).toEqual(expected);
    },
  );

  test.each(Object.entries(HABITS))('refuses %s', (file, { rule }) => {
    expect(rulesBroken(file)).toContainEqual(expect.stringContaining(rule));
  });
});

describe('the table of rooms', () => {
  test('has a row for every folder of src/, and for no other', () => {
    const folders = readdirSync(join(ROOT, 'src'), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
    expect([...SOURCE_ROOMS].toSorted()).toEqual(folders.toSorted());
  });

  test('is the one that CONTRIBUTING.md shows', () => {
    const text = readFileSync(CONTRIBUTING, 'utf8');
    const [before = '', rest = ''] = text.split(BEGIN);
    const [, after = ''] = rest.split(END);
    const whole = `${before}${BEGIN}\n\n${ROOMS_TABLE}\n\n${END}${after}`;
    if (process.env['RETENTION_WRITE_DOCS'] === '1') writeFileSync(CONTRIBUTING, whole);
    expect(readFileSync(CONTRIBUTING, 'utf8')).toBe(whole);
  });
});

const CONTRIBUTING = join(ROOT, 'CONTRIBUTING.md');
const BEGIN = '<!-- rooms: generated from .ci/rooms.mjs -->';
const END = '<!-- /rooms -->';

const ROOMS_TABLE = [
  '| files | what they hold | rooms open to them | packages open to them |',
  '| --- | --- | --- | --- |',
  ...ROOMS.map(rowOf),
].join('\n');

function rowOf({ files, holds, rooms, but = [], packages }: Room): string {
  const names = files.map((pattern) => `\`${pattern.replace(/\*\*(?:\/\*\.ts)?$/u, '')}\``);
  const open = rooms.map((room) => `\`${room}\``).join(', ');
  const closed = but.map((room) => `\`${room}\``).join(', ');
  const doors = closed === '' ? open : `${open}; not ${closed}`;
  const used = packages.map((name) => `\`${name}\``).join(', ');
  return `| ${[names.join(', '), holds, doors, used].join(' | ')} |`;
}
