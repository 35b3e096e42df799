import type { Scenario } from './bench.ts';
import { beside } from './scenarios/beside.ts';
import { bloat } from './scenarios/bloat.ts';
import { ceiling } from './scenarios/ceiling.ts';
import { ceph } from './scenarios/ceph.ts';
import { cost } from './scenarios/cost.ts';
import { drain } from './scenarios/drain.ts';
import { flagGrowth } from './scenarios/flag-growth.ts';
import { flagThroughput } from './scenarios/flag-throughput.ts';
import { footprint } from './scenarios/footprint.ts';
import { idle } from './scenarios/idle.ts';
import { listeners } from './scenarios/listeners.ts';
import { looks } from './scenarios/looks.ts';
import { memory } from './scenarios/memory.ts';
import { react } from './scenarios/react.ts';
import { reconcile } from './scenarios/reconcile.ts';
import { start } from './scenarios/start.ts';
import { verify } from './scenarios/verify.ts';
import { watch } from './scenarios/watch.ts';
import { year } from './scenarios/year.ts';

/** In the order in which they run. */
export const SCENARIOS: readonly Scenario[] = [
  start,
  cost,
  drain,
  reconcile,
  listeners,
  ceiling,
  ceph,
  react,
  flagGrowth,
  flagThroughput,
  looks,
  memory,
  verify,
  beside,
  bloat,
  idle,
  watch,
  footprint,
  year,
];
