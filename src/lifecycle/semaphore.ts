import { onAbort } from './linked-abort.ts';

/** Lets so many pieces of work run at once, and the others wait in the order in which they came. */
export class Semaphore {
  readonly #waiting = new Set<() => void>();
  #free: number;

  /** @param permits how many may run at once. */
  constructor(permits: number) {
    this.#free = permits;
  }

  /** @throws the signal's reason, when it is aborted before the work's turn. */
  async run<Result>(signal: AbortSignal | undefined, work: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#free += 1;
      else next();
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      let release = (): void => undefined;
      const go = (): void => {
        this.#waiting.delete(go);
        release();
        resolve();
      };
      this.#waiting.add(go);
      if (signal === undefined) return;
      release = onAbort(signal, () => {
        this.#waiting.delete(go);
        reject(signal.reason as Error);
      });
    });
  }
}
