import type { Queryable } from '../database/queryable.ts';
import { sayFailure } from '../failure-words.ts';
import { showCount } from '../numbers.ts';
import type { Listed } from './drift.ts';

/** What the standing verify wants done now. */
export type StandingStep =
  | (StandingWork & { readonly step: 'list'; readonly afterKey: string | undefined })
  | (StandingWork & {
      readonly step: 'look';
      readonly stretchId: number;
      /** Where in the listing the keys come. Undefined: at its beginning. */
      readonly afterKey: string | undefined;
      readonly keys: readonly string[];
    })
  | (StandingWork & { readonly step: 'end' })
  /** Nothing, for so many seconds. */
  | { readonly step: 'wait'; readonly seconds: number };

/** A verify of a bucket, and who is at it. */
export interface StandingWork {
  readonly bucket: string;
  readonly verifyId: string;
  readonly holder: string;
}

/** What a verify of a bucket has found. */
export interface Drift {
  /** Live rows whose object is gone. */
  readonly gone: number;
  /** Cleared rows whose object is there. */
  readonly returned: number;
  readonly orphans: number;
}

/** How the standing verify of a bucket is; keys as in JSON. */
export interface StandingVerify extends Drift {
  readonly bucket: string;
  readonly every_seconds: number;
  /** Since one last came to its end, or since listeners first asked. */
  readonly age_seconds: number;
  readonly finished_at: string | null;
  /** Objects, by the last one that came to its end. */
  readonly listed: number;
  readonly orphan_bytes: number;
  readonly is_running: boolean;
  /** Objects, by the one that is running. */
  readonly listed_now: number;
  /** The store does not let it list, so there is none. */
  readonly is_off: boolean;
  readonly code: string | null;
  readonly problem: string | null;
}

/** How a person sees what the drift of a bucket is, and repairs it. */
export function repairOf(bucket: string): string {
  return `retention reconcile --verify --bucket ${bucket}`;
}

/** What a person should know of a bucket's drift, in a sentence; undefined: nothing. */
export function describeDrift(verify: StandingVerify): string | undefined {
  const { bucket, gone, returned, code, problem } = verify;
  if (gone + returned > 0) {
    return (
      `Drift in bucket ${bucket}: ${showCount(gone, 'live result')} without an object, ` +
      `${showCount(returned, 'cleared result')} with one. See: ${repairOf(bucket)} --dry-run`
    );
  }
  return code === null
    ? undefined
    : `Bucket ${bucket} cannot be verified: ${sayFailure(code, problem)}; see: retention doctor`;
}

/**
 * `retention.next_standing_step`
 *
 * @throws DatabaseError
 */
export async function nextStandingStep(
  database: Queryable,
  buckets: readonly string[],
  everyDays: number,
): Promise<StandingStep> {
  const [row] = await database.query<{
    step: 'list' | 'look' | 'end' | null;
    bucket: string;
    verify_id: string;
    holder: string;
    after_key: string | null;
    stretch_id: number;
    keys: readonly string[] | null;
    seconds: number;
  }>('select * from retention.next_standing_step($1::text[], make_interval(days => $2))', [
    buckets,
    everyDays,
  ]);
  if (row === undefined) throw new Error('the database did not say what is next');
  const { step, bucket, verify_id: verifyId, holder, stretch_id: stretchId, keys, seconds } = row;
  const afterKey = row.after_key ?? undefined;
  const work = { bucket, verifyId, holder };
  if (step === 'list') return { step, ...work, afterKey };
  if (step === 'look') return { step, ...work, afterKey, stretchId, keys: keys ?? [] };
  return step === 'end' ? { step, ...work } : { step: 'wait', seconds };
}

/**
 * `retention.note_standing_page`. False: another listener has taken over.
 *
 * @param until the last key of the page. Undefined: there is no more.
 * @throws DatabaseError
 */
export async function noteStandingPage(
  database: Queryable,
  { verifyId, holder }: StandingWork,
  until: string | undefined,
  objects: readonly Listed[],
): Promise<boolean> {
  const [row] = await database.query<{ ours: boolean }>(
    `select retention.note_standing_page($1, $2, $3, $4::text[], $5::bigint[], $6::timestamptz[], $7::text[]) as ours`,
    [
      verifyId,
      holder,
      until ?? null,
      objects.map(({ key }) => key),
      objects.map(({ size }) => size),
      objects.map(({ lastModified }) => lastModified),
      objects.map(({ etag }) => etag ?? null),
    ],
  );
  return row?.ours === true;
}

/**
 * `retention.note_standing_look`. False: another listener has taken over.
 *
 * @throws DatabaseError
 */
export async function noteStandingLook(
  database: Queryable,
  { verifyId, holder }: StandingWork,
  stretchId: number,
  gone: readonly string[],
): Promise<boolean> {
  const [row] = await database.query<{ ours: boolean }>(
    'select retention.note_standing_look($1, $2, $3, $4::text[]) as ours',
    [verifyId, holder, stretchId, gone],
  );
  return row?.ours === true;
}

/**
 * `retention.end_standing`. Undefined: another listener has taken over.
 *
 * @throws DatabaseError
 */
export async function endStanding(
  database: Queryable,
  { verifyId, holder }: StandingWork,
): Promise<Drift | undefined> {
  const [row] = await database.query<Drift>(
    'select gone, returned, orphans from retention.end_standing($1, $2)',
    [verifyId, holder],
  );
  return row;
}

/**
 * `retention.note_standing_problem`
 *
 * @throws DatabaseError
 */
export async function noteStandingProblem(
  database: Queryable,
  { verifyId, holder }: StandingWork,
  { code, reason }: { readonly code: string; readonly reason: string },
): Promise<void> {
  await database.query('select retention.note_standing_problem($1, $2, $3, $4)', [
    verifyId,
    holder,
    code,
    reason,
  ]);
}

/**
 * `retention.standing_state`
 *
 * @throws DatabaseError
 */
export async function readStandingVerifies(
  database: Queryable,
): Promise<readonly StandingVerify[]> {
  const [row] = await database.query<{ verifies: readonly StandingVerify[] | null }>(
    'select retention.standing_state() as verifies',
  );
  return row?.verifies ?? [];
}
