import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Random choices that a seed makes again. */
export interface Draws {
  /** Both ends included. */
  readonly integer: (min: number, max: number) => number;
  /** True so many times in a hundred. */
  readonly percent: (share: number) => boolean;
  readonly pick: <T>(items: readonly T[]) => T;
  /** By weight, which is a whole number. */
  readonly weighted: <T>(items: readonly (readonly [weight: number, item: T])[]) => T;
}

const SPREAD = 0x9e37_79b9;

/**
 * One stream of choices.
 *
 * @param seed of the whole campaign.
 * @param part each part of a campaign draws from its own stream, so that the pace of one does not
 *   change the choices of another.
 */
export function createDraws(seed: number, part: number): Draws {
  const generator = xoroshiro128plus(
    Math.imul(seed + 1, SPREAD) ^ Math.imul(part + 1, 0x85eb_ca6b),
  );
  const integer = (min: number, max: number): number => uniformInt(generator, min, max);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[integer(0, items.length - 1)];
    if (item === undefined) throw new Error('There is nothing to pick from.');
    return item;
  };
  return {
    integer,
    percent: (share) => integer(1, 100) <= share,
    pick,
    weighted: (items) => {
      let left = integer(
        1,
        items.reduce((sum, [weight]) => sum + weight, 0),
      );
      for (const [weight, item] of items) {
        left -= weight;
        if (left <= 0) return item;
      }
      throw new Error('There is nothing to pick from.');
    },
  };
}
