import { type BucketRequest, header } from './memory-s3-request.ts';
import { S3Fault } from './memory-s3-xml.ts';

/**
 * The conditions of a PutObject, as S3 takes them: If-Match with one etag, If-None-Match with `*`.
 *
 * @param current the etag of the object that is there; undefined: there is none.
 * @throws {S3Fault} when the condition does not hold.
 */
export function requireCondition(request: BucketRequest, current: string | undefined): void {
  const ifMatch = header(request, 'if-match');
  const ifNoneMatch = header(request, 'if-none-match');
  if (ifNoneMatch !== undefined && ifNoneMatch !== '*') {
    throw new S3Fault(501, 'NotImplemented', 'If-None-Match of a PutObject takes * only');
  }
  if (ifMatch !== undefined && current === undefined) {
    throw new S3Fault(404, 'NoSuchKey', 'The specified key does not exist.');
  }
  const fails =
    (ifMatch !== undefined && ifMatch !== '*' && unquoted(ifMatch) !== unquoted(current ?? '')) ||
    (ifNoneMatch !== undefined && current !== undefined);
  if (!fails) return;
  throw new S3Fault(
    412,
    'PreconditionFailed',
    'At least one of the pre-conditions you specified did not hold',
  );
}

function unquoted(etag: string): string {
  return etag.replaceAll('"', '');
}
