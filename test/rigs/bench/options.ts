import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PROJECT } from '../../stack/project.ts';

/** What was asked for on the command line. */
export interface BenchOptions {
  /** Names of scenarios. Default: all. */
  readonly only: readonly string[] | undefined;
  /** Interleaved runs of each figure. */
  readonly runs: number;
  /** Rows are multiplied by this. */
  readonly scale: number;
  /** Where the JSON goes. */
  readonly out: string;
  /** Also say where the time of a drain goes. */
  readonly profile: boolean;
  /** Write the table and the curve of the benchmark page again. */
  readonly plot: boolean;
}

const DEFAULT_RUNS = 5;

/** @throws when something is not understood. */
export function readOptions(parameters: readonly string[], known: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...parameters],
    options: {
      only: { type: 'string' },
      runs: { type: 'string', default: String(DEFAULT_RUNS) },
      scale: { type: 'string', default: '1' },
      out: { type: 'string', default: join(PROJECT, '.scratch/bench/figures.json') },
      profile: { type: 'boolean', default: false },
      plot: { type: 'boolean', default: false },
    },
  });
  const only = values.only?.split(',');
  const unknown = (only ?? []).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new Error(`--only: there is no ${unknown.join(', ')}; there are ${known.join(', ')}`);
  }
  const runs = Number(values.runs);
  const scale = Number(values.scale);
  if (!Number.isInteger(runs) || runs < 1) throw new Error('--runs: a whole number from 1');
  if (!(scale > 0 && scale <= 1)) throw new Error('--scale: above 0 and up to 1');
  const { out, profile, plot } = values;
  return { only, runs, scale, out, profile, plot };
}
