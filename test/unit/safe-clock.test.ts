import { describe, expect, test } from 'vitest';
import { createSafeNow } from '../../src/lifecycle/clock.ts';

/** Two clocks that a test sets by hand. */
function makeClocks() {
  const clocks = { monotonic: 1_000, wall: 1_700_000_000_000 };
  const now = createSafeNow({ monotonic: () => clocks.monotonic, wall: () => clocks.wall });
  return {
    now,
    pass: (milliseconds: number) => {
      clocks.monotonic += milliseconds;
      clocks.wall += milliseconds;
      return now();
    },
    setWall: (milliseconds: number) => {
      clocks.wall += milliseconds;
      return now();
    },
  };
}

describe('the clock of deadlines', () => {
  test('goes by both clocks while they agree', () => {
    const { now, pass } = makeClocks();
    const startedAt = now();
    expect(pass(700) - startedAt).toBe(700);
  });

  test('goes on while the machine is suspended and only the wall clock does', () => {
    const { now, pass, setWall } = makeClocks();
    const startedAt = now();
    setWall(300_000);
    expect(pass(5) - startedAt).toBe(300_005);
  });

  test('counts each suspension once, however often it is asked', () => {
    const { now, pass, setWall } = makeClocks();
    const startedAt = now();
    setWall(60_000);
    for (let time = 0; time < 10; time += 1) now();
    setWall(60_000);
    expect(pass(1) - startedAt).toBe(120_001);
  });

  test('does not go back, and does not stand still, when the wall clock is set back', () => {
    const { now, pass, setWall } = makeClocks();
    const startedAt = now();
    expect(setWall(-3_600_000)).toBe(startedAt);
    expect(pass(50) - startedAt).toBe(50);
  });

  test('a suspension counts whole after the wall clock was set back', () => {
    const { now, pass, setWall } = makeClocks();
    const startedAt = now();
    setWall(-3_600_000);
    setWall(30_000);
    expect(pass(1) - startedAt).toBe(30_001);
  });

  test('milliseconds of rounding between the clocks do not add up', () => {
    let monotonic = 0;
    const now = createSafeNow({ monotonic: () => monotonic, wall: () => Math.floor(monotonic) });
    const startedAt = now();
    for (let step = 0; step < 100_000; step += 1) {
      monotonic += 0.2;
      now();
    }
    expect(now() - startedAt).toBeLessThan(20_200);
  });
});
