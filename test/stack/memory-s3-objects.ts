import { createHash } from 'node:crypto';

import { requireCondition } from './memory-s3-conditions.ts';
import type { ObjectVersion, Retention } from './memory-s3-bucket.ts';
import { type Answer, type BucketRequest, header } from './memory-s3-request.ts';
import {
  type ObjectToDelete,
  element,
  escapeXml,
  parseDelete,
  S3Fault,
  textOf,
  xmlDocument,
} from './memory-s3-xml.ts';

const MAX_KEY_BYTES = 1_024;

const etags = new WeakMap<Uint8Array, string>();

/** An object's ETag. Remembered per body, since in tests and demos many objects share one. */
export function etagOf(body: Uint8Array): string {
  const known = etags.get(body);
  if (known !== undefined) return known;
  const etag = `"${createHash('md5').update(body).digest('hex')}"`;
  etags.set(body, etag);
  return etag;
}

export function putObject(request: BucketRequest): Answer {
  const { bucket, key } = request;
  if (header(request, 'x-amz-copy-source') !== undefined) {
    throw new S3Fault(501, 'NotImplemented', 'no copying here');
  }
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) {
    throw new S3Fault(400, 'KeyTooLongError', 'Your key is too long');
  }
  const current = bucket.find(key)?.body;
  requireCondition(request, current && etagOf(current));
  const body = readBody(request);
  const version = bucket.put(key, body, retentionFromHeaders(request));
  return {
    status: 200,
    headers: { etag: etagOf(body), ...versionHeaders(request, version) },
  };
}

export function getObject(request: BucketRequest): Answer {
  const version = existing(request);
  const body = version.body as Uint8Array;
  return {
    status: 200,
    headers: {
      etag: etagOf(body),
      'content-type': 'binary/octet-stream',
      'content-length': String(body.byteLength),
      'last-modified': new Date(version.modified).toUTCString(),
      ...versionHeaders(request, version),
    },
    body,
  };
}

export function deleteObject(request: BucketRequest): Answer {
  const { bucket, key, query } = request;
  requireVersion(request, key, header(request, 'if-match'));
  const removal = bucket.remove(key, query.get('versionId') ?? undefined, bypasses(request));
  return {
    status: 204,
    headers: {
      ...(removal.versionId === undefined ? {} : { 'x-amz-version-id': removal.versionId }),
      ...(removal.deleteMarker ? { 'x-amz-delete-marker': 'true' } : {}),
    },
  };
}

export function deleteObjects(request: BucketRequest): Answer {
  requireChecksum(request);
  const { objects, quiet } = parseDelete(request.body.toString('utf8'));
  const results = objects.map((it) => deleteOne(request, it, quiet));
  return {
    status: 200,
    body: xmlDocument('DeleteResult', results.join('')),
    keys: objects.map((it) => it.key),
  };
}

/** Names every key of a DeleteObjects request as deleted and does nothing else. */
export function pretendToDeleteObjects(request: BucketRequest): Answer {
  const keys = request.body.toString('utf8').match(/<Key>[^<]*<\/Key>/g) ?? [];
  const deleted = keys.map((key) => `<Deleted>${key}</Deleted>`).join('');
  return { status: 200, body: xmlDocument('DeleteResult', deleted) };
}

export function putRetention(request: BucketRequest): Answer {
  const xml = request.body.toString('utf8');
  const mode = textOf(xml, 'Mode');
  const until = textOf(xml, 'RetainUntilDate');
  existing(request).retention = readRetention(request, mode, until);
  return { status: 200 };
}

export function getRetention(request: BucketRequest): Answer {
  const { retention } = existing(request);
  if (!retention) {
    throw new S3Fault(404, 'NoSuchObjectLockConfiguration', 'The object has no retention');
  }
  const content =
    element('Mode', retention.mode) +
    element('RetainUntilDate', new Date(retention.until).toISOString());
  return { status: 200, body: xmlDocument('Retention', content) };
}

function deleteOne(
  request: BucketRequest,
  { key, versionId, etag }: ObjectToDelete,
  quiet: boolean,
): string {
  const action = versionId === undefined ? 's3:DeleteObject' : 's3:DeleteObjectVersion';
  try {
    if (!request.permits(action, key)) throw new S3Fault(403, 'AccessDenied', 'Access Denied');
    requireVersion(request, key, etag);
    const removal = request.bucket.remove(key, versionId, bypasses(request));
    if (quiet) return '';
    const marker = removal.deleteMarker
      ? `<DeleteMarker>true</DeleteMarker>${element('DeleteMarkerVersionId', removal.versionId)}`
      : '';
    return `<Deleted><Key>${escapeXml(key)}</Key>${element('VersionId', versionId)}${marker}</Deleted>`;
  } catch (error) {
    if (!(error instanceof S3Fault)) throw error;
    const names = element('Key', key) + element('VersionId', versionId);
    return `<Error>${names}${element('Code', error.code)}${element('Message', error.message)}</Error>`;
  }
}

/**
 * What S3 makes of a condition on a deletion ("How to perform conditional deletes"): it looks at the current version,
 * and wants the right to read it. A delete marker is a version without an etag.
 */
function requireVersion(request: BucketRequest, key: string, etag: string | undefined): void {
  if (etag === undefined || request.conditions === 'ignored') return;
  if (request.conditions === 'refused') {
    throw new S3Fault(
      501,
      'NotImplemented',
      'A header you provided implies functionality that is not implemented',
    );
  }
  if (!request.permits('s3:GetObject', key))
    throw new S3Fault(403, 'AccessDenied', 'Access Denied');
  const current = request.bucket.find(key);
  if (current === undefined) {
    throw new S3Fault(404, 'NoSuchKey', 'The specified key does not exist.');
  }
  const wanted = etag.replace(/^"(.*)"$/u, '$1');
  const isMet =
    current.body !== undefined && (wanted === '*' || etagOf(current.body) === `"${wanted}"`);
  if (!isMet) {
    throw new S3Fault(
      412,
      'PreconditionFailed',
      'At least one of the pre-conditions you specified did not hold',
    );
  }
}

/** The version that a request is about; S3's three ways of saying that there is none. */
function existing(request: BucketRequest): ObjectVersion {
  const { bucket, key, query } = request;
  const versionId = query.get('versionId') ?? undefined;
  const version = bucket.find(key, versionId);
  if (version?.body) return version;
  // Who may not list is not told what is missing.
  if (!request.permits('s3:ListBucket', ''))
    throw new S3Fault(403, 'AccessDenied', 'Access Denied');
  if (versionId === undefined) {
    throw new S3Fault(404, 'NoSuchKey', 'The specified key does not exist.');
  }
  if (version) throw new S3Fault(405, 'MethodNotAllowed', 'This is a delete marker');
  throw new S3Fault(404, 'NoSuchVersion', 'The specified version does not exist.');
}

function versionHeaders({ bucket }: BucketRequest, version: ObjectVersion): Record<string, string> {
  return bucket.versioning === 'Off' ? {} : { 'x-amz-version-id': version.id };
}

function retentionFromHeaders(request: BucketRequest): Retention | undefined {
  const mode = header(request, 'x-amz-object-lock-mode');
  const until = header(request, 'x-amz-object-lock-retain-until-date');
  return mode === undefined && until === undefined
    ? undefined
    : readRetention(request, mode, until);
}

function readRetention(
  { bucket }: BucketRequest,
  mode: string | undefined,
  until: string | undefined,
): Retention {
  if (!bucket.documents.has('object-lock')) {
    throw new S3Fault(400, 'InvalidRequest', 'Bucket is missing Object Lock Configuration');
  }
  const time = Date.parse(until ?? '');
  if ((mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') || Number.isNaN(time)) {
    throw new S3Fault(400, 'InvalidArgument', 'a retention has a mode and a date');
  }
  return { mode, until: time };
}

function bypasses(request: BucketRequest): boolean {
  return header(request, 'x-amz-bypass-governance-retention') === 'true';
}

function requireChecksum({ headers }: BucketRequest): void {
  const names = Object.keys(headers);
  if (names.some((it) => it === 'content-md5' || it.startsWith('x-amz-checksum-'))) return;
  throw new S3Fault(
    400,
    'InvalidRequest',
    'Missing required header for this request: Content-MD5 OR x-amz-checksum-*',
  );
}

/** The body, without the framing that a client puts around one whose checksum comes last. */
function readBody(request: BucketRequest): Buffer {
  const { body } = request;
  if (!header(request, 'x-amz-content-sha256')?.startsWith('STREAMING-')) return body;
  const parts: Buffer[] = [];
  for (let at = 0; ;) {
    const end = body.indexOf('\r\n', at);
    const size = Number.parseInt(body.toString('latin1', at, end), 16);
    if (end < 0 || Number.isNaN(size)) throw new S3Fault(400, 'IncompleteBody');
    if (size === 0) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}
