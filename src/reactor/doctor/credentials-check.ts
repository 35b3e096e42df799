import type { BucketProblem } from '../../objects/abilities.ts';
import { type Check, failed } from './check.ts';

/** The name of the check. */
export const CREDENTIALS = 'S3 credentials';

const REMEDIES: readonly (readonly [code: RegExp, remedy: string])[] = [
  [
    /SignatureDoesNotMatch|InvalidSignature/u,
    'The secret key is not that of the access key: set AWS_SECRET_ACCESS_KEY, or the profile, again. ' +
      'Where it is right, something on the way changes the requests.',
  ],
  [
    /AccessKey|InvalidClientTokenId|UnrecognizedClient/u,
    'This store does not know the access key: check AWS_ACCESS_KEY_ID, and that S3_ENDPOINT_URL names the store that it belongs to.',
  ],
  [/TooSkewed|RequestExpired/u, "This machine's clock is wrong: set it, and keep it set by NTP."],
  [
    /Expired|TokenRefresh/u,
    'The session has ended: get new credentials. Files of credentials are read again by themselves.',
  ],
  [/Token/u, 'The session token does not belong to the access key: set all three again.'],
];

/** One finding for credentials that the store refuses, whatever was asked with them. */
export function checkCredentials({ code, reason }: BucketProblem): Check {
  const [, remedy] = REMEDIES.find(([pattern]) => pattern.test(code)) ?? [
    undefined,
    'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or one of the other sources of the AWS chain.',
  ];
  return failed(CREDENTIALS, `the store does not accept them: ${code}: ${reason}`, remedy ?? '');
}
