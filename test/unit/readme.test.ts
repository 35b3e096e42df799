import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SETTINGS, type Setting } from '../../src/config-settings.ts';
import * as library from '../../src/index.ts';

const README = new URL('../../README.md', import.meta.url);
const COMMANDS = new URL('../../src/cli/commands', import.meta.url);
const BEGIN = '<!-- settings: generated from src/config-settings.ts -->';
const END = '<!-- /settings -->';

describe('the README', () => {
  it('has the configuration table that the settings describe', () => {
    // RETENTION_WRITE_DOCS=1 npm run test:unit -- readme
    if (process.env['RETENTION_WRITE_DOCS'] === '1') {
      writeFileSync(README, withTable(readme(), renderTable(SETTINGS)));
    }
    expect(tableOf(readme())).toBe(renderTable(SETTINGS));
  });

  it('has a row for every command, and for no other', () => {
    const commands = readdirSync(COMMANDS).map((name) => name.replace(/\.ts$/u, ''));
    const found = [...readme().matchAll(/^\| `retention (?<command>[a-z]+)/gmu)];
    const documented = found.map((match) => match.groups?.['command'] ?? '');
    expect(new Set(documented)).toEqual(new Set(commands));
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
  const rows = settings.map(({ name, default: value, description }) =>
    row(`\`${name}\``, renderDefault(value), description),
  );
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

function tableOf(text: string): string {
  const [start, end] = placeOf(text);
  return text.slice(start, end).trim();
}

function withTable(text: string, table: string): string {
  const [start, end] = placeOf(text);
  return `${text.slice(0, start)}\n\n${table}\n\n${text.slice(end)}`;
}

function placeOf(text: string): readonly [start: number, end: number] {
  const start = text.indexOf(BEGIN);
  const end = text.indexOf(END, start);
  if (start === -1 || end === -1) throw new Error(`README.md lacks ${BEGIN} or ${END}`);
  return [start + BEGIN.length, end];
}
