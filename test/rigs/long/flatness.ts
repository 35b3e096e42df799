/** How much higher the last third of a run may be than the one before. */
export interface Bound {
  /** Of the middle. */
  readonly share: number;
  /** Allowed whatever the middle is; in the figure's unit. */
  readonly atLeast: number;
  /**
   * What no third may be above for a quarter of its time: for what faults bring down again, and what
   * is therefore a saw when it leaks. Default: no ceiling.
   */
  readonly ceiling?: number;
}

/** Something that was looked at again and again. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** In the order of time; undefined where a look found nothing, as with the server down. */
  readonly samples: readonly (number | undefined)[];
  readonly bound: Bound;
}

/** What became of a figure: the medians of the run's three thirds. */
export interface Verdict {
  readonly name: string;
  readonly unit: string;
  readonly start: number;
  readonly middle: number;
  readonly end: number;
  /** What the end may be. */
  readonly limit: number;
  /** What a quarter of the middle's looks, or of the end's, found or more. */
  readonly high: number;
  readonly isFlat: boolean;
}

/** Of fewer looks in a third a median says nothing. */
const FEWEST_LOOKS = 5;

/**
 * Judges whether a figure stays where it is. The first third is warm-up, in which pools fill, code is
 * compiled and tables find their size. A median does not mind peaks, however high, that last for less
 * than half of a third. It falls with what was freed, so what grows and never shrinks, by however
 * little, is higher in the last third by a third of all that it grew.
 */
export function judge({ name, unit, samples, bound }: Figure): Verdict {
  const thirds = thirdsOf(samples);
  const [start = Number.NaN, middle = Number.NaN, end = Number.NaN] = thirds.map(medianOf);
  const limit = middle + Math.max(bound.atLeast, bound.share * middle);
  const high = Math.max(...thirds.slice(1).map(upperQuartileOf));
  const isKnown = thirds.slice(1).every((part) => part.length >= FEWEST_LOOKS);
  const isFlat = isKnown && end <= limit && high <= (bound.ceiling ?? Infinity);
  return { name, unit, start, middle, end, limit, high, isFlat };
}

/** By how much a count that never falls grew in each third of a run, from the end of the one before. */
export function growthByThirds(counts: readonly (number | undefined)[]): readonly number[] {
  let reached = 0;
  return thirdsOf(counts).map((part) => {
    const before = reached;
    reached = part.at(-1) ?? before;
    return reached - before;
  });
}

/** Without the looks that found nothing. */
function thirdsOf(samples: readonly (number | undefined)[]): readonly (readonly number[])[] {
  const third = Math.floor(samples.length / 3);
  return [
    samples.slice(0, third),
    samples.slice(third, samples.length - third),
    samples.slice(samples.length - third),
  ].map((part) => part.filter((sample) => sample !== undefined));
}

function medianOf(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other);
  const half = sorted.length / 2;
  const [low = Number.NaN, high = Number.NaN] = [
    sorted[Math.ceil(half) - 1],
    sorted[Math.floor(half)],
  ];
  return (low + high) / 2;
}

function upperQuartileOf(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other);
  return sorted[Math.floor((sorted.length * 3) / 4)] ?? Number.NaN;
}

/** To three digits, as people read figures. */
export function round(value: number): string {
  return String(Number(value.toFixed(Math.abs(value) < 100 ? 1 : 0)));
}
