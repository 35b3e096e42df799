import { describe, expect, test } from 'vitest';
import { createDraws } from '../rigs/chaos/draws.ts';
import { type Bound, growthByThirds, judge } from '../rigs/long/flatness.ts';

const LOOKS = 240;
const bound: Bound = { share: 0.1, atLeast: 3 };
const draws = createDraws(1, 0);

function verdict(at: (look: number) => number | undefined, looks = LOOKS) {
  return judge({
    name: 'what is looked at',
    unit: '',
    samples: Array.from({ length: looks }, (_, look) => at(look)),
    bound,
  });
}

describe('what stays flat', () => {
  test.each<readonly [string, (look: number) => number | undefined]>([
    ['one number', () => 20],
    ['nothing', () => 0],
    ['a warm-up and then no more', (look) => (look < 70 ? look : 70)],
    ['noise', () => 20 + draws.integer(-15, 15)],
    ['a saw', (look) => 20 + (look % 8)],
    ['a fall', (look) => 500 - look],
    ['peaks', (look) => (look % 3 === 0 ? 1_000 : 20)],
    ['one step within the bound', (look) => (look < 180 ? 20 : 23)],
    ['gaps', (look) => (look % 4 === 0 ? undefined : 20)],
  ])('%s', (_, at) => {
    expect(verdict(at)).toMatchObject({ isFlat: true });
  });
});

describe('what does not', () => {
  test.each<readonly [string, (look: number) => number | undefined]>([
    ['a slope', (look) => 20 + look],
    ['a slope of one in ten looks', (look) => 20 + look / 10],
    ['a slope in noise', (look) => 20 + look / 10 + draws.integer(-10, 10)],
    ['a slope in a saw', (look) => 20 + look / 10 + (look % 8)],
    ['steps', (look) => 20 + 5 * Math.floor(look / 60)],
    ['a step past the bound', (look) => (look < 190 ? 20 : 24)],
    ['growth from nothing', (look) => look / 10],
    ['what was never seen', () => undefined],
    ['what was no longer seen', (look) => (look < 160 ? 20 : undefined)],
  ])('%s', (_, at) => {
    expect(verdict(at)).toMatchObject({ isFlat: false });
  });

  test('too few looks', () => {
    expect(verdict(() => 20, 14)).toMatchObject({ isFlat: false });
    expect(verdict(() => 20, 15)).toMatchObject({ isFlat: true });
  });
});

describe('what faults bring down again', () => {
  // Leaks one at a time, and starts again every 20 looks.
  const saw = (look: number): number => 3 + (look % 20);
  const under = (ceiling: number, at: (look: number) => number) =>
    judge({
      name: 'sessions',
      unit: '',
      samples: Array.from({ length: LOOKS }, (_, look) => at(look)),
      bound: { ...bound, ceiling },
    });

  test('is a saw, which no median sees and a ceiling does', () => {
    expect(verdict(saw)).toMatchObject({ isFlat: true });
    expect(under(9, saw)).toMatchObject({ isFlat: false, limit: 15.5, high: 18 });
  });

  test('is flat where only a few looks are above the ceiling, or the warm-up is', () => {
    expect(under(9, (look) => (look % 5 === 0 ? 30 : 6))).toMatchObject({ isFlat: true, high: 6 });
    expect(under(9, (look) => (look < 80 ? 30 : 6))).toMatchObject({ isFlat: true });
    expect(under(9, () => 9)).toMatchObject({ isFlat: true, high: 9 });
  });

  test('is not where one third is above it for a quarter of its time', () => {
    const inThird = (from: number) => (look: number) =>
      look >= from && look < from + 80 && look % 4 === 0 ? 30 : 6;
    expect(under(9, inThird(80))).toMatchObject({ isFlat: false, high: 30 });
    expect(under(9, inThird(160))).toMatchObject({ isFlat: false, high: 30 });
  });
});

test('the bound is the greater of share and least, on top of the middle', () => {
  expect(verdict(() => 10)).toMatchObject({ start: 10, middle: 10, end: 10, limit: 13 });
  expect(verdict(() => 100)).toMatchObject({ limit: 110 });
  expect(verdict((look) => look, 30)).toMatchObject({ start: 4.5, middle: 14.5, end: 24.5 });
});

describe('how much a count grew in each third', () => {
  test.each<readonly [string, readonly (number | undefined)[], readonly number[]]>([
    ['at an even pace', [1, 2, 3, 4, 5, 6], [2, 2, 2]],
    ['not at all', [0, 0, 0, 0, 0, 0], [0, 0, 0]],
    ['and then no more', [3, 5, 5, 5, 5, 5], [5, 0, 0]],
    ['all between two thirds', [0, 0, 9, 9, 9, 9], [0, 9, 0]],
    ['behind gaps', [1, undefined, undefined, 4, 7, undefined], [1, 3, 3]],
    ['where a third was never seen', [1, 2, undefined, undefined, 8, 9], [2, 0, 7]],
    ['with a remainder, which is the middle’s', [1, 2, 3, 4, 5, 6, 7, 8], [2, 4, 2]],
    ['where nothing was looked at', [], [0, 0, 0]],
  ])('%s', (_, counts, growth) => {
    expect(growthByThirds(counts)).toEqual(growth);
  });
});
