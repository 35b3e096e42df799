import { type Config, firstBucket } from '../config/config.ts';
import { sayFailure } from '../failure-words.ts';
import type { Logger } from '../logger.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { fenceKey } from '../objects/own-keys.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import type { FenceLoss, FenceState } from '../store/fence.ts';
import type { Store } from '../store/store.ts';
import { openFence } from './open-fence.ts';

/** Whether this database is the one that deletes, and what it may lack; keys as in JSON. */
export interface FenceReport extends FenceState {
  /** What the fence in S3 says; null: none is in use, or there is none. */
  readonly outside: FenceOutside | null;
  /** What the fence in S3 knows and this database does not, at least; empty where this is no copy. */
  readonly missing: readonly FenceLoss[];
  /** Whether it was accepted just now. */
  readonly accepted: boolean;
}

/** The object in S3, which anybody who may write to the bucket may have written. */
export interface FenceOutside {
  readonly bucket: string;
  readonly key: string;
  /** Why it could not be read; null: it could. */
  readonly problem: string | null;
  readonly renewed_at: string | null;
  readonly renewed_by: string | null;
  readonly database: string | null;
}

/** What a report works with. */
export interface FenceReportOptions {
  readonly config: Config;
  readonly store: Store;
  readonly objects: ObjectStore;
  readonly logger: Logger;
  /** Accept this database, and why. Default: only look. */
  readonly accept?: { readonly reason?: string | undefined } | undefined;
}

/**
 * Reads how the fence stands, and what this database may lack; accepts it where that is asked for.
 *
 * @throws DatabaseError
 */
export async function reportFence(options: FenceReportOptions): Promise<FenceReport> {
  const { store, accept } = options;
  const state = await store.readFence();
  const { outside, content } = await readOutside(options, state);
  const missing = state.is_copy ? await store.fenceLosses(content) : [];
  if (accept === undefined) return { ...state, outside, missing, accepted: false };
  const accepted = await store.acceptFence(accept.reason);
  // Taken at once, so that the other database halts at its next look.
  if (accepted && (state.fence_in_use || options.config.fence === 's3'))
    await openFence(options).look();
  return { ...(await store.readFence()), outside, missing, accepted };
}

async function readOutside(
  { config, objects }: FenceReportOptions,
  state: FenceState,
): Promise<{ readonly outside: FenceOutside | null; readonly content: unknown }> {
  const bucket = firstBucket(config) ?? state.bucket;
  const isUsed = state.fence_in_use || config.fence === 's3';
  const { conditional } = objects;
  if (!isUsed || bucket === null || conditional === undefined || state.fence === null) {
    return { outside: null, content: undefined };
  }
  const key = fenceKey(state.fence);
  const nothing = { renewed_at: null, renewed_by: null, database: null };
  try {
    const found = await conditional.readObject(bucket, key);
    if (found === undefined) return { outside: null, content: undefined };
    const content = JSON.parse(found.body) as Record<string, unknown>;
    const text = (name: string): string | null => {
      const value = content[name];
      return typeof value === 'string' ? value : null;
    };
    const outside = {
      bucket,
      key,
      problem: null,
      renewed_at: text('renewed_at'),
      renewed_by: text('renewed_by'),
      database: text('database'),
    };
    return { outside, content };
  } catch (error) {
    if (!(error instanceof ObjectStoreError) && !(error instanceof SyntaxError)) throw error;
    const problem =
      error instanceof ObjectStoreError ? sayFailure(error.code, error.reason) : 'it is no JSON';
    return { outside: { bucket, key, problem, ...nothing }, content: undefined };
  }
}
