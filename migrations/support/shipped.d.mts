/** The current truth: functions, views, triggers and rights, one subject a file. */
export interface ShippedFunctions {
  readonly files: readonly { readonly name: string; readonly sql: string }[];
  /** Over the names and texts of all of them. */
  readonly digest: string;
}

export function readFunctions(): ShippedFunctions;
export function readFunction(name: string): string;
export function withComments(sql: string): string;
