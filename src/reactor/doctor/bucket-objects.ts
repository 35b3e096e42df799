import type { ObjectListing } from '../../objects/abilities.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import { KEYS_LOOKED_FOR, lookForObjects } from '../first-look.ts';
import { type Check, failed, ok, warning } from './check.ts';

/** What looking for objects needs. */
interface ObjectsToCheck {
  readonly listing?: ObjectListing | undefined;
  readonly place?: string | undefined;
  readonly reader: Diagnosis | undefined;
}

/** Whether some keys of live results have objects. The gate hears of it as it does of a listener's look. */
export async function checkObjects(
  bucket: string,
  { listing, place, reader }: ObjectsToCheck,
): Promise<readonly Check[]> {
  if (listing === undefined || place === undefined || reader === undefined) return [];
  const keys = await reader.sampleKeys(bucket, KEYS_LOOKED_FOR);
  if (keys.length === 0) return [];
  const title = `bucket ${bucket}: objects`;
  const look = await lookForObjects(bucket, keys, { listing, place, store: reader, again: true });
  const { looked, missing, mayGoOn } = look;
  if (looked === 0) {
    return [
      warning(
        title,
        'none may be looked at: whether the keys of the rows are those of the objects is not known',
        'Allow s3:GetObject or s3:ListBucket, and run doctor again.',
      ),
    ];
  }
  const found = `${looked - missing.length} of ${looked} keys that were looked for have an object`;
  if (missing.length === 0) return [ok(title, found)];
  const example = `; not ${missing.slice(0, 3).join(', ')}`;
  if (mayGoOn && missing.length * 2 <= looked) return [ok(title, found + example)];
  const remedy =
    'Compare these keys with the bucket: the key column may hold something else than keys, or S3_ENDPOINT_URL ' +
    `may name another store. Where the objects are really gone: retention bucket confirm ${bucket}`;
  return [(mayGoOn ? warning : failed)(title, found + example, remedy)];
}
