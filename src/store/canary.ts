import type { Queryable } from '../database/queryable.ts';
import { PRODUCT_VERSION } from './version.ts';

/** What a bucket's canary wants done now. */
export interface CanaryStep {
  /** `put`: write the object; `look`: see whether it is gone. */
  readonly step: 'put' | 'look';
  readonly key: string;
}

/** What became of a step. */
export type CanaryOutcome =
  | { readonly what: 'put' | 'gone' | 'there' }
  | { readonly what: 'failed'; readonly code: string; readonly problem: string };

/** How the canary of a bucket is; keys as in JSON. */
export interface Canary {
  readonly bucket: string;
  readonly every_seconds: number;
  /** Since one last went the whole way, or since listeners first asked. */
  readonly age_seconds: number;
  readonly confirmed_at: string | null;
  /** The store refused to write it, so there is none. */
  readonly is_off: boolean;
  readonly code: string | null;
  readonly problem: string | null;
}

/** How many of its intervals a canary may be old before a person should look. */
const INTERVALS_TO_WAIT = 3;

/** Whether a canary is so old that deletions may not work; one that is off says nothing. */
export function isCanaryOld({
  is_off: isOff,
  age_seconds: age,
  every_seconds: every,
}: Canary): boolean {
  return !isOff && age > every * INTERVALS_TO_WAIT;
}

/**
 * `retention.begin_canary`
 *
 * @throws DatabaseError
 */
export async function beginCanary(
  database: Queryable,
  bucket: string,
  everySeconds: number,
): Promise<CanaryStep | undefined> {
  const [row] = await database.query<CanaryStep>(
    'select step, key from retention.begin_canary($1, make_interval(secs => $2), $3)',
    [bucket, everySeconds, PRODUCT_VERSION],
  );
  return row;
}

/**
 * `retention.note_canary`
 *
 * @throws DatabaseError
 */
export async function noteCanary(
  database: Queryable,
  bucket: string,
  key: string,
  outcome: CanaryOutcome,
): Promise<void> {
  const { code, problem } = outcome.what === 'failed' ? outcome : NO_PROBLEM;
  await database.query('select retention.note_canary($1, $2, $3, $4, $5)', [
    bucket,
    key,
    outcome.what,
    code,
    problem,
  ]);
}

/**
 * `retention.canary_state`
 *
 * @throws DatabaseError
 */
export async function readCanaries(database: Queryable): Promise<readonly Canary[]> {
  const [row] = await database.query<{ canaries: readonly Canary[] | null }>(
    'select retention.canary_state() as canaries',
  );
  return row?.canaries ?? [];
}

const NO_PROBLEM = { code: null, problem: null };
