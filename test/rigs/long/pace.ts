/** How much happens. */
export interface Pace {
  readonly listeners: number;
  /** Five results each. */
  readonly stepsPerSecond: number;
  readonly faultPauseMs: { readonly min: number; readonly max: number };
  /** Names of faults that are not done. */
  readonly without: readonly string[];
  readonly reconcileEveryMs: { readonly min: number; readonly max: number };
  readonly sampleEveryMs: number;
  readonly autovacuumNaptime: string;
}

/** For an hour beside other work: autovacuum as Postgres has it by default. */
export const HOUR_PACE: Pace = {
  listeners: 3,
  stepsPerSecond: 3,
  faultPauseMs: { min: 2_000, max: 8_000 },
  without: [],
  reconcileEveryMs: { min: 30_000, max: 90_000 },
  sampleEveryMs: 15_000,
  autovacuumNaptime: '1min',
};

/** So that two minutes see some of everything. */
export const SHORT_PACE: Pace = {
  listeners: 2,
  stepsPerSecond: 3,
  faultPauseMs: { min: 1_000, max: 4_000 },
  // A listener waits for an answer for as long as a statement may take, which is most of a third: in
  // that time it does nothing that could leak.
  without: ['connections dead', 'new connections dead'],
  reconcileEveryMs: { min: 15_000, max: 30_000 },
  sampleEveryMs: 2_000,
  autovacuumNaptime: '5s',
};
