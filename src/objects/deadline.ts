import { setMaxListeners } from 'node:events';

/** The reason of a signal that was aborted because time was up. */
export class DeadlinePassed extends Error {
  override readonly name = 'DeadlinePassed';
}

/**
 * Runs `work` with a signal that ends with the caller's signal or after `milliseconds`, whichever
 * is first. Written out rather than composed with `AbortSignal.any`, which in Node 20 keeps
 * something of each call for as long as the caller's signal lives.
 */
export async function withDeadline<T>(
  milliseconds: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  // Every request and every pause between attempts listens, several at a time; none stays.
  setMaxListeners(0, controller.signal);
  const follow = (): void => controller.abort(outer?.reason);
  const timer = setTimeout(
    () => controller.abort(new DeadlinePassed(`no answer within ${milliseconds} ms`)),
    milliseconds,
  );
  if (outer?.aborted) follow();
  else outer?.addEventListener('abort', follow, { once: true });
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', follow);
  }
}

/**
 * Settles as `work` does, or rejects with the signal's reason as soon as that is aborted: for work
 * that does not hear the signal everywhere. What `work` does later is ignored.
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
    // A late failure has no one to tell.
    work.catch(() => undefined);
  }
}
