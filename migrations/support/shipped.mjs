// The files of functions/ as the schema is given them. Plain JavaScript: the migrations are TypeScript that
// the runner of migrations loads, src/ is compiled apart from them, and both need this very text.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';

const FOLDER = new URL('../functions/', import.meta.url);

/** The comment lines above what does not begin with an underscore, and its arguments. */
const CONTRACT =
  /^(?<contract>(?:--.*\n)+)create or replace (?<kind>function|view) (?<name>retention\.[a-z]\w*)(?<signature>\((?:'(?:[^']|'')*'|\([^()]*\)|[^()'])*\))?/gmu;

const DEFAULT = / default (?:'(?:[^']|'')*'|\([^()]*\)|[^,()'])+/gu;

/** The files in their order, each with the comments of its public functions and views, and a digest. */
export function readFunctions() {
  const names = readdirSync(FOLDER)
    .filter((name) => name.endsWith('.sql'))
    .toSorted();
  const files = names.map((name) => ({ name, sql: readFunction(name) }));
  const digest = createHash('sha256');
  for (const { name, sql } of files) digest.update(`${name}\0${sql}\0`);
  return { files, digest: digest.digest('hex') };
}

/** One of the files. */
export function readFunction(name) {
  return withComments(readFileSync(new URL(name, FOLDER), 'utf8'));
}

/**
 * The text with a `comment on` for each contract in it: the comment lines directly above a public function or
 * view. Psql and docs/sql.md show them.
 */
export function withComments(sql) {
  const comments = [...sql.matchAll(CONTRACT)].map(({ groups }) => {
    const text = groups.contract.trim().replaceAll(/^-- ?/gmu, '').replaceAll("'", "''");
    const signature = groups.kind === 'view' ? '' : groups.signature.replaceAll(DEFAULT, '');
    return `\ncomment on ${groups.kind} ${groups.name}${signature} is\n'${text}';\n`;
  });
  return sql + comments.join('');
}
