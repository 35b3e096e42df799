import type { Queryable } from '../database/queryable.ts';
import { flagExpired, pulse, scansAfter, tick } from './flagging.ts';
import { claim, giveBack, postpone, settle, split } from './leases.ts';
import { dueGroups, dueRuns, flagSelected } from './selection.ts';
import { configure } from './settings.ts';
import { readLosses, readStatus } from './status.ts';

const functions = {
  claim,
  settle,
  postpone,
  split,
  giveBack,
  tick,
  flagExpired,
  pulse,
  scansAfter,
  configure,
  dueGroups,
  dueRuns,
  flagSelected,
  readStatus,
  readLosses,
} as const;

type Bound<Function_> = Function_ extends (database: Queryable, ...rest: infer Rest) => infer Result
  ? (...rest: Rest) => Result
  : never;

/** The SQL functions of the schema, bound to a database. */
export type Store = {
  readonly [Name in keyof typeof functions]: Bound<(typeof functions)[Name]>;
};

/** Binds the functions of this room to a database. */
export function createStore(database: Queryable): Store {
  return {
    claim: (...rest) => claim(database, ...rest),
    settle: (...rest) => settle(database, ...rest),
    postpone: (...rest) => postpone(database, ...rest),
    split: (...rest) => split(database, ...rest),
    giveBack: (...rest) => giveBack(database, ...rest),
    tick: (...rest) => tick(database, ...rest),
    flagExpired: (...rest) => flagExpired(database, ...rest),
    pulse: () => pulse(database),
    scansAfter: (...rest) => scansAfter(database, ...rest),
    configure: (...rest) => configure(database, ...rest),
    dueGroups: (...rest) => dueGroups(database, ...rest),
    dueRuns: (...rest) => dueRuns(database, ...rest),
    flagSelected: (...rest) => flagSelected(database, ...rest),
    readStatus: () => readStatus(database),
    readLosses: () => readLosses(database),
  };
}
