/** A version, and the package that brings it; undefined: the distribution's. */
export interface Version {
  readonly name: string;
  readonly spec: string | undefined;
}

export const POSTGRES: readonly Version[];
export const NODES: readonly Version[];
export function folderOf(root: string, name: string): string;
