import { readFileSync } from 'node:fs';

/** The version of this package: what the schema is asked to serve. */
export const PRODUCT_VERSION: string = readVersion();

function readVersion(): string {
  // The same place from `src` and from `dist`.
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string };
  return version;
}
