import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { SETTING_LIST, type Setting } from '../../src/config/settings.ts';
import * as library from '../../src/index.ts';
import { renderReference } from '../support/command-reference.ts';
import { ROOT, filesBelow, headingsOf, read } from '../support/project-files.ts';

const COMMANDS = new URL('../../src/cli/commands', import.meta.url);

/** What lies between two comments is generated. */
interface Part {
  readonly path: string;
  readonly begin: string;
  readonly end: string;
}

const SETTINGS_PART: Part = {
  path: 'docs/settings.md',
  begin: '<!-- settings: generated from src/config/settings.ts -->',
  end: '<!-- /settings -->',
};
const COMMANDS_PART: Part = {
  path: 'docs/commands.md',
  begin: '<!-- commands: generated from src/cli/program.ts -->',
  end: '<!-- /commands -->',
};

describe('the README', () => {
  it('is read in ten minutes: it has about 250 lines, in the order of a reader who is new', () => {
    expect(read('README.md').split('\n').length).toBeLessThanOrEqual(270);
    expect(headingsOf('README.md').map((heading) => heading.replace(/^#+ /u, ''))).toEqual([
      'Retention Reactor',
      'Why not a lifecycle rule',
      'What it promises',
      'What it needs',
      'Two commands',
      'Quick start',
      'What it looks like in psql',
      'Policies, holds, surges',
      'Settings',
      'Where to read on',
      'Contributing',
    ]);
  });

  it('has eight settings, with the defaults that they have', () => {
    const found = [
      ...read('README.md').matchAll(/^\| `(?<name>[A-Z0-9_]+)` \| (?<given>[^|]+) \|/gmu),
    ];
    const shown = found.map(({ groups }) => [groups?.['name'], groups?.['given']]);
    expect(shown).toHaveLength(8);
    const defaults = new Map(
      SETTING_LIST.map(({ variable, defaultText }) => [variable, renderDefault(defaultText)]),
    );
    // The README shows the table above, whose names these are.
    defaults.set('RETENTION_COLUMNS', 'the names above');
    for (const [name = '', given] of shown)
      expect([name, given]).toEqual([name, defaults.get(name)]);
  });

  it('leads to every document, at once or by another one', () => {
    const seen = new Set(['README.md']);
    for (const path of seen) {
      for (const [, link = ''] of read(path).matchAll(/\]\((?<to>[^)#\s]+\.md)/gu))
        if (!/^https?:/u.test(link)) seen.add(join(dirname(path), link));
    }
    const documents = filesBelow('docs').filter((path) => path.endsWith('.md'));
    expect(documents.filter((path) => !seen.has(path))).toEqual([]);
  });
});

describe('the pages of settings and commands', () => {
  it('have the configuration table that the settings describe', () => {
    expectPart(SETTINGS_PART, renderTable(SETTING_LIST));
  });

  it('have the command reference that the program describes', () => {
    expectPart(COMMANDS_PART, renderReference(createProgram()));
  });

  it('show an example of every command', () => {
    const texts = [...renderReference(createProgram()).matchAll(/^```text\n(?<text>.*?)^```$/gmsu)];
    const blocks = texts.flatMap((match) => (match.groups?.['text'] ?? '').split('\n\n'));
    expect(blocks.length).toBeGreaterThan(0);
    expect(blocks.filter((block) => !/^ {2}\$ .*\bretention /mu.test(block))).toEqual([]);
  });

  it('have a row for every command, and for no other', () => {
    const commands = readdirSync(COMMANDS).map((name) => name.replace(/\.ts$/u, ''));
    const found = [...read(COMMANDS_PART.path).matchAll(/^\| `retention (?<command>[a-z]+)/gmu)];
    const documented = found.map((match) => match.groups?.['command'] ?? '');
    expect(new Set(documented)).toEqual(new Set(commands));
  });
});

describe('the page about the library', () => {
  it('imports only what the library exports', () => {
    const imports = [
      ...read('docs/library.md').matchAll(/import \{(?<names>[^}]+)\} from 'retention-reactor'/gu),
    ].flatMap((match) => (match.groups?.['names'] ?? '').split(','));
    const names = imports
      .map((name) => name.trim())
      .filter((name) => name !== '' && !name.startsWith('type '));
    expect(Object.keys(library)).toEqual(expect.arrayContaining(names));
  });
});

function renderTable(settings: readonly Setting[]): string {
  const rows = settings.map(({ variable, defaultText, meaning, column }) => {
    const kept = column === null ? '' : ` (kept in the database as \`${column}\`)`;
    return row(`\`${variable}\``, renderDefault(defaultText), `${meaning}${kept}`);
  });
  return [row('name', 'default', 'meaning'), row('---', '---', '---'), ...rows].join('\n');
}

/** A literal stands in code type, a word about the default does not. */
function renderDefault(value: string): string {
  const isWords = value.includes(' ') || value === 'none' || value === 'required';
  return isWords ? value : `\`${value}\``;
}

function row(...cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`)).join(' | ')} |`;
}

/** RETENTION_WRITE_DOCS=1 npm run test:unit -- readme */
function expectPart(part: Part, text: string): void {
  if (process.env['RETENTION_WRITE_DOCS'] === '1') {
    const page = read(part.path);
    const [start, end] = placeOf(part);
    writeFileSync(
      join(ROOT, part.path),
      `${page.slice(0, start)}\n\n${text}\n\n${page.slice(end)}`,
    );
  }
  const [start, end] = placeOf(part);
  expect(read(part.path).slice(start, end).trim()).toBe(text);
}

function placeOf({ path, begin, end }: Part): readonly [start: number, end: number] {
  const text = read(path);
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from === -1 || to === -1) throw new Error(`${path} lacks ${begin} or ${end}`);
  return [from + begin.length, to];
}
