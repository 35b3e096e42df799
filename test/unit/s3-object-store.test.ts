import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type ObjectStore, ObjectStoreError } from '../../src/objects/object-store.ts';
import { retryBudgetMilliseconds } from '../../src/objects/retry-budget.ts';
import {
  createS3ObjectStore,
  type ObservedRequest,
  type S3ObjectStoreOptions,
} from '../../src/objects/s3-object-store.ts';
import {
  deleteAll,
  deletedKey,
  deleteResult,
  refuse,
  refusedKey,
  reply,
  type ScriptedS3,
  startScriptedS3,
} from '../support/scripted-s3.ts';

const sdk = vi.hoisted(() => ({ loaded: false }));
vi.mock('@aws-sdk/client-s3', async (original) => {
  sdk.loaded = true;
  return original();
});

const warnings: string[] = [];
process.on('warning', (warning) => warnings.push(String(warning)));

let s3: ScriptedS3;
let store: ObjectStore | undefined;

beforeAll(async () => {
  s3 = await startScriptedS3();
});
afterAll(async () => {
  await s3.stop();
  expect(warnings).toEqual([]);
});
afterEach(() => {
  store?.close();
  store = undefined;
});

/** A store that asks once, unless the test says otherwise. */
function open(options: S3ObjectStoreOptions = {}): ObjectStore {
  store = createS3ObjectStore({
    endpoint: s3.endpoint,
    region: 'us-east-1',
    maxAttempts: 1,
    clientConfig: { credentials: { accessKeyId: 'A', secretAccessKey: 'S' } },
    ...options,
  });
  return store;
}

/** The error of a call that must fail as a whole. */
async function failure(call: Promise<unknown>): Promise<ObjectStoreError> {
  const error: unknown = await call.then(
    () => new Error('the call succeeded'),
    (it: unknown) => it,
  );
  expect(error).toBeInstanceOf(ObjectStoreError);
  return error as ObjectStoreError;
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

test('loads the SDK with the first call, and keeps its Node version warning to itself', async () => {
  s3.play(deleteAll);
  expect(sdk.loaded).toBe(false);
  await open().deleteObjects('bucket', ['a']);
  expect(sdk.loaded).toBe(true);
  expect(warnings).toEqual([]);
  expect(process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED']).toBeUndefined();
});

describe('a reply to DeleteObjects', () => {
  test('deletes what it names, and asks for names', async () => {
    s3.play(deleteAll);
    const report = await open().deleteObjects('bucket', ['a', 'b/c']);
    expect(report).toEqual({ deleted: new Set(['a', 'b/c']), failures: [] });
    expect(s3.requests).toHaveLength(1);
    expect(s3.requests[0]?.body).toContain('<Quiet>false</Quiet>');
  });

  test.each([
    ['an empty body', ''],
    ['an empty document', '<DeleteResult/>'],
    ['another key only', `<DeleteResult>${deletedKey('a')}</DeleteResult>`],
    ['an error that is not recognised as one', '<Error><Code>InternalError</Code></Error>\n'],
  ])('leaves a key unanswered that is missing in %s', async (_name, body) => {
    s3.play(reply(200, body));
    const report = await open().deleteObjects('bucket', ['a', 'b']);
    expect(report.deleted.has('b')).toBe(false);
    const failed = report.failures.find((it) => it.key === 'b');
    expect(failed).toMatchObject({ code: 'Unanswered', transient: true });
    expect(report.deleted.size + report.failures.length).toBe(2);
  });

  test('tells the faults of keys from those of the store, and takes gone for deleted', async () => {
    s3.play(
      deleteResult(
        deletedKey('done'),
        refusedKey('gone', 'NoSuchKey'),
        refusedKey('denied', 'AccessDenied'),
        refusedKey('slow', 'SlowDown'),
        refusedKey('broken', 'InternalError'),
      ),
    );
    const keys = ['done', 'gone', 'denied', 'slow', 'broken'];
    const report = await open().deleteObjects('bucket', keys);
    expect(report.deleted).toEqual(new Set(['done', 'gone']));
    expect(report.failures.map(({ key, code, transient }) => [key, code, transient])).toEqual([
      ['denied', 'AccessDenied', false],
      ['slow', 'SlowDown', true],
      ['broken', 'InternalError', true],
    ]);
  });

  test('takes a key that is both deleted and refused as refused', async () => {
    s3.play(deleteResult(deletedKey('a'), refusedKey('a', 'AccessDenied')));
    const report = await open().deleteObjects('bucket', ['a']);
    expect(report.deleted.size).toBe(0);
    expect(report.failures).toMatchObject([{ key: 'a', code: 'AccessDenied' }]);
  });

  test('says what an error without a key said', async () => {
    s3.play(deleteResult('<Error><Code>Strange</Code><Message>no idea</Message></Error>'));
    const report = await open().deleteObjects('bucket', ['a']);
    expect(report.failures).toMatchObject([{ key: 'a', code: 'Unanswered', transient: true }]);
    expect(report.failures[0]?.message).toContain('Strange: no idea');
  });

  test('that spells a key in another way has that key asked for alone', async () => {
    s3.play((request, response) => {
      if (request.method === 'DELETE') response.writeHead(204).end();
      else deleteResult(deletedKey('plain'), deletedKey('s%20t'))(request, response);
    });
    const report = await open().deleteObjects('bucket', ['plain', 's t']);
    expect(report).toEqual({ deleted: new Set(['plain', 's t']), failures: [] });
    expect(s3.requests.map((it) => `${it.method} ${it.url}`)).toEqual([
      'POST /bucket/?delete=',
      'DELETE /bucket/s%20t?x-id=DeleteObject',
    ]);
  });

  test('that knows no bucket for its keys fails as a whole', async () => {
    s3.play(deleteResult(refusedKey('a', 'NoSuchBucket')));
    expect((await failure(open().deleteObjects('bucket', ['a']))).kind).toBe('no-bucket');
  });
});

describe('keys', () => {
  test('given twice are sent once and reported once', async () => {
    s3.play(deleteAll);
    const report = await open().deleteObjects('bucket', ['a', 'a', 'b', 'a']);
    expect(report).toEqual({ deleted: new Set(['a', 'b']), failures: [] });
    expect(s3.requests[0]?.keys).toEqual(['a', 'b']);
  });

  test('that no request can carry are refused and never sent', async () => {
    s3.play(deleteAll);
    const tooLong = 'é'.repeat(513);
    const keys = ['', tooLong, 'half \ud83d', '\ude00', 'fine'];
    const report = await open().deleteObjects('bucket', keys);
    expect(report.deleted).toEqual(new Set(['fine']));
    expect(report.failures.map(({ key, code, transient }) => [key, code, transient])).toEqual([
      ['', 'EmptyKey', false],
      [tooLong, 'KeyTooLongError', false],
      ['half \ud83d', 'UnencodableKey', false],
      ['\ude00', 'UnencodableKey', false],
    ]);
    expect(s3.requests.flatMap((it) => it.keys)).toEqual(['fine']);
  });

  test('that are all refused send nothing', async () => {
    s3.play(deleteAll);
    const report = await open().deleteObjects('bucket', ['']);
    expect(report.failures).toHaveLength(1);
    expect(s3.requests).toEqual([]);
  });

  test('that XML does not carry unchanged go alone', async () => {
    s3.play(deleteAll);
    const odd = [
      '\u0001',
      'a\tb',
      'a\nb',
      'a\rb',
      ' a',
      'a ',
      '\ufffe',
      '\uffff',
      '\u0085x',
      '\n',
      'a\u2028',
      'b\u2029c',
    ];
    const report = await open().deleteObjects('bucket', ['plain', ...odd, 'a b', '😀', '\ue000']);
    expect(report.failures).toEqual([]);
    expect(report.deleted.size).toBe(odd.length + 4);
    const [batch, ...singles] = s3.requests;
    expect(batch?.keys).toEqual(['plain', 'a b', '😀', '\ue000']);
    expect(singles.map((it) => it.method)).toEqual(odd.map(() => 'DELETE'));
    const sent = singles.map((it) => /^\/bucket\/(.*)\?/.exec(it.url)?.[1] ?? '');
    expect(sent.map(decodeURIComponent).toSorted()).toEqual(odd.toSorted());
  });

  test('may be 1,000 and no more', async () => {
    s3.play(deleteAll);
    const keys = Array.from({ length: 1_001 }, (_, index) => `k${index}`);
    await expect(open().deleteObjects('bucket', keys)).rejects.toThrow(RangeError);
    expect(s3.requests).toEqual([]);
  });
});

describe('a request that fails as a whole', () => {
  test.each([
    [503, 'SlowDown', 'throttled'],
    [429, 'TooManyRequests', 'throttled'],
    [503, 'ServiceUnavailable', 'unavailable'],
    [500, 'InternalError', 'unavailable'],
    [400, 'ExpiredToken', 'credentials'],
    [403, 'InvalidAccessKeyId', 'credentials'],
    [403, 'SignatureDoesNotMatch', 'credentials'],
    [403, 'RequestTimeTooSkewed', 'credentials'],
    [403, 'AccessDenied', 'denied'],
    [404, 'NoSuchBucket', 'no-bucket'],
    [404, 'SomethingElse', 'unavailable'],
    [400, 'MalformedXML', 'malformed'],
    [400, 'InvalidRequest', 'malformed'],
    [400, 'KeyTooLongError', 'malformed'],
    [400, 'RequestTimeout', 'timeout'],
  ])('with %i %s is %s', async (status, code, kind) => {
    s3.play(refuse(status, code));
    const error = await failure(open().deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind, code, bucket: 'bucket', httpStatus: status });
    expect(error.message).toContain('as the test wants');
    expect(error.cause).toBeInstanceOf(Error);
  });

  test('with a 400 without a word is malformed', async () => {
    s3.play(reply(400, ''));
    expect((await failure(open().deleteObjects('bucket', ['a']))).kind).toBe('malformed');
  });

  test('with an error in a 200 is unavailable, and was tried again', async () => {
    s3.play(refuse(200, 'InternalError'));
    const error = await failure(open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind: 'unavailable', code: 'InternalError' });
    expect(s3.requests).toHaveLength(2);
  });

  test('with a page of a proxy is unavailable, and was tried again', async () => {
    s3.play(reply(502, '<html><body><hr>Bad gateway</body></html>'));
    const error = await failure(open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind: 'unavailable', httpStatus: 502 });
    expect(s3.requests).toHaveLength(2);
  });

  test('with a page of a proxy in a 200 is unavailable', async () => {
    s3.play(reply(200, '<html><body><hr>Welcome</body></html>'));
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
      s3.play(deleteAll);
      expect((await failure(open().deleteObjects(name, ['a']))).kind).toBe('no-bucket');
      expect(s3.requests).toEqual([]);
    },
  );
});

describe('a store that', () => {
  test.each([
    ['misses Content-MD5', refuse(400, 'MissingContentMD5')],
    ['misses it in other words', refuse(400, 'InvalidRequest', 'Missing header: Content-MD5')],
    ['refuses the new checksums', refuse(501, 'NotImplemented', 'A header is not implemented')],
  ])('%s gets one, and from then on at once', async (_name, refusal) => {
    s3.play((request, response) => {
      if (request.headers['content-md5'] === undefined) refusal(request, response);
      else deleteAll(request, response);
    });
    const opened = open();
    const report = await opened.deleteObjects('bucket', ['a']);
    expect(report.deleted).toEqual(new Set(['a']));
    await opened.deleteObjects('bucket', ['b']);
    expect(s3.requests.map((it) => it.keys)).toEqual([['a'], ['a'], ['b']]);
    const last = s3.requests[2];
    const md5 = createHash('md5')
      .update(last?.body ?? '')
      .digest('base64');
    expect(last?.headers['content-md5']).toBe(md5);
    const names = Object.keys(last?.headers ?? {});
    expect(names.filter((name) => name.includes('checksum'))).toEqual([]);
  });

  test('takes the new checksums is never sent MD5 for a batch that it refuses', async () => {
    s3.play(deleteAll);
    const opened = open();
    await opened.deleteObjects('bucket', ['a']);
    s3.play(refuse(400, 'InvalidRequest', 'something about a header'));
    await failure(opened.deleteObjects('bucket', ['a']));
    expect(s3.requests).toHaveLength(1);
  });

  test.each([
    [501, 'NotImplemented'],
    [405, 'MethodNotAllowed'],
  ])('has no DeleteObjects (%i) is asked one by one from then on', async (status, code) => {
    let inFlight = 0;
    let most = 0;
    s3.play((request, response) => {
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
    expect(report).toEqual({ deleted: new Set(keys), failures: [] });
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(8);
    await opened.deleteObjects('bucket', ['last']);
    expect(s3.requests.filter((it) => it.method === 'POST')).toHaveLength(1);
  });

  test('is elsewhere is followed to its region, and asked there from then on', async () => {
    s3.play((request, response) => {
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
    expect(s3.requests.map((it) => it.keys)).toEqual([['a'], ['a'], ['b']]);
  });

  test('wants another region in the signature gets that', async () => {
    s3.play((request, response) => {
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
    expect(report.deleted).toEqual(new Set(['a']));
  });
});

describe('one by one', () => {
  const odd = ['\u0001a', '\u0001b', '\u0001c'];

  test('a key already gone is deleted, a refused one failed, and the others go on', async () => {
    s3.play((request, response) => {
      if (request.url.includes('%01a')) refuse(404, 'NoSuchKey')(request, response);
      else if (request.url.includes('%01b')) refuse(403, 'AccessDenied')(request, response);
      else deleteAll(request, response);
    });
    const report = await open().deleteObjects('bucket', odd);
    expect(report.deleted).toEqual(new Set(['\u0001a', '\u0001c']));
    expect(report.failures).toMatchObject([
      { key: '\u0001b', code: 'AccessDenied', transient: false },
    ]);
  });

  test('one key that always breaks the store holds up no other', async () => {
    s3.play((request, response) => {
      if (request.url.includes('%01a')) refuse(500, 'InternalError')(request, response);
      else deleteAll(request, response);
    });
    const others = Array.from({ length: 30 }, (_, index) => `\u0001b${index}`);
    const report = await open().deleteObjects('bucket', ['\u0001a', ...others]);
    expect(report.deleted).toEqual(new Set(others));
    expect(report.failures).toMatchObject([
      { key: '\u0001a', code: 'InternalError', transient: true },
    ]);
  });

  test('a 404 that does not say NoSuchKey is no deletion', async () => {
    s3.play(reply(404, ''));
    expect((await failure(open().deleteObjects('bucket', odd))).kind).toBe('unavailable');
  });

  test('what concerns the bucket is asked once and fails the call', async () => {
    s3.play(refuse(404, 'NoSuchBucket'));
    const keys = Array.from({ length: 100 }, (_, index) => `\u0001${index}`);
    expect((await failure(open().deleteObjects('bucket', keys))).kind).toBe('no-bucket');
    expect(s3.requests.length).toBeLessThanOrEqual(8);
  });

  test('what was deleted together is not lost when the rest fails', async () => {
    s3.play((request, response) => {
      if (request.method === 'POST') deleteAll(request, response);
      else refuse(403, 'InvalidAccessKeyId')(request, response);
    });
    const report = await open().deleteObjects('bucket', ['plain', ...odd]);
    expect(report.deleted).toEqual(new Set(['plain']));
    expect(report.failures.map((it) => [it.key, it.transient])).toEqual(
      odd.map((it) => [it, true]),
    );
  });
});

describe('time', () => {
  const times = { maxAttempts: 2, requestTimeoutMilliseconds: 150 };

  test('has a budget that counts every attempt and the longest pauses', () => {
    expect(retryBudgetMilliseconds({ maxAttempts: 1, requestTimeoutMilliseconds: 700 })).toBe(700);
    expect(retryBudgetMilliseconds()).toBe(3 * 30_000 + 1_000 + 5_000 + 2_000 + 5_000);
    expect(retryBudgetMilliseconds({ maxAttempts: 7, requestTimeoutMilliseconds: 0 })).toBe(
      1_000 + 2_000 + 4_000 + 8_000 + 16_000 + 20_000 + 6 * 5_000,
    );
  });

  test('ends a call that is never answered, after every attempt', async () => {
    s3.play(() => undefined);
    const took = await milliseconds(async () => {
      const error = await failure(open(times).deleteObjects('bucket', ['a']));
      expect(error.kind).toBe('timeout');
    });
    expect(s3.requests).toHaveLength(2);
    expect(took).toBeLessThan(1_500);
  });

  test('ends a call whose answer is always just about to come, after every attempt', async () => {
    const promises = new Set<NodeJS.Timeout>();
    s3.play((_request, response) => {
      promises.add(setInterval(() => response.writeProcessing(), 20));
    });
    const error = await failure(open(times).deleteObjects('bucket', ['a']));
    for (const promise of promises) clearInterval(promise);
    expect(error.kind).toBe('timeout');
    expect(s3.requests).toHaveLength(2);
  });

  test('ends a call whose answer stops in the middle', async () => {
    s3.play((_request, response) => {
      response.writeHead(200, { 'content-length': '1000' }).write('<DeleteResult>');
    });
    const took = await milliseconds(async () => {
      const error = await failure(open(times).deleteObjects('bucket', ['a']));
      expect(error.kind).toBe('timeout');
    });
    expect(s3.requests).toHaveLength(2);
    expect(took).toBeLessThan(1_500);
  });

  test('ends a call whose answer only trickles, with the whole budget', async () => {
    const trickles = new Set<NodeJS.Timeout>();
    s3.play((_request, response) => {
      response.writeHead(200, { 'content-length': '100000' });
      trickles.add(setInterval(() => response.write(' '), 20));
    });
    const opened = open({ maxAttempts: 1, requestTimeoutMilliseconds: 300 });
    const took = await milliseconds(async () => {
      const error = await failure(opened.deleteObjects('bucket', ['a']));
      expect(error).toMatchObject({ kind: 'timeout', code: 'Timeout' });
    });
    for (const trickle of trickles) clearInterval(trickle);
    expect(took).toBeGreaterThanOrEqual(299);
    expect(took).toBeLessThan(1_000);
  });

  test('ends a call whose credentials never come', async () => {
    const credentials = (): Promise<never> => new Promise(() => undefined);
    const opened = open({
      maxAttempts: 1,
      requestTimeoutMilliseconds: 100,
      clientConfig: { credentials },
    });
    expect((await failure(opened.deleteObjects('bucket', ['a']))).kind).toBe('timeout');
  });

  test('ends a call to an address that does not answer at all', async () => {
    // TEST-NET-1 (RFC 5737): nobody is there, so a connection is never made, or refused on the way.
    const opened = open({
      endpoint: 'http://192.0.2.1',
      ...times,
      connectTimeoutMilliseconds: 100,
    });
    const took = await milliseconds(async () => {
      const error = await failure(opened.deleteObjects('bucket', ['a']));
      expect(['timeout', 'unavailable']).toContain(error.kind);
    });
    expect(took).toBeLessThan(1_500);
  });

  test('up in the middle of single deletes keeps what was deleted', async () => {
    s3.play((request, response) => {
      if (!request.url.includes('%01hang')) deleteAll(request, response);
    });
    const keys = ['\u0001hang', '\u0001a', '\u0001b'];
    const opened = open({ maxAttempts: 1, requestTimeoutMilliseconds: 300 });
    const report = await opened.deleteObjects('bucket', keys);
    expect(report.deleted).toEqual(new Set(['\u0001a', '\u0001b']));
    expect(report.failures).toMatchObject([{ key: '\u0001hang', transient: true }]);
  });

  test('is given up at once when the caller says so', async () => {
    const abort = new AbortController();
    s3.play(() => abort.abort());
    const call = open().deleteObjects('bucket', ['a'], { signal: abort.signal });
    expect((await failure(call)).kind).toBe('aborted');
    const late = open().deleteObjects('bucket', ['a'], { signal: abort.signal });
    expect((await failure(late)).kind).toBe('aborted');
    expect(s3.requests).toHaveLength(1);
  });

  test('is given up in the middle of single deletes, too', async () => {
    const abort = new AbortController();
    s3.play((request, response) => {
      if (request.url.includes('%01last')) abort.abort();
      else deleteAll(request, response);
    });
    const keys = Array.from({ length: 20 }, (_, index) => `\u0001${index}`);
    const call = open().deleteObjects('bucket', [...keys, '\u0001last'], abort);
    expect((await failure(call)).kind).toBe('aborted');
  });
});

describe('a connection that', () => {
  test('is cut in the middle of a reply is unavailable, and was tried again', async () => {
    s3.play((_request, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('<DeleteResult>', () => response.destroy());
    });
    const error = await failure(open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']));
    expect(error.kind).toBe('unavailable');
    expect(s3.requests).toHaveLength(2);
  });

  test('ends early without having said how long the reply is deletes nothing', async () => {
    s3.play((_request, response) => {
      const head = 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n';
      response.socket?.end(`${head}<DeleteResult>${deletedKey('a')}<Deleted>`);
    });
    expect((await failure(open().deleteObjects('bucket', ['a']))).kind).toBe('unavailable');
  });

  test('is refused is unavailable', async () => {
    const opened = open({ endpoint: 'http://127.0.0.1:1' });
    const error = await failure(opened.deleteObjects('bucket', ['a']));
    expect(error).toMatchObject({ kind: 'unavailable', code: 'ECONNREFUSED' });
  });

  test('is cut once is asked again', async () => {
    let asked = 0;
    s3.play((request, response) => {
      if ((asked += 1) === 1) response.destroy();
      else deleteAll(request, response);
    });
    const report = await open({ maxAttempts: 2 }).deleteObjects('bucket', ['a']);
    expect(report.deleted).toEqual(new Set(['a']));
  });
});

test('every request is observed, with its outcome', async () => {
  const seen: ObservedRequest[] = [];
  const opened = open({ observe: (request) => seen.push(request) });
  s3.play(deleteAll);
  await opened.deleteObjects('bucket', ['a', '\u0001']);
  s3.play(refuse(503, 'SlowDown'));
  await failure(opened.deleteObjects('bucket', ['a']));
  expect(seen.map(({ operation, bucket, outcome }) => [operation, bucket, outcome])).toEqual([
    ['DeleteObjects', 'bucket', 'ok'],
    ['DeleteObject', 'bucket', 'ok'],
    ['DeleteObjects', 'bucket', 'throttled'],
  ]);
  expect(seen.every((it) => it.milliseconds > 0)).toBe(true);
});
