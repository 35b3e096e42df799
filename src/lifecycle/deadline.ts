import { onAbort, withLinkedAbort } from './linked-abort.ts';

/** The reason of a signal that was aborted because time was up. */
export class DeadlinePassed extends Error {
  override readonly name = 'DeadlinePassed';
}

/**
 * Runs `work` with a signal that is aborted with the caller's signal or after `milliseconds`, whichever
 * is first; then with {@link DeadlinePassed} as its reason.
 */
export function withDeadline<Result>(
  milliseconds: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const passed = (): Error => new DeadlinePassed(`no answer within ${milliseconds} ms`);
  return withLinkedAbort(outer, (controller) =>
    withGrace(
      milliseconds,
      () => controller.abort(passed()),
      () => work(controller.signal),
    ),
  );
}

/** Calls `whenOver` when `work` takes longer than `milliseconds`, and goes on waiting for it. */
export async function withGrace<Result>(
  milliseconds: number,
  whenOver: () => void,
  work: () => Promise<Result>,
): Promise<Result> {
  const timer = setTimeout(whenOver, milliseconds);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits for `work`, but no longer than `milliseconds`; what it does later is ignored.
 *
 * @returns whether it was fulfilled in time.
 * @throws what it was rejected with in time.
 */
export async function settlesWithin(
  milliseconds: number,
  work: Promise<unknown>,
): Promise<boolean> {
  let giveUp = (): void => undefined;
  const late = new Promise<boolean>((resolve) => {
    giveUp = () => resolve(false);
  });
  return withGrace(milliseconds, giveUp, () => Promise.race([work.then(() => true), late]));
}

/**
 * Settles as `work` does, or rejects with the signal's reason as soon as that is aborted: for work
 * that does not hear the signal everywhere. What `work` does later is ignored.
 */
export async function unlessAborted<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
): Promise<Result> {
  let release = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    release = onAbort(signal, () => reject(signal.reason as Error));
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    release();
    // A late failure has no one to tell.
    work.catch(() => undefined);
  }
}
