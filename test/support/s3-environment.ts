import type { S3Credentials, S3Target } from './s3-target.ts';

/** The variables that point the command at a bucket of a test. */
export function s3Environment(
  target: S3Target,
  bucket: string,
  credentials: S3Credentials = target.owner,
): Readonly<Record<string, string>> {
  return {
    S3_ENDPOINT_URL: target.endpoint,
    S3_RESULT_BUCKET: bucket,
    AWS_REGION: target.region,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: 'true',
  };
}
