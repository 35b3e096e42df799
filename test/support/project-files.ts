import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SETTING_LIST } from '../../src/config/settings.ts';

/** The project's folder. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Every file below a folder of the project, by its path from there. */
export function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .toSorted();
}

/** The text of a file of the project. */
export function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

const settingNames: ReadonlySet<string> = new Set(SETTING_LIST.map(({ variable }) => variable));

/** What is set for others than the reactor, or for its tests. */
const OTHER_NAMES: ReadonlySet<string> = new Set([
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'NODE_ENV',
  'RETENTION_WRITE_DOCS',
  'S3_TEST_ENDPOINT',
]);

/** Whether a variable is a setting, or one of those that others read. */
export function isKnownName(name: string): boolean {
  return settingNames.has(name) || OTHER_NAMES.has(name);
}

/** The headings of a document, without what its blocks show. */
export function headingsOf(path: string): string[] {
  return (
    read(path)
      .replaceAll(/^ *```[\s\S]*?^ *```/gmu, '')
      .match(/^#+ .*$/gmu) ?? []
  );
}

/** The anchors of headings, as GitHub makes them. */
export function anchorsOf(path: string): ReadonlySet<string> {
  return new Set(
    headingsOf(path).map((heading) =>
      heading
        .replace(/^#+ /u, '')
        .toLowerCase()
        .replaceAll(/[^\p{Letter}\p{Mark}\p{Number}\p{Connector_Punctuation} -]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** Whether what a document links to is there. */
export function resolves(from: string, link: string): boolean {
  const [to = '', anchor] = link.split('#');
  const path = to === '' ? from : relative(ROOT, join(ROOT, from, '..', to));
  if (!existsSync(join(ROOT, path))) return false;
  return anchor === undefined || anchorsOf(path).has(decodeURIComponent(anchor));
}
