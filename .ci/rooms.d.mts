/** A row of the table of rooms. */
export interface Room {
  readonly files: readonly [string, ...string[]];
  readonly holds: string;
  readonly rooms: readonly string[];
  readonly but?: readonly string[];
  readonly packages: readonly string[];
}

/** What `no-restricted-imports` takes. */
export interface Restrictions {
  readonly patterns: readonly { readonly group: readonly string[]; readonly message: string }[];
}

export const GUARDED_PACKAGES: readonly string[];
export const ROOMS: readonly Room[];
export const SOURCE_ROOMS: readonly string[];
export function restrictionsOf(row: Room): Restrictions;
export function roomOf(pattern: string): string | undefined;
