import { EventEmitter } from 'node:events';
import { describe, expect, test } from 'vitest';
import { createAbortableLoop } from '../../src/lifecycle/abortable-loop.ts';
import { ahead } from '../../src/lifecycle/ahead.ts';
import { createBackoff } from '../../src/lifecycle/backoff.ts';
import { createService } from '../../src/lifecycle/service.ts';
import { watchStopSignals } from '../../src/lifecycle/signals.ts';
import { createManualClock, settle } from '../support/manual-clock.ts';

/** A promise that the test resolves. */
function createGate(): { readonly promise: Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined;
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

describe('service', () => {
  function recorded(start: (signal: AbortSignal) => Promise<void> | void = () => undefined) {
    const calls: string[] = [];
    const service = createService({
      name: 'the part',
      start: async (signal) => {
        calls.push('start');
        await start(signal);
      },
      stop: () => {
        calls.push('stop');
      },
    });
    return { calls, service };
  }

  test('repeated starts and stops do each once', async () => {
    const { calls, service } = recorded();
    await Promise.all([service.start(), service.start()]);
    await Promise.all([service.stop(), service.stop()]);
    await service.stop();
    expect(calls).toEqual(['start', 'stop']);
  });

  test('a stop without a start does nothing, and a later start is refused', async () => {
    const { calls, service } = recorded();
    await service.stop();
    await expect(service.start()).rejects.toThrow('the part was stopped before it was started');
    expect(calls).toEqual([]);
  });

  test('a stop while it starts aborts the start, waits for it and tidies up', async () => {
    const { calls, service } = recorded(
      (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new Error('aborted')));
        }),
    );
    const starting = expect(service.start()).rejects.toThrow('aborted');
    await service.stop();
    await starting;
    expect(calls).toEqual(['start', 'stop']);
  });

  test('a start that fails tidies up, once', async () => {
    const { calls, service } = recorded(() => Promise.reject(new Error('no')));
    await expect(service.start()).rejects.toThrow('no');
    await service.stop();
    expect(calls).toEqual(['start', 'stop']);
  });
});

describe('abortable loop', () => {
  function looping(turn: (turns: number) => Promise<number | void>) {
    const clock = createManualClock();
    const failures: number[] = [];
    const state = { turns: 0 };
    const loop = createAbortableLoop({
      name: 'the loop',
      intervalMilliseconds: 1_000,
      clock,
      backoff: createBackoff({ firstMilliseconds: 100, random: () => 1 }),
      onError: (_error, { retryInMilliseconds }) => failures.push(retryInMilliseconds),
      turn: async () => {
        state.turns += 1;
        return turn(state.turns);
      },
    });
    return { clock, failures, state, loop };
  }

  test('takes a turn at once and then one per interval', async () => {
    const { clock, state, loop } = looping(() => Promise.resolve());
    await loop.start();
    await settle();
    expect(state.turns).toBe(1);
    await clock.advance(999);
    expect(state.turns).toBe(1);
    await clock.advance(1);
    expect(state.turns).toBe(2);
    await loop.stop();
  });

  test('waits as long as the turn asked for', async () => {
    const { clock, state, loop } = looping(() => Promise.resolve(10));
    await loop.start();
    await clock.advance(10);
    expect(state.turns).toBe(2);
    await loop.stop();
  });

  test('many wakes during a turn make one more turn', async () => {
    const gate = createGate();
    const { state, loop } = looping((turns) => (turns === 1 ? gate.promise : Promise.resolve()));
    await loop.start();
    for (let wake = 0; wake < 5; wake += 1) loop.wake();
    gate.open();
    await settle();
    expect(state.turns).toBe(2);
    await loop.stop();
  });

  test('a wake ends the wait', async () => {
    const { clock, state, loop } = looping(() => Promise.resolve());
    await loop.start();
    await settle();
    expect(state.turns).toBe(1);
    loop.wake();
    await settle();
    expect(state.turns).toBe(2);
    expect(clock.waiting).toEqual([1_000]);
    await loop.stop();
  });

  test('failures are reported and followed by growing pauses that wakes do not shorten', async () => {
    const { clock, failures, state, loop } = looping((turns) =>
      turns <= 3 ? Promise.reject(new Error('no')) : Promise.resolve(),
    );
    await loop.start();
    await settle();
    loop.wake();
    await settle();
    expect(state.turns).toBe(1);
    await clock.advance(100 + 200 + 400);
    expect(failures).toEqual([100, 200, 400]);
    expect(state.turns).toBe(4);
    await loop.stop();
  });

  test('a stop waits for the turn, whose signal is aborted, and leaves no timer', async () => {
    const gate = createGate();
    const signals: AbortSignal[] = [];
    const clock = createManualClock();
    const loop = createAbortableLoop({
      name: 'the loop',
      intervalMilliseconds: 1_000,
      clock,
      onError: () => undefined,
      turn: async (signal) => {
        signals.push(signal);
        await gate.promise;
      },
    });
    await loop.start();
    let isStopped = false;
    const stopping = loop.stop().then(() => (isStopped = true));
    await settle();
    expect(signals[0]?.aborted).toBe(true);
    expect(isStopped).toBe(false);
    gate.open();
    await stopping;
    expect(signals).toHaveLength(1);
    expect(clock.waiting).toEqual([]);
  });

  test('a stop ends the wait, twice is harmless, and so is a stop without a start', async () => {
    const { clock, loop } = looping(() => Promise.resolve());
    await loop.start();
    await settle();
    await Promise.all([loop.stop(), loop.stop()]);
    expect(clock.waiting).toEqual([]);
    await looping(() => Promise.resolve()).loop.stop();
  });
});

describe('ahead', () => {
  /** Numbers from 0, up to the one that fails or the end; what was asked for is noted. */
  async function* count(asked: number[], end: number, fails = Infinity) {
    for (let number = 0; number < end; number += 1) {
      asked.push(number);
      await Promise.resolve();
      if (number === fails) throw new Error(`no ${number}`);
      yield number;
    }
  }

  test('asks for the next item before it hands one out, and hands out all in order', async () => {
    const asked: number[] = [];
    const got: number[] = [];
    for await (const number of ahead(count(asked, 3))) {
      got.push(number);
      expect(asked).toContain(Math.min(number + 1, 2));
    }
    expect(got).toEqual([0, 1, 2]);
  });

  test('hands out what came before a failure, and then the failure', async () => {
    const got: number[] = [];
    const all = async (): Promise<void> => {
      for await (const number of ahead(count([], 3, 2))) got.push(number);
    };
    await expect(all()).rejects.toThrow('no 2');
    expect(got).toEqual([0, 1]);
  });

  test('asks for no more once it is broken off, and does not wait for what is under way', async () => {
    const asked: number[] = [];
    const never = createGate();
    const items = (async function* () {
      yield* count(asked, 1);
      await never.promise;
      yield* count(asked, 9);
    })();
    const some = ahead(items);
    expect(await some.next()).toEqual({ done: false, value: 0 });
    await some.return(undefined);
    never.open();
    await settle();
    expect(asked).toEqual([0, 0]);
  });

  test('a failure that nobody waits for any more is none', async () => {
    const some = ahead(count([], 2, 1));
    expect(await some.next()).toEqual({ done: false, value: 0 });
    await some.return(undefined);
    await settle();
  });
});

describe('stop signals', () => {
  function watched() {
    const source = new EventEmitter();
    const exits: number[] = [];
    const heard: string[] = [];
    const stop = watchStopSignals({
      source,
      exit: (code) => exits.push(code),
      onFirst: (name) => heard.push(`first ${name}`),
      onSecond: (name) => heard.push(`second ${name}`),
    });
    return { source, exits, heard, stop };
  }

  test('the first aborts, the second ends at once, whichever of both they are', () => {
    const { source, exits, heard, stop } = watched();
    source.emit('SIGTERM');
    expect(stop.signal.aborted).toBe(true);
    expect(stop.signal.reason).toBe('SIGTERM');
    expect(exits).toEqual([]);
    source.emit('SIGINT');
    expect(exits).toEqual([130]);
    expect(heard).toEqual(['first SIGTERM', 'second SIGINT']);
  });

  test('disposed of, it leaves no listener', () => {
    const { source, stop } = watched();
    stop.dispose();
    expect(source.eventNames()).toEqual([]);
  });
});
