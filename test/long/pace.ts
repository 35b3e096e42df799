/** How much happens. */
export interface Pace {
  readonly listeners: number;
  /** Five results each. */
  readonly stepsPerSecond: number;
  readonly faultPauseMs: { readonly min: number; readonly max: number };
  readonly reconcileEveryMs: { readonly min: number; readonly max: number };
  readonly sampleEveryMs: number;
  readonly autovacuumNaptime: string;
}

/** For an hour beside other work: autovacuum as Postgres has it by default. */
export const HOUR_PACE: Pace = {
  listeners: 3,
  stepsPerSecond: 3,
  faultPauseMs: { min: 2_000, max: 8_000 },
  reconcileEveryMs: { min: 30_000, max: 90_000 },
  sampleEveryMs: 15_000,
  autovacuumNaptime: '1min',
};

/** So that two minutes see some of everything. */
export const SHORT_PACE: Pace = {
  listeners: 2,
  stepsPerSecond: 3,
  faultPauseMs: { min: 1_000, max: 4_000 },
  reconcileEveryMs: { min: 15_000, max: 30_000 },
  sampleEveryMs: 2_000,
  autovacuumNaptime: '5s',
};
