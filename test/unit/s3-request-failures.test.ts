import { describe, expect, test } from 'vitest';
import { deleteAll, deletedKey, refuse, reply } from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';

const { open, play, requests } = useScriptedStore();

describe('a request that fails as a whole', () => {
  test.each([
    [503, 'SlowDown', 'throttled', 'failed', 'bucket'],
    [429, 'TooManyRequests', 'throttled', 'failed', 'bucket'],
    [503, 'ServiceUnavailable', 'unavailable', 'failed', 'store'],
    [500, 'InternalError', 'unavailable', 'failed', 'store'],
    [400, 'ExpiredToken', 'credentials', 'failed', 'store'],
    [403, 'InvalidAccessKeyId', 'credentials', 'failed', 'store'],
    [403, 'SignatureDoesNotMatch', 'credentials', 'failed', 'store'],
    [403, 'RequestTimeTooSkewed', 'credentials', 'failed', 'store'],
    [403, 'AccessDenied', 'denied', 'refused', 'bucket'],
    [404, 'NoSuchBucket', 'no-bucket', 'refused', 'bucket'],
    [404, 'SomethingElse', 'unavailable', 'failed', 'store'],
    [400, 'RequestTimeout', 'timeout', 'failed', 'store'],
  ])('with %i %s is %s: %s, and concerns the %s', async (status, code, kind, outcome, concerns) => {
    play(refuse(status, code));
    const error = await failure(open().deleteObjects('bucket', ['a', 'b']));
    expect(error).toMatchObject({ kind, code, bucket: 'bucket', httpStatus: status });
    expect(error).toMatchObject({ outcome, concerns, final: false, unanswered: [] });
    expect(error.reason).toBe('as the test wants');
    expect(error.message).toBe(`${code} in bucket bucket: as the test wants`);
    expect(error.cause).toBeInstanceOf(Error);
  });

  test.each(['', 'AccessDenied'])(
    'with "%s" for words has a reason without the code',
    async (words) => {
      play(refuse(403, 'AccessDenied', words));
      const error = await failure(open().deleteObjects('bucket', ['a', 'b']));
      expect(error).toMatchObject({ code: 'AccessDenied', reason: 'the store gave no reason' });
    },
  );

  test('and denies the only key that was asked for says nothing of the bucket', async () => {
    play(refuse(403, 'AccessDenied'));
    expect(await open().deleteObjects('bucket', ['a'])).toMatchObject({
      deleted: [],
      failures: [{ key: 'a', code: 'AccessDenied', outcome: 'refused', concerns: 'key' }],
    });
  });

  test.each(['MalformedXML', 'InvalidRequest', 'KeyTooLongError', 'EntityTooLarge'])(
    'with 400 %s for each of its keys refuses these keys',
    async (code) => {
      play(refuse(400, code));
      const { deleted, failures } = await open().deleteObjects('bucket', ['a', 'b']);
      expect(deleted).toEqual([]);
      const failed = { code, outcome: 'refused', concerns: 'key', final: false };
      expect(failures).toMatchObject([
        { key: 'a', ...failed },
        { key: 'b', ...failed },
      ]);
    },
  );

  test('with a 400 without a word is none of its key, and does not count', async () => {
    play(reply(400, ''));
    expect(await failure(open().deleteObjects('bucket', ['a']))).toMatchObject({
      kind: 'malformed',
      outcome: 'failed',
    });
  });

  test('with an error in a 200 is unavailable, and was tried again', async () => {
    play(refuse(200, 'InternalError'));
    const error = await failure(open({ maxAttempts: 2 }).deleteObjects('bucket', ['a', 'b']));
    expect(error).toMatchObject({ kind: 'unavailable', code: 'InternalError' });
    expect(requests()).toHaveLength(2);
  });

  test('with a page of a proxy is unavailable, and was tried again', async () => {
    play(reply(502, '<html><body><hr>Bad gateway</body></html>'));
    const error = await failure(open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind: 'unavailable', httpStatus: 502, outcome: 'unknown' });
    expect(requests()).toHaveLength(2);
  });

  test('with a page of a proxy in a 200 is unavailable', async () => {
    play(reply(200, '<html><body><hr>Welcome</body></html>'));
    expect((await failure(open().deleteObjects('bucket', ['a']))).kind).toBe('unavailable');
  });

  test('without credentials says so', async () => {
    const credentials = (): Promise<never> =>
      Promise.reject(Object.assign(new Error('none found'), { name: 'CredentialsProviderError' }));
    const call = open({ clientConfig: { credentials } }).deleteObjects('bucket', ['a']);
    expect((await failure(call)).kind).toBe('credentials');
  });

  test.each(['', '..', 'a/b', 'bucket?acl'])(
    'for the bucket name %j never leaves',
    async (name) => {
      play(deleteAll);
      expect((await failure(open().deleteObjects(name, ['a']))).kind).toBe('no-bucket');
      expect(requests()).toEqual([]);
    },
  );
});

describe('a connection that', () => {
  test('is cut in the middle of a reply is unavailable, and was tried again', async () => {
    play((_request, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('<DeleteResult>', () => response.destroy());
    });
    const error = await failure(open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind: 'unavailable', outcome: 'unknown', unanswered: ['a'] });
    expect(requests()).toHaveLength(2);
  });

  test('ends early without having said how long the reply is deletes nothing', async () => {
    play((_request, response) => {
      const head = 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n';
      response.socket?.end(`${head}<DeleteResult>${deletedKey('a')}<Deleted>`);
    });
    expect((await failure(open().deleteObjects('bucket', ['a']))).kind).toBe('unavailable');
  });

  test('is refused is unavailable', async () => {
    const opened = open({ endpoint: 'http://127.0.0.1:1' });
    const error = await failure(opened.deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind: 'unavailable', code: 'ECONNREFUSED', outcome: 'failed' });
    expect(error.reason).toBe('connect failed, 127.0.0.1:1');
  });

  test('is cut once is asked again', async () => {
    let asked = 0;
    play((request, response) => {
      if ((asked += 1) === 1) response.destroy();
      else deleteAll(request, response);
    });
    const report = await open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']);
    expect(new Set(report.deleted)).toEqual(new Set(['a']));
  });
});
