import { afterAll, describe, expect, test, vi } from 'vitest';
import type { ObservedRequest } from '../../src/objects/s3/connection.ts';
import {
  deleteAll,
  deletedKey,
  deleteResult,
  refuse,
  refusedKey,
  reply,
} from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';
import { expectAllDeleted } from '../support/reports.ts';

const sdk = vi.hoisted(() => ({ loaded: false }));
vi.mock('@aws-sdk/client-s3', async (original) => {
  sdk.loaded = true;
  return original();
});

const warnings: string[] = [];
process.on('warning', (warning) => warnings.push(String(warning)));

// Any warning at all: also one of too many listeners.
afterAll(() => expect(warnings).toEqual([]));

const { open, play, requests } = useScriptedStore();

test('loads the SDK with the first call, and keeps its Node version warning to itself', async () => {
  play(deleteAll);
  expect(sdk.loaded).toBe(false);
  await open().deleteObjects('bucket', ['a']);
  expect(sdk.loaded).toBe(true);
  expect(warnings).toEqual([]);
  expect(process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED']).toBeUndefined();
});

describe('a reply to DeleteObjects', () => {
  test('deletes what it names, and asks for names', async () => {
    play(deleteAll);
    const report = await open().deleteObjects('bucket', ['a', 'b/c']);
    expectAllDeleted(report, ['a', 'b/c']);
    expect(requests()).toHaveLength(1);
    expect(requests()[0]?.body).toContain('<Quiet>false</Quiet>');
  });

  test('leaves a key unanswered that it does not name', async () => {
    play(deleteResult(deletedKey('a')));
    expect(await open().deleteObjects('bucket', ['a', 'b'])).toMatchObject({
      deleted: ['a'],
      all: false,
      failures: [{ key: 'b', code: 'Unanswered', outcome: 'unknown' }],
      unanswered: ['b'],
    });
  });

  test.each([
    ['an empty body', ''],
    ['an empty document', '<DeleteResult/>'],
    ['somebody else', '<html><body>Log in</body></html>'],
    ['an error that is not recognised as one', '<Error><Code>Strange</Code></Error>\n'],
    [
      'an error that names no key',
      '<DeleteResult><Error><Code>Strange</Code></Error></DeleteResult>',
    ],
  ])('that is %s is no answer to the request as a whole', async (_name, body) => {
    play(reply(200, body));
    const error = await failure(open({ maxAttempts: 1 }).deleteObjects('bucket', ['a', 'b']));
    expect(error.kind).toBe('unavailable');
  });

  test('that throttles every key throttles the request as a whole', async () => {
    play(deleteResult(refusedKey('a', 'SlowDown'), refusedKey('b', 'SlowDown')));
    const error = await failure(open().deleteObjects('bucket', ['a', 'b']));
    expect(error).toMatchObject({ kind: 'throttled', code: 'SlowDown' });
  });

  test('tells the faults of keys from those of the store, and takes gone for deleted', async () => {
    play(
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
    expect(new Set(report.deleted)).toEqual(new Set(['done', 'gone']));
    expect(report.failures.map(({ key, code, outcome }) => [key, code, outcome])).toEqual([
      ['denied', 'AccessDenied', 'refused'],
      ['slow', 'SlowDown', 'failed'],
      ['broken', 'InternalError', 'failed'],
    ]);
  });

  test('takes a key that is both deleted and refused as refused', async () => {
    play(deleteResult(deletedKey('a'), refusedKey('a', 'AccessDenied')));
    const report = await open().deleteObjects('bucket', ['a']);
    expect(report.deleted.length).toBe(0);
    expect(report.failures).toMatchObject([{ key: 'a', code: 'AccessDenied' }]);
  });

  test('says what an error without a key said', async () => {
    play(deleteResult('<Error><Code>Strange</Code><Message>no idea</Message></Error>'));
    const error = await failure(open().deleteObjects('bucket', ['a']));
    expect(error.code).toBe('Unanswered');
    expect(error.message).toContain('Strange: no idea');
  });

  test('that spells a key in another way has that key asked for alone', async () => {
    play((request, response) => {
      if (request.method === 'DELETE') response.writeHead(204).end();
      else deleteResult(deletedKey('plain'), deletedKey('s%20t'))(request, response);
    });
    const report = await open().deleteObjects('bucket', ['plain', 's t']);
    expectAllDeleted(report, ['plain', 's t']);
    expect(requests().map((it) => `${it.method} ${it.url}`)).toEqual([
      'POST /bucket/?delete=',
      'DELETE /bucket/s%20t?x-id=DeleteObject',
    ]);
  });

  test('that refuses every one of several keys for want of a right concerns the bucket', async () => {
    const concerned = async (...keys: readonly string[]): Promise<readonly string[]> => {
      const { failures } = await open().deleteObjects('bucket', keys);
      return failures.map(({ concerns }) => concerns);
    };
    play(deleteResult(refusedKey('a', 'AccessDenied'), refusedKey('b', 'AccessDenied')));
    expect(await concerned('a', 'b')).toEqual(['bucket', 'bucket']);
    play(deleteResult(refusedKey('a', 'AccessDenied')));
    expect(await concerned('a')).toEqual(['key']);
    play(deleteResult(refusedKey('a', 'AccessDenied'), deletedKey('b')));
    expect(await concerned('a', 'b')).toEqual(['key']);
    play(deleteResult(refusedKey('a', 'AccessDenied'), refusedKey('b', 'InvalidTag')));
    expect(await concerned('a', 'b')).toEqual(['key', 'key']);
  });

  test('that knows no bucket for its keys fails as a whole', async () => {
    play(deleteResult(refusedKey('a', 'NoSuchBucket')));
    expect((await failure(open().deleteObjects('bucket', ['a']))).kind).toBe('no-bucket');
  });
});

describe('a key that goes alone', () => {
  test.each([
    ['an empty 200', reply(200, ''), 'Unanswered', 'unknown'],
    [
      'a page of a proxy in a 200',
      reply(200, '<html><body><hr>Welcome</body></html>'),
      'Unanswered',
      'unknown',
    ],
    ['an error in a 200', refuse(200, 'InternalError'), 'InternalError', 'failed'],
    ['a 202', reply(202, ''), 'Unanswered', 'unknown'],
  ])('is not deleted by %s', async (_name, script, code, outcome) => {
    play((request, response) => {
      if (request.url.includes('%01')) script(request, response);
      else deleteAll(request, response);
    });
    const alone = await open()
      .deleteObjects('bucket', ['odd\u0001'])
      .catch((error: unknown) => ({ deleted: [], failures: [error] }));
    expect(alone).toMatchObject({ deleted: [], failures: [{ code, outcome }] });
    const report = await open().deleteObjects('bucket', ['plain', 'odd\u0001']);
    expect(new Set(report.deleted)).toEqual(new Set(['plain']));
    expect(report.failures).toMatchObject([{ key: 'odd\u0001', code, outcome }]);
  });

  test('is deleted by a 200 of a store that says so', async () => {
    play(reply(200, '', { 'x-amz-request-id': 'of the store' }));
    const report = await open().deleteObjects('bucket', ['odd\u0001']);
    expectAllDeleted(report, ['odd\u0001']);
  });
});

describe('keys', () => {
  test('given twice are sent once and reported once', async () => {
    play(deleteAll);
    const report = await open().deleteObjects('bucket', ['a', 'a', 'b', 'a']);
    expectAllDeleted(report, ['a', 'b']);
    expect(requests()[0]?.keys).toEqual(['a', 'b']);
  });

  test('that no request can carry are refused and never sent', async () => {
    play(deleteAll);
    const tooLong = 'é'.repeat(513);
    const keys = ['', tooLong, 'half \ud83d', '\ude00', 'fine'];
    const report = await open().deleteObjects('bucket', keys);
    expect(new Set(report.deleted)).toEqual(new Set(['fine']));
    expect(report.failures.map(({ key, code, outcome }) => [key, code, outcome])).toEqual([
      ['', 'EmptyKey', 'refused'],
      [tooLong, 'KeyTooLongError', 'refused'],
      ['half \ud83d', 'UnencodableKey', 'refused'],
      ['\ude00', 'UnencodableKey', 'refused'],
    ]);
    expect(report.failures.every(({ final, concerns }) => final && concerns === 'key')).toBe(true);
    expect(requests().flatMap((it) => it.keys)).toEqual(['fine']);
  });

  test('that are all refused send nothing', async () => {
    play(deleteAll);
    const report = await open().deleteObjects('bucket', ['']);
    expect(report.failures).toHaveLength(1);
    expect(requests()).toEqual([]);
  });

  test('that XML does not carry unchanged go alone', async () => {
    play(deleteAll);
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
    expect(report.deleted.length).toBe(odd.length + 4);
    const [batch, ...singles] = requests();
    expect(batch?.keys).toEqual(['plain', 'a b', '😀', '\ue000']);
    expect(singles.map((it) => it.method)).toEqual(odd.map(() => 'DELETE'));
    const sent = singles.map((it) => /^\/bucket\/(.*)\?/.exec(it.url)?.[1] ?? '');
    expect(sent.map(decodeURIComponent).toSorted()).toEqual(odd.toSorted());
  });

  test('may be 1,000 and no more', async () => {
    play(deleteAll);
    const keys = Array.from({ length: 1_001 }, (_, index) => `k${index}`);
    await expect(open().deleteObjects('bucket', keys)).rejects.toThrow(RangeError);
    expect(requests()).toEqual([]);
  });
});

test('every request is observed, with its outcome', async () => {
  const seen: ObservedRequest[] = [];
  const opened = open({ observe: (request) => seen.push(request) });
  play(deleteAll);
  await opened.deleteObjects('bucket', ['a', '\u0001']);
  play(refuse(503, 'SlowDown'));
  await failure(opened.deleteObjects('bucket', ['a']));
  expect(seen.map(({ operation, bucket, outcome }) => [operation, bucket, outcome])).toEqual([
    ['DeleteObjects', 'bucket', 'ok'],
    ['DeleteObject', 'bucket', 'ok'],
    ['DeleteObjects', 'bucket', 'throttled'],
  ]);
  expect(seen.every((it) => it.milliseconds > 0)).toBe(true);
});
