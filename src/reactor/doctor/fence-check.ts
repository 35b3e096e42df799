import { sayFailure } from '../../failure-words.ts';
import type { ConditionalWrites } from '../../objects/abilities.ts';
import { fenceKey } from '../../objects/own-keys.ts';
import { ObjectStoreError } from '../../objects/store-failure.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import type { FenceState } from '../../store/fence.ts';
import { type Check, failed, ok, warning } from './check.ts';

/** What the check of the fence needs. */
export interface FenceToCheck {
  /** `RETENTION_FENCE`; undefined: it is not set. */
  readonly mode: 's3' | 'none' | undefined;
  readonly bucket: string | undefined;
  readonly conditional: ConditionalWrites | undefined;
}

/** A fence that is not renewed for so long has no listener. */
const LONG_SECONDS = 300;

/** Whether a copy of this database would be told from it. That this is one, the gate says. */
export async function checkFence(
  reader: Diagnosis,
  fence: FenceToCheck,
): Promise<readonly Check[]> {
  const state = await reader.readFence();
  return [checkIdentity(state), await checkObject(state, fence)];
}

function checkIdentity(state: FenceState): Check {
  const name = 'identity';
  const { system_identifier: server, timeline, database } = state;
  const found = `server ${server ?? 'unknown'}, database ${database}, timeline ${timeline ?? 'unknown'}`;
  if (state.is_copy) {
    return failed(
      name,
      `${found}; accepted was server ${state.accepted_system_identifier ?? 'unknown'}, database ` +
        `${state.accepted_database ?? 'unknown'}, timeline ${state.accepted_timeline ?? 'unknown'}`,
      'What may be missing here: retention fence show',
    );
  }
  if (server !== null && timeline !== null) return ok(name, `${found}, as accepted`);
  return warning(
    name,
    `${found}: what the server does not tell cannot tell a copy`,
    'Set RETENTION_FENCE=s3.',
  );
}

async function checkObject(
  state: FenceState,
  { mode, bucket, conditional }: FenceToCheck,
): Promise<Check> {
  const name = 'fence';
  const { fence, renewed_at: at } = state;
  if (mode === 'none' && state.fence_in_use) {
    return warning(
      name,
      `RETENTION_FENCE is none here, and a fence was renewed at ${at?.toISOString() ?? ''} by ${state.renewed_by ?? ''}`,
      'Take the variable away, so that this process keeps to it too.',
    );
  }
  if (mode !== 's3' && !state.fence_in_use) {
    return ok(name, 'none in S3: a snapshot of the disk is not told from this database');
  }
  if (bucket === undefined || fence === null || conditional === undefined) {
    return failed(
      name,
      'it is in use, and S3_RESULT_BUCKET names no bucket for it',
      'Set S3_RESULT_BUCKET.',
    );
  }
  try {
    const found = await conditional.readObject(bucket, fenceKey(fence));
    if (found === undefined && at !== null) {
      return failed(
        name,
        `its object is not in bucket ${bucket}`,
        'retention fence accept writes it again.',
      );
    }
  } catch (error) {
    if (!(error instanceof ObjectStoreError)) throw error;
    return failed(
      name,
      `its object in bucket ${bucket} cannot be read, so nothing is claimed: ${sayFailure(error.code, error.reason)}`,
      `Allow s3:GetObject and s3:PutObject on ${fenceKey(fence)} and s3:ListBucket, or set RETENTION_FENCE=none.`,
    );
  }
  if (at === null) return ok(name, `in bucket ${bucket}, to be written by the first listener`);
  const seconds = (Date.now() - at.getTime()) / 1_000;
  const said = `in bucket ${bucket}, renewed at ${at.toISOString()} by ${state.renewed_by ?? ''}`;
  if (seconds < LONG_SECONDS) return ok(name, said);
  return warning(name, `${said}, and not since`, 'Start a listener; it renews it.');
}
