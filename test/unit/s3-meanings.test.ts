import { describe, expect, test } from 'vitest';
import { causeOfDenial, wantedAddressing } from '../../src/objects/denials.ts';
import { failureOfCode } from '../../src/objects/s3/failures.ts';
import { isOfChecksum, kindOfKey, kindOfRequest } from '../../src/objects/s3/meanings.ts';
import { deletedKey, deleteResult, refuse } from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';

const { open, play } = useScriptedStore();

describe('of one key within a 200', () => {
  test.each([
    'SlowDown',
    'SlowDownWrite',
    'SlowDownRead',
    'TooManyRequests',
    'TooManyRequestsException',
    'Throttling',
    'ThrottlingException',
    'RequestThrottled',
    'RequestLimitExceeded',
    'BandwidthLimitExceeded',
    'QpsLimitExceeded',
    'TotalQpsLimitExceeded',
    'OperationRateLimitExceeded',
    'XMinioServerBusy',
  ])('%s is load: the bucket pauses and nothing is counted', (code) => {
    expect(failureOfCode('key', code, 'no')).toMatchObject({
      outcome: 'failed',
      concerns: 'bucket',
    });
  });

  test.each([
    ['AccessDenied', 'Please reduce your request rate.'],
    ['InvalidRequest', 'Too many requests, slow down'],
    ['XStore1234', 'Request rate 4000 exceeds the limit: throttled'],
  ])('%s that says "%s" is load as well', (code, words) => {
    expect(kindOfKey(code, words)).toBe('throttled');
  });

  test.each([
    'InternalError',
    'InternalFailure',
    'InternalServerError',
    'ServiceUnavailable',
    'TemporarilyUnavailable',
    'OperationAborted',
    'ConditionalRequestConflict',
    'XMinioWriteQuorum',
    'BackendError',
    '500',
    '503',
    'RequestTimeout',
    '',
  ])('%s passes: it is tried again and not counted', (code) => {
    expect(failureOfCode('key', code, 'no').outcome).toBe('failed');
  });

  test.each([
    ['AccessDenied', 'Access Denied'],
    ['AllAccessDisabled', ''],
    ['InvalidObjectState', ''],
    ['MethodNotAllowed', ''],
    ['ObjectLocked', ''],
    ['KeyTooLongError', ''],
    ['InvalidArgument', 'bad version'],
    ['InvalidRequest', 'no'],
    ['NoSuchBucket', ''],
  ])('%s is a refusal and counts', (code, words) => {
    expect(failureOfCode('key', code, words).outcome).toBe('refused');
  });

  test('a code that nobody knows is tried again and not counted', () => {
    expect(failureOfCode('key', 'ACodeOfItsOwn', 'no')).toMatchObject({ outcome: 'failed' });
  });

  test('that all are too much for now, the bucket pauses', async () => {
    const error = (key: string): string =>
      `<Error><Key>${key}</Key><Code>SlowDownWrite</Code><Message>Please reduce your request rate</Message></Error>`;
    play(deleteResult(error('a'), error('b')));
    expect(await failure(open().deleteObjects('bucket', ['a', 'b']))).toMatchObject({
      kind: 'throttled',
      outcome: 'failed',
      concerns: 'bucket',
    });
  });

  test('that some are too much for now, these concern the bucket and the others are deleted', async () => {
    play(
      deleteResult(
        deletedKey('a'),
        '<Error><Key>b</Key><Code>SlowDown</Code><Message>reduce</Message></Error>',
      ),
    );
    const report = await open().deleteObjects('bucket', ['a', 'b']);
    expect(report).toMatchObject({
      deleted: ['a'],
      failures: [{ key: 'b', outcome: 'failed', concerns: 'bucket' }],
    });
  });
});

describe('of a whole request', () => {
  test.each([
    [503, 'ANewCode', 'no', 'unavailable'],
    [429, 'AccessDenied', 'no', 'throttled'],
    [400, 'ANewCode', 'We are busy, please try again', 'unavailable'],
    [400, 'ANewCode', 'no', 'malformed'],
    [403, 'ANewCode', 'no', 'denied'],
    [403, 'AccessDenied', 'rate exceeded', 'throttled'],
    [403, 'ExpiredToken', 'no', 'credentials'],
    [400, 'InvalidSecurityToken', 'no', 'credentials'],
    [403, 'SecurityTokenExpired', 'no', 'credentials'],
    [403, 'InvalidAccessKeyId', 'no', 'credentials'],
    [403, 'UserAccessKeyDisabled', 'no', 'credentials'],
    [400, 'InvalidArgument', 'no', 'malformed'],
    [504, 'Unknown', 'no', 'timeout'],
    [409, 'OperationAborted', 'no', 'unavailable'],
    [200, 'AnythingAtAll', 'no', 'unavailable'],
  ])('%i %s "%s" is %4$s', (status, code, words, kind) => {
    expect(kindOfRequest(code, words, status)).toBe(kind);
  });

  test('its code and words are said once, of the address that refused', async () => {
    const { describeError } = await import('../../src/errors.ts');
    const error = await failure(
      open({ endpoint: 'http://127.0.0.1:1' }).deleteObjects('bucket', ['a']),
    );
    expect(describeError(error)).toBe('ECONNREFUSED in bucket bucket: connect failed, 127.0.0.1:1');
  });
});

describe('a checksum that is refused', () => {
  test.each([
    ['MissingContentMD5', 'no'],
    ['InvalidDigest', 'no'],
    ['BadDigest', 'The Content-MD5 you specified did not match'],
    ['XAmzContentSHA256Mismatch', 'no'],
    ['InvalidRequest', 'Missing required header for this request: Content-MD5'],
    ['InvalidArgument', 'x-amz-checksum-crc32 is not known'],
    ['NotImplemented', "Header 'x-amz-checksum-crc32' with value 'a' not implemented"],
    ['MissingRequiredHeader', 'Content-Md5'],
    ['400', 'checksum missing'],
  ])('is told by %s "%s"', (code, words) => {
    expect(isOfChecksum(code, words)).toBe(true);
  });

  test.each([
    ['AccessDenied', 'no header'],
    ['MalformedXML', 'no'],
    ['InvalidRequest', 'too many keys'],
  ])('is not told by %s "%s"', (code, words) => {
    expect(isOfChecksum(code, words)).toBe(false);
  });

  test('with MD5 too is sent without any, and that is kept', async () => {
    play((request, response) => {
      const { headers } = request;
      const hasOne = Object.keys(headers).some((name) => /content-md5|checksum/u.test(name));
      const script = hasOne
        ? refuse(400, 'InvalidDigest')
        : deleteResult(...request.keys.map(deletedKey));
      script(request, response);
    });
    const report = await open().deleteObjects('bucket', ['a']);
    expect(report).toMatchObject({ all: true, learned: { habits: { checksum: 'none' } } });
  });
});

describe('a denial', () => {
  test.each([
    ['AccessDenied', 'Mfa Authentication must be used for this request', 'mfa'],
    ['AccessDenied', 'with an explicit deny in a resource-based policy', 'explicit deny'],
    ['AccessDenied', 'Access Denied because object protected by object lock.', 'lock'],
    ['ObjectLocked', '', 'lock'],
    ['InvalidRequest', 'Object is WORM protected and cannot be overwritten', 'lock'],
    ['SecondLevelDomainForbidden', 'Please use virtual hosted style to access.', 'addressing'],
    ['AccessDenied', 'Access Denied', undefined],
    [
      'AccessDenied',
      'because no identity-based policy allows the s3:DeleteObject action',
      undefined,
    ],
  ])('%s "%s" is of %s', (code, words, cause) => {
    expect(causeOfDenial(code, words)).toBe(cause);
  });

  test.each([
    ['mfa', 'Mfa Authentication must be used for this request'],
    ['explicit deny', 'User is not authorized with an explicit deny in an identity-based policy'],
  ])('of %s names no missing right', async (_cause, words) => {
    play(refuse(403, 'AccessDenied', words));
    const right = await open().inspection.probeDeleteRight('bucket');
    expect(right).toMatchObject({
      ok: false,
      missingAction: undefined,
      missingStatement: undefined,
    });
  });

  test('of a right names it', async () => {
    play(refuse(403, 'AccessDenied', 'Access Denied'));
    const right = await open().inspection.probeDeleteRight('bucket');
    expect(right).toMatchObject({ ok: false, missingAction: 's3:DeleteObject' });
  });
});

describe('addressing', () => {
  test.each([
    ['SecondLevelDomainForbidden', 'Please use virtual hosted style to access.', 'virtual'],
    ['InvalidRequest', 'Path-style addressing is not supported', 'virtual'],
    ['PathStyleDomainForbidden', 'no', 'virtual'],
    ['InvalidRequest', 'Please use path-style requests', 'path'],
    ['InvalidRequest', 'virtual-hosted style is not enabled here', 'path'],
    ['AccessDenied', 'Access Denied', undefined],
  ])('%s "%s" wants %s', (code, words, wanted) => {
    expect(wantedAddressing(code, words)).toBe(wanted);
  });
});
