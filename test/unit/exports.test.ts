import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, read } from '../support/project-files.ts';

/** Exports without a user in src/ that stay, and why. A use in tests alone is no reason. */
const KEPT: ReadonlyMap<string, string> = new Map([
  ['src/database/migrations.ts: MIGRATION_LOCK', 'a test takes this lock, to hold migrations up'],
  [
    'src/database/subscription.ts: MAX_PAYLOAD_CHARACTERS',
    'a test sends payloads just below and just above it',
  ],
  [
    'src/database/migrations.ts: readAdoptionReport',
    'a test asks for the report alone, beside no proposed mapping',
  ],
  ['src/lifecycle/clock.ts: createSafeNow', 'a test sets both clocks by hand'],
  ['src/config/unknown-variables.ts: editDistance', 'a test measures distances with it'],
  ...[
    'src/objects/s3/client.ts: DEFAULT_CONNECT_TIMEOUT_MILLISECONDS',
    'src/objects/s3/connection.ts: DEFAULT_MAX_SOCKETS',
    'src/objects/s3/listing.ts: MAX_PAGE_SIZE',
    'src/objects/s3/plain-xml.ts: writeKeys',
    'src/objects/s3/plain-xml.ts: namesAll',
    'src/objects/s3/plain-xml.ts: readKeys',
  ].map((name) => [name, 'tests hold the bounds and the form of requests'] as const),
]);

const DECLARED =
  /^export (?:async )?(?:function\*?|const|let|class|abstract class|(?<type>interface|type)) (?<name>\w+)/gmu;
const IMPORTED = /^(?:import|export) (?:type )?\{(?<names>[^}]*)\} from '(?<from>\.[^']+)';/gmu;
const IMPORTED_LATE = /\{(?<names>[^{}]*)\} = await import\('(?<from>\.[^']+)'\)/gu;
const IMPORTED_AT_ONCE =
  /\[(?<all>[^=\]]*)\] =\s+await Promise\.all\(\[(?<imports>\s*import\([^\]]*)\]\)/gu;
const ANY_IMPORT = /import\('(?<from>\.[^']+)'\)|^import (?!(?:type )?\{)[^;]*from '\./gmu;

const files = filesBelow('src').filter((path) => path.endsWith('.ts'));

interface Export {
  readonly file: string;
  readonly name: string;
  readonly isType: boolean;
}

const exported: readonly Export[] = files.flatMap((file) =>
  [...read(file).matchAll(DECLARED)].map(({ groups }) => ({
    file,
    name: groups?.['name'] ?? '',
    isType: groups?.['type'] !== undefined,
  })),
);

/** `file: name` of everything that one file takes from another. */
const taken: ReadonlySet<string> = new Set(
  files.flatMap((file) =>
    importsOf(read(file)).flatMap(({ names, from }) =>
      names.split(',').map((name) => `${join(dirname(file), from)}: ${nameOf(name)}`),
    ),
  ),
);

function importsOf(text: string): readonly { readonly names: string; readonly from: string }[] {
  const one = [...text.matchAll(IMPORTED), ...text.matchAll(IMPORTED_LATE)].map(({ groups }) => ({
    names: groups?.['names'] ?? '',
    from: groups?.['from'] ?? '',
  }));
  const several = [...text.matchAll(IMPORTED_AT_ONCE)].flatMap(({ groups }) => {
    const names = [...(groups?.['all'] ?? '').matchAll(/\{([^}]*)\}/gu)].map((found) => found[1]);
    const froms = [...(groups?.['imports'] ?? '').matchAll(/'([^']+)'/gu)].map((found) => found[1]);
    return froms.map((from = '', index) => ({ names: names[index] ?? '', from }));
  });
  return [...one, ...several];
}

/** What `type one as other`, or `one: other`, takes. */
function nameOf(words: string): string {
  return (
    words
      .trim()
      .replace(/^type /u, '')
      .split(/ as |:/u)[0] ?? ''
  );
}

/** A type that says what a function of its own file takes or gives needs no other user. */
function isNamedAgain({ file, name }: Export): boolean {
  return (read(file).match(new RegExp(`\\b${name}\\b`, 'gu')) ?? []).length > 1;
}

/** What package.json lets others import by a path of its own. */
const FACES: ReadonlySet<string> = new Set([
  'src/payloads/payloads.ts',
  'src/testing/object-store.ts',
]);

function isUsed(one: Export): boolean {
  if (FACES.has(one.file)) return true;
  return taken.has(`${one.file}: ${one.name}`) || (one.isType && isNamedAgain(one));
}

describe('the exports of src/', () => {
  it('are each used by another file of it, or are the face of the library', () => {
    const unused = exported
      .filter((one) => !isUsed(one))
      .map(({ file, name }) => `${file}: ${name}`);
    expect(unused.filter((name) => !KEPT.has(name))).toEqual([]);
  });

  it('that are kept without a user are there, and have none still', () => {
    const unused = exported
      .filter((one) => !isUsed(one))
      .map(({ file, name }) => `${file}: ${name}`);
    expect([...KEPT.keys()].filter((name) => !unused.includes(name))).toEqual([]);
  });

  it('are imported by name, so that this test sees them', () => {
    const unseen = files.filter((file) => {
      const text = read(file);
      const known = importsOf(text).map(({ from }) => from);
      return [...text.matchAll(ANY_IMPORT)].some(
        ({ groups }) => !known.includes(groups?.['from'] ?? ''),
      );
    });
    expect(unseen).toEqual([]);
  });
});
