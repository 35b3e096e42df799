import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import {
  DeadlinePassed,
  settlesWithin,
  unlessAborted,
  withDeadline,
  withGrace,
} from '../../src/lifecycle/deadline.ts';
import { onAbort, withLinkedAbort } from '../../src/lifecycle/linked-abort.ts';

const LONG = 3_600_000;
const never = new Promise<never>(() => undefined);

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

/** Ends when the signal is aborted, with its reason. */
const untilAborted = (signal: AbortSignal): Promise<never> => unlessAborted(never, signal);

describe('a linked abort', () => {
  test('follows the outer signal with its reason, and leaves nothing on it', async () => {
    const outer = new AbortController();
    const reason = new Error('enough');
    const working = withLinkedAbort(outer.signal, ({ signal }) => untilAborted(signal));
    expect(listeners(outer.signal)).toBe(1);
    outer.abort(reason);
    await expect(working).rejects.toBe(reason);
    expect(listeners(outer.signal)).toBe(0);
  });

  test('is aborted from the start where the outer signal is, and does not abort that one', async () => {
    expect(await withLinkedAbort(AbortSignal.abort(), async ({ signal }) => signal.aborted)).toBe(
      true,
    );
    const outer = new AbortController();
    await withLinkedAbort(outer.signal, async (controller) => controller.abort());
    expect(outer.signal.aborted).toBe(false);
    expect(listeners(outer.signal)).toBe(0);
  });

  test('tells a listener once, also late, and not one that was taken away', () => {
    const outer = new AbortController();
    let told = 0;
    onAbort(outer.signal, () => (told += 1));
    onAbort(outer.signal, () => (told += 10))();
    outer.abort();
    expect(told).toBe(1);
    onAbort(outer.signal, () => (told += 1));
    expect(told).toBe(2);
    onAbort(undefined, () => (told += 1))();
    expect(told).toBe(2);
  });
});

describe('a deadline', () => {
  test('ends what takes longer, with itself as the reason', async () => {
    await expect(withDeadline(10, undefined, untilAborted)).rejects.toThrow(DeadlinePassed);
  });

  test('is no matter to what ends before it, or is ended by the caller', async () => {
    expect(await withDeadline(LONG, undefined, () => Promise.resolve(1))).toBe(1);
    const reason = new Error('enough');
    await expect(withDeadline(LONG, AbortSignal.abort(reason), untilAborted)).rejects.toBe(reason);
  });

  test('of a grace calls what it was given, and the work is waited for still', async () => {
    let end = (): void => undefined;
    const work = new Promise<string>((resolve) => {
      end = () => resolve('done');
    });
    expect(await withGrace(10, end, () => work)).toBe('done');
    let isCalled = false;
    await withGrace(
      LONG,
      () => (isCalled = true),
      () => Promise.resolve(),
    );
    expect(isCalled).toBe(false);
  });

  test('of a wait tells whether the work was done by then', async () => {
    expect(await settlesWithin(10, never)).toBe(false);
    expect(await settlesWithin(LONG, Promise.resolve())).toBe(true);
    const failed = new Error('no');
    await expect(settlesWithin(LONG, Promise.reject(failed))).rejects.toBe(failed);
  });
});
