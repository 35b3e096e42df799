import type { Scenario } from './bench.ts';
import { drain } from './scenarios/drain.ts';
import { flagGrowth } from './scenarios/flag-growth.ts';
import { flagThroughput } from './scenarios/flag-throughput.ts';
import { verify } from './scenarios/verify.ts';

/** In the order in which they run. */
export const SCENARIOS: readonly Scenario[] = [drain, flagThroughput, flagGrowth, verify];
