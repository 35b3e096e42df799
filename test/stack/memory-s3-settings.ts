import { MemoryPolicy } from './memory-s3-policy.ts';
import type { Answer, BucketRequest } from './memory-s3-request.ts';
import { element, S3Fault, textOf, xmlDocument } from './memory-s3-xml.ts';

/** The one region that there is. */
export const REGION = 'us-east-1';

/** Bucket settings that are kept and given back as they came, and how S3 says it has none. */
const ABSENCE = {
  lifecycle: 'NoSuchLifecycleConfiguration',
  policy: 'NoSuchBucketPolicy',
  'object-lock': 'ObjectLockConfigurationNotFoundError',
} as const;

export type BucketDocument = keyof typeof ABSENCE;

export function getDocument(name: BucketDocument): (request: BucketRequest) => Answer {
  return ({ bucket }) => {
    const document = bucket.documents.get(name);
    if (document === undefined) throw new S3Fault(404, ABSENCE[name]);
    const type = name === 'policy' ? 'application/json' : 'application/xml';
    return { status: 200, headers: { 'content-type': type }, body: document };
  };
}

export function putDocument(name: BucketDocument): (request: BucketRequest) => Answer {
  return ({ bucket, body }) => {
    const document = body.toString('utf8');
    if (name === 'policy') bucket.policy = new MemoryPolicy(document);
    else if (!/<\w+/.test(document)) throw new S3Fault(400, 'MalformedXML');
    bucket.documents.set(name, document);
    return { status: name === 'policy' ? 204 : 200 };
  };
}

export function removeDocument(name: BucketDocument): (request: BucketRequest) => Answer {
  return ({ bucket }) => {
    if (name === 'policy') bucket.policy = new MemoryPolicy();
    bucket.documents.delete(name);
    return { status: 204 };
  };
}

export function getVersioning({ bucket }: BucketRequest): Answer {
  const status = bucket.versioning === 'Off' ? undefined : bucket.versioning;
  return { status: 200, body: xmlDocument('VersioningConfiguration', element('Status', status)) };
}

export function putVersioning({ bucket, body }: BucketRequest): Answer {
  const status = textOf(body.toString('utf8'), 'Status');
  if (status !== 'Enabled' && status !== 'Suspended') throw new S3Fault(400, 'MalformedXML');
  if (status === 'Suspended' && bucket.documents.has('object-lock')) {
    throw new S3Fault(409, 'InvalidBucketState', 'object lock needs versioning');
  }
  bucket.versioning = status;
  return { status: 200 };
}

export function headBucket(): Answer {
  return { status: 200, headers: { 'x-amz-bucket-region': REGION } };
}
