import { describe, expect, test } from 'vitest';
import {
  type Script,
  deletedKey,
  deleteResult,
  refuse,
  refusedKey,
  reply,
} from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';

const { open, play, requests } = useScriptedStore();

const ETAGS = new Map([
  ['a', 'etag-a'],
  ['b&c', 'etag-b'],
]);

const isPost = (method: string): boolean => method === 'POST';

describe('an etag beside a key', () => {
  test('goes with it in one DeleteObjects request, in quotes, and the others go without', async () => {
    play((request, response) => deleteResult(...request.keys.map(deletedKey))(request, response));
    const report = await open().deleteObjects('bucket', ['a', 'b&c', 'd'], { etags: ETAGS });
    expect(report).toMatchObject({ all: true, deleted: ['a', 'b&c', 'd'] });
    expect(requests()).toHaveLength(1);
    expect(requests()[0]?.body).toContain(
      '<Object><Key>a</Key><ETag>&quot;etag-a&quot;</ETag></Object>' +
        '<Object><Key>b&amp;c</Key><ETag>&quot;etag-b&quot;</ETag></Object>' +
        '<Object><Key>d</Key></Object>',
    );
  });

  test('goes as If-Match where a key goes alone', async () => {
    play((_request, response) => void response.writeHead(204).end());
    const etags = new Map([['odd\n', 'etag-odd']]);
    const report = await open().deleteObjects('bucket', ['odd\n'], { etags });
    expect(report.all).toBe(true);
    expect(requests()).toMatchObject([{ method: 'DELETE', headers: { 'if-match': '"etag-odd"' } }]);
  });

  test('goes as If-Match where the store deletes one key a request', async () => {
    play((_request, response) => void response.writeHead(204).end());
    await open().deleteObjects('bucket', ['a', 'd'], {
      etags: ETAGS,
      habits: { deletes: 'singly' },
    });
    const sent = requests().map(({ headers }) => headers['if-match']);
    expect(new Set(sent)).toEqual(new Set(['"etag-a"', undefined]));
  });

  test('stays where DeleteObjects is not there and each key goes alone', async () => {
    play((request, response) => {
      if (isPost(request.method)) refuse(501, 'NotImplemented')(request, response);
      else response.writeHead(204).end();
    });
    const report = await open().deleteObjects('bucket', ['a', 'b&c'], { etags: ETAGS });
    expect(report).toMatchObject({ all: true, learned: { habits: { deletes: 'singly' } } });
    const singles = requests().filter(({ method }) => method === 'DELETE');
    expect(
      singles
        .map(({ headers }) => headers['if-match'] ?? '')
        .toSorted((a, b) => a.localeCompare(b)),
    ).toEqual(['"etag-a"', '"etag-b"']);
  });

  test('stays where a request is refused whole and goes in parts', async () => {
    play((request, response) => {
      if (request.keys.length > 1) refuse(400, 'MalformedXML')(request, response);
      else deleteResult(...request.keys.map(deletedKey))(request, response);
    });
    await open().deleteObjects('bucket', ['a', 'b&c'], { etags: ETAGS });
    for (const { body, keys } of requests()) {
      expect(body.match(/<ETag>/gu)).toHaveLength(keys.length);
    }
  });
});

describe('another version in the store', () => {
  const changed = { outcome: 'changed', concerns: 'key', final: false };

  /** Answers the look at an object. */
  const look =
    (answer: Script): Script =>
    (request, response) => {
      if (isPost(request.method)) {
        deleteResult(deletedKey('d'), refusedKey('a', 'PreconditionFailed'))(request, response);
      } else answer(request, response);
    };

  test('is kept: the key has changed, and the others go', async () => {
    play(look(reply(200, '')));
    const report = await open().deleteObjects('bucket', ['a', 'd'], { etags: ETAGS });
    expect(report.deleted).toEqual(['d']);
    expect(report.failures).toMatchObject([
      {
        key: 'a',
        code: 'PreconditionFailed',
        reason: expect.stringContaining('object changed') as string,
        ...changed,
      },
    ]);
    expect(report.learned).toBeUndefined();
  });

  test('is kept where a key goes alone', async () => {
    play((request, response) => {
      if (request.method === 'HEAD') response.writeHead(200).end();
      else refuse(412, 'PreconditionFailed')(request, response);
    });
    const habits = { deletes: 'singly' } as const;
    const report = await open().deleteObjects('bucket', ['a'], { etags: ETAGS, habits });
    expect(report.failures).toMatchObject([{ key: 'a', ...changed }]);
  });

  test('of all keys of a batch is asked about once, where the bucket keeps no versions', async () => {
    const keys = Array.from({ length: 100 }, (_, at) => `k${at}`);
    play((request, response) => {
      if (!isPost(request.method)) response.writeHead(200).end();
      else {
        deleteResult(...request.keys.map((key) => refusedKey(key, 'PreconditionFailed')))(
          request,
          response,
        );
      }
    });
    const etags = new Map(keys.map((key) => [key, 'old']));
    const report = await open().deleteObjects('bucket', keys, { etags });
    expect(report.failures).toHaveLength(100);
    expect(report.failures.every(({ outcome }) => outcome === 'changed')).toBe(true);
    expect(requests().map(({ method }) => method)).toEqual(['POST', 'HEAD']);
  });

  test('is none where only a delete marker is left: the key is gone already', async () => {
    play((request, response) => {
      if (isPost(request.method)) {
        deleteResult(
          refusedKey('a', 'PreconditionFailed'),
          refusedKey('b&amp;c', 'PreconditionFailed'),
        )(request, response);
      } else if (request.method === 'HEAD' && request.url.includes('/a')) {
        response.writeHead(200, { 'x-amz-version-id': 'v2' }).end();
      } else if (request.method === 'HEAD') {
        response.writeHead(404, { 'x-amz-delete-marker': 'true' }).end();
      } else {
        reply(200, '<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>')(
          request,
          response,
        );
      }
    });
    const report = await open().deleteObjects('bucket', ['a', 'b&c'], { etags: ETAGS });
    expect(report.deleted).toEqual(['b&c']);
    expect(report.failures).toMatchObject([{ key: 'a', ...changed }]);
  });

  test('that may not be looked at is kept', async () => {
    play(look(refuse(403, 'AccessDenied')));
    const report = await open().deleteObjects('bucket', ['a', 'd'], { etags: ETAGS });
    expect(report.failures).toMatchObject([{ key: 'a', ...changed }]);
  });

  test('is not what PreconditionFailed means of a key that names none', async () => {
    play(deleteResult(deletedKey('a'), refusedKey('d', 'PreconditionFailed')));
    const report = await open().deleteObjects('bucket', ['a', 'd'], { etags: ETAGS });
    expect(report.failures).toMatchObject([{ key: 'd', outcome: 'failed' }]);
  });

  test('that is being written is tried again, and not taken for changed', async () => {
    play(deleteResult(deletedKey('d'), refusedKey('a', 'ConditionalRequestConflict')));
    const report = await open().deleteObjects('bucket', ['a', 'd'], { etags: ETAGS });
    expect(report.failures).toMatchObject([{ key: 'a', outcome: 'failed', concerns: 'key' }]);
  });

  test('a key that is gone is gone, with an etag as without', async () => {
    play(deleteResult(deletedKey('d'), refusedKey('a', 'NoSuchKey')));
    const report = await open().deleteObjects('bucket', ['a', 'd'], { etags: ETAGS });
    expect(report).toMatchObject({ all: true, failures: [] });
  });
});

describe('a store that knows no etags in deletions', () => {
  test.each([
    ['501 NotImplemented', 'NotImplemented', 501],
    ['400 NotImplemented', 'NotImplemented', 400],
    ['405 MethodNotAllowed', 'MethodNotAllowed', 405],
  ])(
    'and says %s deletes nothing: it is learned, and a person decides',
    async (_said, code, status) => {
      play((request, response) => {
        const isConditional =
          request.headers['if-match'] !== undefined || request.body.includes('<ETag>');
        if (isConditional) refuse(status, code)(request, response);
        else response.writeHead(204).end();
      });
      const error = await failure(open().deleteObjects('bucket', ['a', 'b&c'], { etags: ETAGS }));
      expect(error).toMatchObject({
        code: 'ConditionRefused',
        outcome: 'failed',
        concerns: 'bucket',
        reason: expect.stringContaining(
          'retention bucket set bucket --conditional ignore',
        ) as string,
        learned: { habits: { conditional: 'refused' } },
      });
      expect(error.learned?.habits).not.toHaveProperty('deletes');
      for (const { headers, body } of requests()) {
        expect(headers['if-match'] ?? body).toMatch(/etag-/u);
      }
    },
  );

  test('is not asked again while that is known, and keys without an etag go', async () => {
    play((request, response) => deleteResult(...request.keys.map(deletedKey))(request, response));
    const habits = { conditional: 'refused' } as const;
    const store = open();
    const error = await failure(
      store.deleteObjects('bucket', ['a', 'd'], { etags: ETAGS, habits }),
    );
    expect(error.code).toBe('ConditionRefused');
    expect(requests()).toHaveLength(0);
    expect(await store.deleteObjects('bucket', ['d'], { etags: new Map(), habits })).toMatchObject({
      all: true,
    });
  });

  test('fails the keys that name one, and deletes the others', async () => {
    play((request, response) => {
      if (isPost(request.method)) refuse(501, 'NotImplemented')(request, response);
      else if (request.headers['if-match'] === undefined) response.writeHead(204).end();
      else refuse(501, 'NotImplemented')(request, response);
    });
    const report = await open().deleteObjects('bucket', ['a', 'd'], { etags: ETAGS });
    expect(report.deleted).toEqual(['d']);
    expect(report.failures).toMatchObject([
      { key: 'a', code: 'ConditionRefused', outcome: 'failed', concerns: 'bucket' },
    ]);
    expect(report.learned?.habits).toMatchObject({ conditional: 'refused' });
  });
});
