/** The right that each request needs. */
export const RIGHTS = {
  DeleteObject: 's3:DeleteObject',
  DeleteObjects: 's3:DeleteObject',
  GetBucketLifecycleConfiguration: 's3:GetLifecycleConfiguration',
  GetBucketVersioning: 's3:GetBucketVersioning',
  GetObject: 's3:GetObject',
  GetObjectLegalHold: 's3:GetObjectLegalHold',
  GetObjectLockConfiguration: 's3:GetBucketObjectLockConfiguration',
  GetObjectRetention: 's3:GetObjectRetention',
  HeadBucket: 's3:ListBucket',
  HeadObject: 's3:GetObject',
  ListObjectsV2: 's3:ListBucket',
  PutObject: 's3:PutObject',
  ListObjectVersions: 's3:ListBucketVersions',
} as const;

/** The requests that are sent, by S3's own names. */
export type S3Operation = keyof typeof RIGHTS;
