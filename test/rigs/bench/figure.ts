/** What a figure is held against. */
export interface Target {
  readonly is: 'at least' | 'at most';
  readonly value: number;
}

/** One figure of the table: as many samples as there were runs. */
export interface Figure {
  /** Short, for `--only` and for programs. */
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** `×` for a ratio, else a unit. */
  readonly unit: string;
  readonly samples: readonly number[];
  /** Default: none, the figure explains another. */
  readonly target?: Target;
  /** What went into it, such as rates. */
  readonly detail?: string;
}

/** A figure with what became of its samples. */
export interface Summary extends Figure {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Undefined: there is no target. */
  readonly isMet: boolean | undefined;
}

/** The middle, the spread and the verdict. */
export function summarise(figure: Figure): Summary {
  const { samples, target } = figure;
  const middle = median(samples);
  return {
    ...figure,
    median: middle,
    min: Math.min(...samples),
    max: Math.max(...samples),
    isMet: target && (target.is === 'at least' ? middle >= target.value : middle <= target.value),
  };
}

/** The middle one, or the mean of the two in the middle. */
export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** By linear interpolation between the two nearest samples. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((left, right) => left - right);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)];
  const above = sorted[Math.ceil(place)];
  if (below === undefined || above === undefined) throw new Error('there are no samples');
  return below + (above - below) * (place - Math.floor(place));
}

/** Sample by sample, so that what slowed both down at once drops out. */
export function ratios(above: readonly number[], below: readonly number[]): number[] {
  return above.map((value, index) => value / (below[index] ?? Number.NaN));
}
