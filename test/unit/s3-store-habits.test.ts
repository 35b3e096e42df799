import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { deleteAll, refuse, reply } from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';
import { expectAllDeleted } from '../support/reports.ts';

const { open, play, requests } = useScriptedStore();

describe('a store that', () => {
  test.each([
    ['misses Content-MD5', refuse(400, 'MissingContentMD5')],
    ['misses it in other words', refuse(400, 'InvalidRequest', 'Missing header: Content-MD5')],
    ['refuses the new checksums', refuse(501, 'NotImplemented', 'A header is not implemented')],
  ])('%s gets one, and from then on at once', async (_name, refusal) => {
    play((request, response) => {
      if (request.headers['content-md5'] === undefined) refusal(request, response);
      else deleteAll(request, response);
    });
    const opened = open();
    const report = await opened.deleteObjects('bucket', ['a']);
    expect(new Set(report.deleted)).toEqual(new Set(['a']));
    await opened.deleteObjects('bucket', ['b']);
    expect(requests().map((it) => it.keys)).toEqual([['a'], ['a'], ['b']]);
    const last = requests()[2];
    const md5 = createHash('md5')
      .update(last?.body ?? '')
      .digest('base64');
    expect(last?.headers['content-md5']).toBe(md5);
    const names = Object.keys(last?.headers ?? {});
    expect(names.filter((name) => name.includes('checksum'))).toEqual([]);
  });

  test('takes the new checksums is never sent MD5 for a batch that it refuses', async () => {
    play(deleteAll);
    const opened = open();
    await opened.deleteObjects('bucket', ['a']);
    play(refuse(400, 'InvalidRequest', 'something about a header'));
    await opened.deleteObjects('bucket', ['a']);
    expect(requests().filter((it) => it.headers['content-md5'] !== undefined)).toEqual([]);
  });

  test.each([
    [501, 'NotImplemented'],
    [405, 'MethodNotAllowed'],
  ])('has no DeleteObjects (%i) is asked one by one from then on', async (status, code) => {
    let inFlight = 0;
    let most = 0;
    play((request, response) => {
      if (request.method === 'POST') return refuse(status, code)(request, response);
      most = Math.max(most, (inFlight += 1));
      setImmediate(() => {
        inFlight -= 1;
        response.writeHead(204).end();
      });
    });
    const opened = open();
    const keys = Array.from({ length: 100 }, (_, index) => `k${index}`);
    const report = await opened.deleteObjects('bucket', keys);
    expectAllDeleted(report, keys);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(8);
    await opened.deleteObjects('bucket', ['last']);
    expect(requests().filter((it) => it.method === 'POST')).toHaveLength(1);
  });

  test('is elsewhere is followed to its region, and asked there from then on', async () => {
    play((request, response) => {
      if (request.headers.authorization?.includes('/eu-central-1/s3/')) {
        deleteAll(request, response);
      } else {
        const answer = refuse(301, 'PermanentRedirect');
        response.setHeader('x-amz-bucket-region', 'eu-central-1');
        answer(request, response);
      }
    });
    const opened = open();
    await opened.deleteObjects('there', ['a']);
    await opened.deleteObjects('there', ['b']);
    expect(requests().map((it) => it.keys)).toEqual([['a'], ['a'], ['b']]);
  });

  test('wants another region in the signature gets that', async () => {
    play((request, response) => {
      if (request.headers.authorization?.includes('/mars/s3/')) deleteAll(request, response);
      else {
        refuse(
          400,
          'AuthorizationHeaderMalformed',
          'expecting mars',
          '<Region>mars</Region>',
        )(request, response);
      }
    });
    const report = await open().deleteObjects('bucket', ['a']);
    expect(new Set(report.deleted)).toEqual(new Set(['a']));
  });
});

describe('one by one', () => {
  const odd = ['\u0001a', '\u0001b', '\u0001c'];

  test('a key already gone is deleted, a refused one failed, and the others go on', async () => {
    play((request, response) => {
      if (request.url.includes('%01a')) refuse(404, 'NoSuchKey')(request, response);
      else if (request.url.includes('%01b')) refuse(403, 'AccessDenied')(request, response);
      else deleteAll(request, response);
    });
    const report = await open().deleteObjects('bucket', odd);
    expect(new Set(report.deleted)).toEqual(new Set(['\u0001a', '\u0001c']));
    expect(report.failures).toMatchObject([
      { key: '\u0001b', code: 'AccessDenied', outcome: 'refused' },
    ]);
  });

  test('one key that always breaks the store holds up no other', async () => {
    play((request, response) => {
      if (request.url.includes('%01a')) refuse(500, 'InternalError')(request, response);
      else deleteAll(request, response);
    });
    const others = Array.from({ length: 30 }, (_, index) => `\u0001b${index}`);
    const report = await open().deleteObjects('bucket', ['\u0001a', ...others]);
    expect(new Set(report.deleted)).toEqual(new Set(others));
    expect(report.failures).toMatchObject([
      { key: '\u0001a', code: 'InternalError', outcome: 'failed' },
    ]);
  });

  test('a 404 that does not say NoSuchKey is no deletion', async () => {
    play(reply(404, ''));
    expect((await failure(open().deleteObjects('bucket', odd))).kind).toBe('unavailable');
  });

  test('what concerns the bucket is asked once and fails the call', async () => {
    play(refuse(404, 'NoSuchBucket'));
    const keys = Array.from({ length: 100 }, (_, index) => `\u0001${index}`);
    expect((await failure(open().deleteObjects('bucket', keys))).kind).toBe('no-bucket');
    expect(requests().length).toBeLessThanOrEqual(8);
  });

  test('what was deleted together is not lost when the rest fails', async () => {
    play((request, response) => {
      if (request.method === 'POST') deleteAll(request, response);
      else refuse(403, 'InvalidAccessKeyId')(request, response);
    });
    const report = await open().deleteObjects('bucket', ['plain', ...odd]);
    expect(new Set(report.deleted)).toEqual(new Set(['plain']));
    expect(report.failures.map((it) => [it.key, it.outcome])).toEqual(
      odd.map((it) => [it, 'failed']),
    );
  });
});
