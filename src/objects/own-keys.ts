/**
 * What the product keeps in a bucket for itself begins with this: no result and no orphan. `retention._is_own_key`
 * says the same in SQL.
 */
const OWN_KEY_PREFIX = '.retention/';

/** The key of a fence. Copies of a database share it, and other platforms on the same bucket do not. */
export function fenceKey(fence: string): string {
  return `${OWN_KEY_PREFIX}fence-${fence}`;
}

/** The key of a seal: by database, in the order of the seals. */
export function sealKey(database: string, seal: number): string {
  return `${OWN_KEY_PREFIX}seals/${database}/${String(seal).padStart(12, '0')}.json`;
}

/** Whether an object is the product's own. */
export function isOwnKey(key: string): boolean {
  return key.startsWith(OWN_KEY_PREFIX);
}
