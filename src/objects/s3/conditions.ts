import type { KeyFailure } from '../store-failure.ts';
import { ObjectStoreError } from '../store-failure.ts';
import type { S3Connection } from './connection.ts';
import type { DeletionCall } from './delete-requests.ts';
import type { KeyOutcomes } from './deletion.ts';
import { conditionRefused, lacksOperation, withCondition } from './failures.ts';
import { inParallel } from './in-parallel.ts';
import { readObjectState } from './object-state.ts';

/*
Deleting the version of a key that an etag names, and no other. Amazon S3: "How to perform conditional deletes"
(docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html). Another version is answered with
PreconditionFailed, a missing object with NoSuchKey.
*/

const LOOKS_IN_FLIGHT = 16;

/** Whether any of the keys names its version. */
export function isConditional(keys: readonly string[], { etags }: DeletionCall): boolean {
  return etags !== undefined && etags.size > 0 && keys.some((key) => etags.has(key));
}

/** @throws where the store is known to delete nothing by an etag. */
export function refuseUnlessPossible(
  bucket: string,
  keys: readonly string[],
  call: DeletionCall,
): void {
  if (call.habits.known.conditional !== 'refused' || !isConditional(keys, call)) return;
  throw conditionRefused(bucket, 'as it was found to do before');
}

/** What a call that failed as a whole says of conditions: a store that has no such thing refuses them. */
export function learnRefusal(
  bucket: string,
  keys: readonly string[],
  call: DeletionCall,
  error: ObjectStoreError,
): ObjectStoreError {
  if (!isConditional(keys, call) || !lacksOperation(error)) return error;
  call.habits.learn('conditional', 'refused', `an etag is answered with ${error.code}`);
  return conditionRefused(bucket, `${error.code}: ${error.reason}`);
}

/** The same of single keys. @throws where that is all that came of the call. */
export function learnRefusals(
  bucket: string,
  { deleted, failures }: KeyOutcomes,
  call: DeletionCall,
): readonly KeyFailure[] {
  let refusal: ObjectStoreError | undefined;
  let refused = 0;
  const told = failures.map((failure) => {
    const isRefused =
      call.etags?.has(failure.key) === true &&
      lacksOperation({ ...failure, httpStatus: undefined });
    if (!isRefused) return withCondition(failure, call.etags);
    call.habits.learn('conditional', 'refused', `an etag is answered with ${failure.code}`);
    refusal = conditionRefused(bucket, failure.code);
    refused += 1;
    const { code, reason, outcome, concerns } = refusal;
    return { ...failure, code, reason, outcome, concerns };
  });
  if (refusal !== undefined && deleted.length === 0 && refused === failures.length) throw refusal;
  return told;
}

/**
 * Which of the keys that are said to have changed are gone. A delete marker is no version, so that in a bucket with
 * versions a key that is gone already may be answered like one that was written again. One look tells whether the
 * bucket has any; without versions, the others are what S3 says.
 */
export async function findGone(
  connection: S3Connection,
  bucket: string,
  failures: readonly KeyFailure[],
  { signal }: DeletionCall,
): Promise<ReadonlySet<string>> {
  const gone = new Set<string>();
  const [first, ...others] = failures.filter(({ outcome }) => outcome === 'changed');
  if (first === undefined) return gone;
  const look = async (key: string): Promise<boolean> => {
    try {
      const state = await readObjectState(connection, bucket, key, signal);
      if (state.state === 'gone') gone.add(key);
      return state.state === 'gone' || (state.state === 'exists' && state.versionId !== undefined);
    } catch (error) {
      // What could not be looked at stays spared.
      if (error instanceof ObjectStoreError) return false;
      throw error;
    }
  };
  if (await look(first.key))
    await inParallel(LOOKS_IN_FLIGHT, others, async ({ key }) => void (await look(key)));
  return gone;
}
