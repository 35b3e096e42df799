/** What may be said about one statement. */
export interface QueryOptions {
  /**
   * Makes it a prepared statement of this name, planned once per session. Left out by itself behind
   * a pooler, where names of different clients clash. The same name always means the same text.
   */
  readonly name?: string | undefined;
}

/** The port through which SQL is run: a pool, or one session of it. */
export interface Queryable {
  /**
   * Runs one statement and returns its rows. `bigint` comes as a number where that is exact, as
   * text where it is not; `timestamptz` as a Date; `numeric` as text.
   *
   * @throws DatabaseError with the SQLSTATE when the server refused it.
   */
  query<Row extends object>(
    text: string,
    values?: readonly unknown[],
    options?: QueryOptions,
  ): Promise<readonly Row[]>;
}
