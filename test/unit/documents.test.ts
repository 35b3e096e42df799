import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { stepsOf } from '../support/document-steps.ts';
import { commandsIn, refusalOf } from '../support/documented-commands.ts';
import {
  ROOT,
  filesBelow,
  headingsOf,
  isKnownName,
  read,
  resolves,
} from '../support/project-files.ts';

const documents = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...filesBelow('docs'),
  ...filesBelow('deploy'),
  ...filesBelow('test/rigs'),
].filter((path) => path.endsWith('.md'));

/** Documents whose commands no test types, and why. */
const NOT_FOLLOWED: ReadonlyMap<string, string> = new Map([
  ['CONTRIBUTING.md', 'its one command is npm test, which is what runs here'],
  ['test/rigs/README.md', 'its commands take an hour; npm test runs a short form of them'],
  ['docs/people.md', 'its commands want two people; test/system/people-commands.test.ts runs them'],
  [
    'docs/history.md',
    'its tenants and runs are examples; test/system/people-commands.test.ts asks',
  ],
  ['docs/copies.md', 'its commands are played with real copies by test/system/copies-*.test.ts'],
  ['docs/proof.md', 'its commands are those of the operating guide, with other names'],
  [
    'docs/verify.md',
    'its buckets are large; test/database/verify-*.test.ts and system/verify do it',
  ],
  ['docs/proof-export.md', 'test/database/proof-verify.test.ts runs its script beside an export'],
  ['docs/runbook.ko.md', 'it shows the same as docs/runbook.md, word for word'],
]);

describe('the documents', () => {
  it.each(documents)('%s shows only commands that the program has', (path) => {
    const refused = commandsIn(read(path)).flatMap((command) => {
      const reason = refusalOf(command);
      return reason === undefined ? [] : [`retention ${command.words.join(' ')}: ${reason}`];
    });
    expect(refused).toEqual([]);
  });

  it.each(documents)('%s names only variables that there are', (path) => {
    const names = read(path).match(
      /\b(?:DPP|RETENTION|DATABASE|CRON_DATABASE|S3)_[A-Z0-9_]+\b(?!\*)/gu,
    );
    expect((names ?? []).filter((name) => !isKnownName(name) && !name.endsWith('_'))).toEqual([]);
  });

  it.each(documents)('%s links to what exists', (path) => {
    const links = [...read(path).matchAll(/\]\((?<to>[^)\s]+)\)/gu)].map(
      (match) => match.groups?.['to'] ?? '',
    );
    const broken = links.filter((link) => !/^https?:/u.test(link) && !resolves(path, link));
    expect(broken).toEqual([]);
  });

  it('have the same sections in English and Korean', () => {
    const shape = (path: string): string[] =>
      headingsOf(path).map((heading) => /^#+(?: \d[\d.]*)?/u.exec(heading)?.[0] ?? '');
    expect(shape('docs/runbook.ko.md')).toEqual(shape('docs/runbook.md'));
  });

  it('show the same in English and Korean, in the same order', () => {
    const shown = (path: string): string[] =>
      stepsOf(read(path)).map(({ kind, text }) => `${kind}: ${text}`);
    expect(shown('docs/runbook.md').length).toBeGreaterThan(40);
    expect(shown('docs/runbook.ko.md')).toEqual(shown('docs/runbook.md'));
  });

  it('that show what to type are followed by a test, or say why not', () => {
    const toType = documents.filter((path) =>
      stepsOf(read(path)).some(({ kind }) => kind !== 'text'),
    );
    const stories = filesBelow('test/system').filter((path) => path.includes('/documents-'));
    const followed = new Set(
      stories.flatMap((path) => read(path).match(/[\w./]+\.md(?=')/gu) ?? []),
    );
    expect(toType.filter((path) => !followed.has(path) && !NOT_FOLLOWED.has(path))).toEqual([]);
  });

  it('give a reason for every dependency, and for no other', () => {
    const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<
      'dependencies' | 'devDependencies',
      Record<string, string>
    >;
    const rows = read('docs/dependencies.md').match(/^\| `.*?\|/gmu) ?? [];
    const named = rows.flatMap((row) => row.match(/(?<=`)[^`, |]+(?=`)/gu) ?? []);
    expect(named.toSorted()).toEqual(
      [...Object.keys(dependencies), ...Object.keys(devDependencies)].toSorted(),
    );
  });
});
