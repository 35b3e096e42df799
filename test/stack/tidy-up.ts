/** What must be taken down in the end, whatever happens. */
export interface TidyUp {
  /** `undo` may be called when there is nothing left to undo. */
  add(undo: () => Promise<void>): void;
  /**
   * Undoes everything, the last thing first, and each even when another fails.
   *
   * @throws the first failure.
   */
  run(): Promise<void>;
}

/** Makes an empty list of things to take down. */
export function createTidyUp(): TidyUp {
  const undos: (() => Promise<void>)[] = [];
  return {
    add: (undo) => void undos.push(undo),
    run: async () => {
      const failures: unknown[] = [];
      for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
        await undo().catch((error: unknown) => void failures.push(error));
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}
