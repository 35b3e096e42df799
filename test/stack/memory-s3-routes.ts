import { listObjects, listVersions } from './memory-s3-listing.ts';
import {
  deleteObject,
  deleteObjects,
  getObject,
  getRetention,
  pretendToDeleteObjects,
  putObject,
  putRetention,
} from './memory-s3-objects.ts';
import type { Operation } from './memory-s3-request.ts';
import {
  getDocument,
  getVersioning,
  headBucket,
  putDocument,
  putVersioning,
  removeDocument,
} from './memory-s3-settings.ts';

/** Operations on a bucket, by method and the query parameter that tells them apart. */
const BUCKET_OPERATIONS: Readonly<Record<string, Operation>> = {
  HEAD: { name: 'HeadBucket', action: 's3:ListBucket', run: headBucket },
  GET: { name: 'ListObjectsV2', action: 's3:ListBucket', run: listObjects },
  POST_delete: { name: 'DeleteObjects', run: deleteObjects },
  GET_versions: { name: 'ListObjectVersions', action: 's3:ListBucketVersions', run: listVersions },
  GET_versioning: {
    name: 'GetBucketVersioning',
    action: 's3:GetBucketVersioning',
    run: getVersioning,
  },
  PUT_versioning: {
    name: 'PutBucketVersioning',
    action: 's3:PutBucketVersioning',
    run: putVersioning,
  },
  GET_lifecycle: {
    name: 'GetBucketLifecycleConfiguration',
    action: 's3:GetLifecycleConfiguration',
    run: getDocument('lifecycle'),
  },
  PUT_lifecycle: {
    name: 'PutBucketLifecycleConfiguration',
    action: 's3:PutLifecycleConfiguration',
    run: putDocument('lifecycle'),
  },
  DELETE_lifecycle: {
    name: 'DeleteBucketLifecycle',
    action: 's3:PutLifecycleConfiguration',
    run: removeDocument('lifecycle'),
  },
  GET_policy: {
    name: 'GetBucketPolicy',
    action: 's3:GetBucketPolicy',
    run: getDocument('policy'),
  },
  PUT_policy: {
    name: 'PutBucketPolicy',
    action: 's3:PutBucketPolicy',
    run: putDocument('policy'),
  },
  DELETE_policy: {
    name: 'DeleteBucketPolicy',
    action: 's3:DeleteBucketPolicy',
    run: removeDocument('policy'),
  },
  'PUT_object-lock': {
    name: 'PutObjectLockConfiguration',
    action: 's3:PutBucketObjectLockConfiguration',
    run: putDocument('object-lock'),
  },
  'GET_object-lock': {
    name: 'GetObjectLockConfiguration',
    action: 's3:GetBucketObjectLockConfiguration',
    run: getDocument('object-lock'),
  },
};

const OBJECT_OPERATIONS: Readonly<Record<string, Operation>> = {
  PUT: { name: 'PutObject', action: 's3:PutObject', run: putObject },
  GET: { name: 'GetObject', action: 's3:GetObject', run: getObject },
  HEAD: { name: 'HeadObject', action: 's3:GetObject', run: getObject },
  DELETE: { name: 'DeleteObject', action: 's3:DeleteObject', run: deleteObject },
  GET_retention: { name: 'GetObjectRetention', action: 's3:GetObjectRetention', run: getRetention },
  PUT_retention: { name: 'PutObjectRetention', action: 's3:PutObjectRetention', run: putRetention },
};

const NULL_DELETE: Operation = { name: 'DeleteObjects', run: pretendToDeleteObjects };

/** Query parameters that say how, and not what. All others name another operation. */
const MODIFIERS = new Set([
  'continuation-token',
  'delimiter',
  'encoding-type',
  'fetch-owner',
  'key-marker',
  'list-type',
  'max-keys',
  'prefix',
  'start-after',
  'version-id-marker',
  'versionId',
  'x-id',
]);

/** The part of a route that the query decides, such as `_delete` or nothing. */
export function subresourceOf(query: URLSearchParams): string {
  const name = [...query.keys()].find((it) => !MODIFIERS.has(it));
  return name === undefined ? '' : `_${name}`;
}

/** The operation that a request asks for; undefined when it is none of the few known here. */
export function operationFor(
  method: string,
  key: string,
  query: URLSearchParams,
  nullMode: boolean,
): Operation | undefined {
  const route = method + subresourceOf(query);
  if (key !== '') return OBJECT_OPERATIONS[route];
  return nullMode && route === 'POST_delete' ? NULL_DELETE : BUCKET_OPERATIONS[route];
}
