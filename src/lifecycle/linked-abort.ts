import { setMaxListeners } from 'node:events';

/** For what must have a signal and is never to be ended by it. */
export const NEVER_ABORTED: AbortSignal = new AbortController().signal;

/**
 * Calls `listener` once when the signal is aborted; at once, where it is already.
 *
 * @returns takes the listener away again. A signal that lives long must not gather listeners.
 */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    listener();
    return () => undefined;
  }
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/**
 * Runs `work` with a controller of its own that is also aborted with `outer`, for the same reason. Written
 * out, since `AbortSignal.any` in Node 20 keeps something of each call for as long as `outer` lives.
 */
export async function withLinkedAbort<Result>(
  outer: AbortSignal | undefined,
  work: (controller: AbortController) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  // Every request and every pause between attempts listens, several at a time; none stays.
  setMaxListeners(0, controller.signal);
  const release = onAbort(outer, () => controller.abort(outer?.reason));
  try {
    return await work(controller);
  } finally {
    release();
  }
}
