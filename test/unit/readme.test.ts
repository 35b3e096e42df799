import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { SETTING_LIST, type Setting } from '../../src/config/settings.ts';
import * as library from '../../src/index.ts';
import { renderReference } from '../support/command-reference.ts';

const README = new URL('../../README.md', import.meta.url);
const COMMANDS = new URL('../../src/cli/commands', import.meta.url);

/** What lies between two comments is generated. */
interface Part {
  readonly begin: string;
  readonly end: string;
}

const SETTINGS_PART: Part = {
  begin: '<!-- settings: generated from src/config/settings.ts -->',
  end: '<!-- /settings -->',
};
const COMMANDS_PART: Part = {
  begin: '<!-- commands: generated from src/cli/program.ts -->',
  end: '<!-- /commands -->',
};

describe('the README', () => {
  it('has the configuration table that the settings describe', () => {
    expectPart(SETTINGS_PART, renderTable(SETTING_LIST));
  });

  it('has the command reference that the program describes', () => {
    expectPart(COMMANDS_PART, renderReference(createProgram()));
  });

  it('shows an example of every command', () => {
    const texts = [...renderReference(createProgram()).matchAll(/^```text\n(?<text>.*?)^```$/gmsu)];
    const blocks = texts.flatMap((match) => (match.groups?.['text'] ?? '').split('\n\n'));
    expect(blocks.length).toBeGreaterThan(0);
    expect(blocks.filter((block) => !/^ {2}\$ .*\bretention /mu.test(block))).toEqual([]);
  });

  it('has a row for every command, and for no other', () => {
    const commands = readdirSync(COMMANDS).map((name) => name.replace(/\.ts$/u, ''));
    const found = [...readme().matchAll(/^\| `retention (?<command>[a-z]+)/gmu)];
    const documented = found.map((match) => match.groups?.['command'] ?? '');
    expect(new Set(documented)).toEqual(new Set(commands));
  });

  it('links to what is there', () => {
    const found = [...readme().matchAll(/\]\((?<target>[^)\s]+)\)/gu)];
    const targets = found.map((match) => match.groups?.['target'] ?? '');
    const headings = [...readme().matchAll(/^#+ (?<heading>.+)$/gmu)];
    const anchors = headings.map((match) => anchorOf(match.groups?.['heading'] ?? ''));
    const dead = targets.filter((target) => {
      if (target.startsWith('#')) return !anchors.includes(target);
      return !/^https?:/u.test(target) && !existsSync(new URL(target, README));
    });
    expect(dead).toEqual([]);
  });

  it('imports from the library only what it exports', () => {
    const imports = /import \{(?<names>[^}]+)\} from 'retention-reactor'/u.exec(readme());
    const names = (imports?.groups?.['names'] ?? '').split(',').map((name) => name.trim());
    expect(Object.keys(library)).toEqual(expect.arrayContaining(names));
  });
});

function readme(): string {
  return readFileSync(README, 'utf8');
}

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

/** As GitHub makes them of headings. */
function anchorOf(heading: string): string {
  return `#${heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/gu, '')
    .replaceAll(' ', '-')}`;
}

/** RETENTION_WRITE_DOCS=1 npm run test:unit -- readme */
function expectPart(part: Part, text: string): void {
  if (process.env['RETENTION_WRITE_DOCS'] === '1') {
    const [start, end] = placeOf(readme(), part);
    const [before, after] = [readme().slice(0, start), readme().slice(end)];
    writeFileSync(README, `${before}\n\n${text}\n\n${after}`);
  }
  const [start, end] = placeOf(readme(), part);
  expect(readme().slice(start, end).trim()).toBe(text);
}

function placeOf(text: string, { begin, end }: Part): readonly [start: number, end: number] {
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from === -1 || to === -1) throw new Error(`README.md lacks ${begin} or ${end}`);
  return [from + begin.length, to];
}
