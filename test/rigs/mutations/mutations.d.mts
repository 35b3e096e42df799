/** One text of the product, broken on purpose. */
export interface Edit {
  /** From the project's folder. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly search: string;
  readonly replace: string;
}

/** One way of breaking a promise, and the test that must notice. */
export interface Mutation {
  readonly name: string;
  /** Its number in the list of promises. */
  readonly promise: number;
  readonly edits: readonly Edit[];
  readonly testFile: string;
  /** The title of the test; of a `test.each`, the title as written and what it says in its place. */
  readonly test: string | readonly [title: string, value: string];
}

export const mutations: readonly Mutation[];

/** A test's title as it is reported. */
export function titleOf(mutation: Mutation): string;
