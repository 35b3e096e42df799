import type { Scenario } from './bench.ts';
import { drain } from './scenarios/drain.ts';

/** In the order in which they run. */
export const SCENARIOS: readonly Scenario[] = [drain];
