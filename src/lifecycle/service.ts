import { RetentionError } from '../errors.ts';

/**
 * Something that runs until it is stopped. The contract:
 *
 * - `start` resolves when it runs, and rejects when it cannot; then nothing of it is left behind.
 *   A repeated `start` returns the first one's promise.
 * - `stop` resolves when nothing of it is left: no timer, no connection, no call under way. It may
 *   be called at any time, also twice, also while `start` is under way, also without any `start`.
 * - What was stopped is not started again; a new one is made.
 */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** The two halves of a service; each is called at most once. */
export interface ServiceHooks {
  /** Names the service in errors. */
  readonly name: string;
  /** `signal` is aborted when the service is stopped before it runs. */
  start(signal: AbortSignal): Promise<void> | void;
  /** Also tidies up after a `start` that failed or was aborted half-way. */
  stop(): Promise<void> | void;
}

/** Makes a service that keeps the contract out of hooks that need not know it. */
export function createService(hooks: ServiceHooks): Service {
  const controller = new AbortController();
  let starting: Promise<void> | undefined;
  let stopping: Promise<void> | undefined;
  let tidying: Promise<void> | undefined;

  const tidyOnce = (): Promise<void> => (tidying ??= Promise.resolve().then(() => hooks.stop()));
  const start = async (): Promise<void> => {
    if (controller.signal.aborted) {
      throw new RetentionError(`${hooks.name} was stopped before it was started`);
    }
    try {
      await hooks.start(controller.signal);
    } catch (error) {
      await tidyOnce();
      throw error;
    }
  };
  const stop = async (): Promise<void> => {
    controller.abort();
    if (starting === undefined) return;
    // Whoever started it hears of that failure.
    await starting.catch(() => undefined);
    await tidyOnce();
  };
  return {
    start: () => (starting ??= start()),
    stop: () => (stopping ??= stop()),
  };
}
