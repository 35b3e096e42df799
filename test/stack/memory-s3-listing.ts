import type { ObjectVersion } from './memory-s3-bucket.ts';
import { etagOf } from './memory-s3-objects.ts';
import type { Answer, BucketRequest } from './memory-s3-request.ts';
import { element, S3Fault, xmlDocument } from './memory-s3-xml.ts';

const MAX_PAGE = 1_000;

/** ListObjectsV2 without delimiters. */
export function listObjects(request: BucketRequest): Answer {
  const { bucket, query } = request;
  const page = pageOf(request);
  const token = query.get('continuation-token');
  const after = token === null ? (query.get('start-after') ?? '') : readToken(token);
  const found: string[] = [];
  let last = after;
  let truncated = false;
  for (const key of bucket.keys(page.prefix, after)) {
    const version = bucket.find(key);
    if (!version?.body) continue;
    if (found.length === page.size) {
      truncated = true;
      break;
    }
    found.push(`<Contents>${describe(key, version, page)}</Contents>`);
    last = key;
  }
  const content = [
    element('Name', bucket.name),
    element('Prefix', page.spell(page.prefix)),
    element('StartAfter', query.get('start-after') ?? undefined),
    element('MaxKeys', page.size),
    element('KeyCount', found.length),
    element('EncodingType', page.encoding),
    element('IsTruncated', truncated),
    element('ContinuationToken', token ?? undefined),
    element('NextContinuationToken', truncated ? writeToken(last) : undefined),
    ...found,
  ];
  return { status: 200, body: xmlDocument('ListBucketResult', content.join('')) };
}

/** ListObjectVersions without delimiters: by key, the newest version first. */
export function listVersions(request: BucketRequest): Answer {
  const { bucket, query } = request;
  const page = pageOf(request);
  const marker = query.get('key-marker') ?? '';
  const versionMarker = query.get('version-id-marker') ?? undefined;
  const found: string[] = [];
  let last: { key: string; id: string } | undefined;
  let truncated = false;
  for (const [key, version, latest] of versionsAfter(request, page.prefix, marker, versionMarker)) {
    if (found.length === page.size) {
      truncated = true;
      break;
    }
    found.push(describeVersion(key, version, latest, page));
    last = { key, id: version.id };
  }
  const content = [
    element('Name', bucket.name),
    element('Prefix', page.spell(page.prefix)),
    element('KeyMarker', page.spell(marker)),
    element('VersionIdMarker', versionMarker),
    element('NextKeyMarker', truncated && last ? page.spell(last.key) : undefined),
    element('NextVersionIdMarker', truncated && last ? last.id : undefined),
    element('MaxKeys', page.size),
    element('EncodingType', page.encoding),
    element('IsTruncated', truncated),
    ...found,
  ];
  return { status: 200, body: xmlDocument('ListVersionsResult', content.join('')) };
}

interface Page {
  readonly prefix: string;
  readonly size: number;
  readonly encoding: string | undefined;
  readonly spell: (key: string) => string;
}

function pageOf({ query }: BucketRequest): Page {
  if (query.get('delimiter')) throw new S3Fault(501, 'NotImplemented', 'no delimiters here');
  const size = Number(query.get('max-keys') ?? MAX_PAGE);
  if (!Number.isInteger(size) || size < 0) {
    throw new S3Fault(400, 'InvalidArgument', 'max-keys must be a number, and not below zero');
  }
  const encoding = query.get('encoding-type') ?? undefined;
  if (encoding !== undefined && encoding !== 'url') {
    throw new S3Fault(400, 'InvalidArgument', 'encoding-type must be url');
  }
  return {
    prefix: query.get('prefix') ?? '',
    size: Math.min(size, MAX_PAGE),
    encoding,
    spell: encoding === 'url' ? urlEncode : (key) => key,
  };
}

function* versionsAfter(
  { bucket }: BucketRequest,
  prefix: string,
  marker: string,
  versionMarker: string | undefined,
): Generator<[string, ObjectVersion, boolean]> {
  if (versionMarker !== undefined) {
    for (let next = bucket.find(marker, versionMarker)?.previous; next; next = next.previous) {
      yield [marker, next, false];
    }
  }
  for (const key of bucket.keys(prefix, marker)) {
    const latest = bucket.find(key);
    for (let version = latest; version; version = version.previous) {
      yield [key, version, version === latest];
    }
  }
}

function describeVersion(key: string, version: ObjectVersion, latest: boolean, page: Page): string {
  const name = version.body ? 'Version' : 'DeleteMarker';
  const identity = element('VersionId', version.id) + element('IsLatest', latest);
  return `<${name}>${identity}${describe(key, version, page)}</${name}>`;
}

function describe(key: string, version: ObjectVersion, page: Page): string {
  const modified = new Date(version.modified).toISOString();
  const common = element('Key', page.spell(key)) + element('LastModified', modified);
  if (!version.body) return common;
  const size = element('Size', version.body.byteLength);
  return `${common}${element('ETag', etagOf(version.body))}${size}<StorageClass>STANDARD</StorageClass>`;
}

/** As S3 does it: a form's encoding, but with the slashes left. */
function urlEncode(key: string): string {
  return encodeURIComponent(key).replaceAll('%2F', '/').replaceAll('%20', '+');
}

function writeToken(key: string): string {
  return Buffer.from(key).toString('base64url');
}

function readToken(token: string): string {
  return Buffer.from(token, 'base64url').toString();
}
