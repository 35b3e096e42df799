import { describe, expect, test } from 'vitest';
import { reply, refuse, type Script } from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';
import { expectAllDeleted } from '../support/reports.ts';

// What servers do only on bad days. The contract suite has what they do on all others.

const { requests, play, open } = useScriptedStore();

function listing(...keys: readonly string[]): Script {
  const contents = keys.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`);
  const rest = '<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>';
  return reply(200, `<ListBucketResult>${rest}${contents.join('')}</ListBucketResult>`);
}

function versions(...entries: readonly (readonly [key: string, id: string])[]): Script {
  const content = entries.map(
    ([key, id], at) =>
      `<Version><Key>${key}</Key><VersionId>${id}</VersionId><IsLatest>${at === 0}</IsLatest></Version>`,
  );
  return reply(200, `<ListVersionsResult>${content.join('')}</ListVersionsResult>`);
}

/** Plays one script after another, and the last for ever. */
function inTurn(...scripts: readonly Script[]): Script {
  let turn = 0;
  return (request, response) => {
    const script = scripts[Math.min(turn, scripts.length - 1)];
    turn += 1;
    script?.(request, response);
  };
}

/** Answers by what is asked for: method and subresource, such as `GET versions`. */
function byRequest(scripts: Readonly<Record<string, Script>>): Script {
  return (request, response) => {
    const subresource = /\?(?:.*&)?(delete|versions|retention|legal-hold)\b/.exec(request.url)?.[1];
    const script = scripts[`${request.method} ${subresource ?? ''}`.trim()];
    (script ?? refuse(501, 'NotImplemented'))(request, response);
  };
}

async function drain(pages: AsyncIterable<unknown>): Promise<void> {
  for await (const page of pages) expect(page).toBeDefined();
}

test('a listing that does not go on, or not in order, ends with an error', async () => {
  for (const script of [listing('a', 'b'), listing('b', 'a'), listing()]) {
    play(script);
    const error = await failure(drain(open().listing.listObjects('results')));
    expect(error).toMatchObject({ kind: 'malformed', code: 'UnsortedListing' });
    expect(requests().length).toBeLessThanOrEqual(2);
  }
});

test('a listing in no order goes on with the token of each page', async () => {
  const page = (keys: readonly string[], token?: string) =>
    reply(
      200,
      `<ListBucketResult><IsTruncated>${token !== undefined}</IsTruncated>${keys
        .map((key) => `<Contents><Key>${key}</Key></Contents>`)
        .join(
          '',
        )}${token === undefined ? '' : `<NextContinuationToken>${token}</NextContinuationToken>`}</ListBucketResult>`,
    );
  const read = async (token?: string): Promise<unknown[]> => {
    const pages: unknown[] = [];
    const asked = open().listing.listUnsorted?.('results', { prefix: 'k', token }) ?? [];
    for await (const { objects, token: next } of asked) {
      pages.push([objects.map(({ key }) => key), next]);
    }
    return pages;
  };
  play(inTurn(page(['k2', 'k9', 'x'], 'one'), page(['k1'])));
  expect(await read()).toEqual([
    [['k2', 'k9'], 'one'],
    [['k1'], undefined],
  ]);
  expect(requests()[1]?.url).toContain('continuation-token=one');
  play(page(['k1']));
  await read('one');
  expect(requests()[0]?.url).toContain('continuation-token=one');
  // The same token for ever.
  play(page(['k1'], 'one'));
  await expect(read()).rejects.toMatchObject({ code: 'UnsortedListing' });
});

test('an object is looked at without a listing, by its first byte', async () => {
  const look = () => open().listing.headObject('results', 'a', { without: 'listing' });
  play(reply(206, 'x', { 'x-amz-version-id': 'v1' }));
  expect(await look()).toMatchObject({ state: 'exists', versionId: 'v1' });
  for (const [script, state] of [
    [refuse(404, 'NoSuchKey'), 'gone'],
    [refuse(416, 'InvalidRange'), 'exists'],
    [refuse(403, 'InvalidObjectState'), 'exists'],
    [refuse(403, 'AccessDenied'), 'denied'],
  ] as const) {
    play(script);
    expect(await look()).toMatchObject({ state });
    expect(requests().map(({ method, headers }) => [method, headers.range])).toEqual([
      ['GET', 'bytes=0-0'],
    ]);
  }
  play(refuse(404, 'NoSuchBucket'));
  await expect(look()).rejects.toMatchObject({ kind: 'no-bucket' });
});

test('a listing of more than UTF-8 ends with an error that shows the key', async () => {
  play(listing('a', 'b%FF'));
  const error = await failure(drain(open().listing.listObjects('results')));
  expect(error).toMatchObject({ kind: 'malformed', code: 'UndecodableKey' });
  expect(error.message).toContain('b%FF');
});

test('a listing whose consumer stops asks for no more', async () => {
  play(listing('a'));
  const pages = open().listing.listObjects('results')[Symbol.asyncIterator]();
  expect((await pages.next()).value).toHaveLength(1);
  await pages.return?.();
  expect(requests()).toHaveLength(1);
});

test('looking at a key follows the bucket to its region, also without a code to go by', async () => {
  for (const status of [301, 400]) {
    play((request, response) => {
      if (request.headers.authorization?.includes('/eu-west-3/')) {
        response.writeHead(200, { 'content-length': '3' }).end();
      } else response.writeHead(status, { 'x-amz-bucket-region': 'eu-west-3' }).end();
    });
    const state = await open().listing.headObject('results', 'a');
    expect(state).toMatchObject({ state: 'exists', size: 3 });
    expect(requests()).toHaveLength(2);
  }
});

test('looking at a key takes no broken answer for a missing object', async () => {
  play(refuse(503, 'SlowDown'));
  expect(await failure(open().listing.headObject('results', 'a'))).toMatchObject({
    httpStatus: 503,
  });
});

test('neither looking nor listing allowed is told apart from gone', async () => {
  play(refuse(403, 'AccessDenied'));
  const state = await open().listing.headObject('results', 'a');
  expect(state).toMatchObject({ state: 'denied', missingAction: 's3:GetObject' });
});

test('a bucket that does not answer is not reachable, and is asked nothing more', async () => {
  play(refuse(503, 'ServiceUnavailable'));
  const description = await open().inspection.describeBucket('results');
  expect(description).toMatchObject({ reachable: false, lifecycle: 'unknown' });
  expect(requests()).toHaveLength(1);
});

test('a store that knows no settings has none', async () => {
  play((request, response) => {
    if (request.method === 'HEAD') response.writeHead(200).end();
    else refuse(501, 'NotImplemented')(request, response);
  });
  expect(await open().inspection.describeBucket('results')).toMatchObject({
    versioning: 'off',
    objectLock: false,
    lifecycle: [],
    problems: [],
  });
});

test('a version under legal hold is locked without a date', async () => {
  const refusal = `<Error><Key>a</Key><VersionId>v1</VersionId><Code>AccessDenied</Code></Error>`;
  play(
    byRequest({
      'GET versions': versions(['a', 'v1']),
      'POST delete': reply(200, `<DeleteResult>${refusal}</DeleteResult>`),
      'GET retention': refuse(404, 'NoSuchObjectLockConfiguration'),
      'GET legal-hold': reply(200, '<LegalHold><Status>ON</Status></LegalHold>'),
    }),
  );
  const { failures } = await open().versions.purgeKeys('results', ['a']);
  expect(failures).toMatchObject([{ key: 'a', code: 'ObjectLocked', outcome: 'refused' }]);
  expect(failures[0]?.reason).toContain('legal hold');
});

test('a version written while its key is purged keeps the key from counting', async () => {
  const deleted = '<Deleted><Key>a</Key><VersionId>v1</VersionId></Deleted>';
  play(
    byRequest({
      'GET versions': inTurn(versions(['a', 'v1']), versions(['a', 'v2'])),
      'POST delete': reply(200, `<DeleteResult>${deleted}</DeleteResult>`),
    }),
  );
  const report = await open().versions.purgeKeys('results', ['a']);
  expect(report.deleted.length).toBe(0);
  expect(report.failures).toMatchObject([{ code: 'VersionsLeft', outcome: 'failed' }]);
});

test('a version that the reply leaves out is not purged, and its key keeps the current one', async () => {
  play(
    byRequest({
      'GET versions': versions(['a', 'v2'], ['a', 'v1']),
      'POST delete': reply(200, '<DeleteResult></DeleteResult>'),
    }),
  );
  const report = await open().versions.purgeKeys('results', ['a']);
  expect(report.deleted.length).toBe(0);
  expect(report.failures).toMatchObject([{ code: 'Unanswered', outcome: 'unknown' }]);
  const deletions = requests().filter((it) => it.method === 'POST');
  expect(deletions.map((it) => it.body.includes('v2'))).toEqual([false]);
});

test('a store without DeleteObjects is purged version by version', async () => {
  play(
    byRequest({
      'GET versions': inTurn(versions(['a', 'v2'], ['a', 'v1']), versions()),
      DELETE: (_request, response) => response.writeHead(204).end(),
    }),
  );
  const report = await open().versions.purgeKeys('results', ['a']);
  expectAllDeleted(report, ['a']);
  const single = requests().filter((it) => it.method === 'DELETE');
  expect(single.map((it) => /versionId=(\w+)/.exec(it.url)?.[1])).toEqual(['v1', 'v2']);
});

test('1,001 keys are more than a purge takes', async () => {
  const keys = Array.from({ length: 1_001 }, (_, at) => `${at}`);
  await expect(open().versions.purgeKeys('results', keys)).rejects.toThrow(RangeError);
});

test('a purge that is slowed down half way tells what it has done', async () => {
  const keys = Array.from({ length: 300 }, (_, at) => `key-${at}`);
  const lists = inTurn(...keys.slice(0, 250).map(() => versions()), refuse(503, 'SlowDown'));
  play(byRequest({ 'GET versions': lists }));
  const { deleted, failures } = await open().versions.purgeKeys('results', keys);
  expect(new Set(deleted)).toEqual(new Set(keys.slice(0, 250)));
  expect(failures).toHaveLength(50);
  expect(failures[0]).toMatchObject({ code: 'SlowDown', outcome: 'failed' });
});

describe('a listing', () => {
  /** One page, as a store writes it. */
  function page(contents: string, more = '<IsTruncated>false</IsTruncated>') {
    return reply(200, `<ListBucketResult>${more}${contents}</ListBucketResult>`);
  }

  async function list(request = {}) {
    const objects = [];
    for await (const some of open().listing.listObjects('bucket', request)) objects.push(...some);
    return objects;
  }

  test('whose entry has no date takes it for young', async () => {
    play(page('<Contents><Key>a</Key><Size>1</Size></Contents>'));
    const before = Date.now();
    const [object] = await list();
    expect(object?.lastModified.getTime()).toBeGreaterThanOrEqual(before);
  });

  test.each([
    ['of 1970', '<LastModified>1970-01-01T00:00:00.000Z</LastModified>'],
    ['of the year 1', '<LastModified>0001-01-01T00:00:00Z</LastModified>'],
    ['of the future', '<LastModified>2999-01-01T00:00:00.000Z</LastModified>'],
  ])('whose entry is %s takes it for young', async (_name, date) => {
    play(page(`<Contents><Key>a</Key>${date}<Size>1</Size></Contents>`));
    const before = Date.now();
    const [object] = await list();
    expect(object?.lastModified.getTime()).toBeGreaterThanOrEqual(before);
  });

  test('without sizes, tags and a right count has its keys', async () => {
    play(page('<KeyCount>7</KeyCount><Contents><Key>a</Key><ETag></ETag></Contents>'));
    expect(await list()).toMatchObject([{ key: 'a', size: 0 }]);
  });

  test('that names a key twice has it once', async () => {
    const twice = '<Contents><Key>a</Key></Contents>'.repeat(2);
    play(page(`${twice}<Contents><Key>b</Key></Contents>`));
    expect((await list()).map(({ key }) => key)).toEqual(['a', 'b']);
  });

  test('of a store that does not know prefixes has only what was asked for', async () => {
    play(page('<Contents><Key>a/1</Key></Contents><Contents><Key>b/1</Key></Contents>'));
    expect((await list({ prefix: 'b/' })).map(({ key }) => key)).toEqual(['b/1']);
  });

  test('whose keys are written as in URLs has them as they are', async () => {
    play(
      page('<EncodingType>url</EncodingType><Contents><Key>a%2Bb+c%20d/%C3%BC</Key></Contents>'),
    );
    expect((await list()).map(({ key }) => key)).toEqual(['a+b c d/ü']);
  });

  test('that says that there is more for ever ends', async () => {
    play(page('<Contents><Key>a</Key></Contents>', '<IsTruncated>true</IsTruncated>'));
    await expect(list()).rejects.toMatchObject({ code: 'UnsortedListing' });
    expect(requests()).toHaveLength(2);
    play(page('', '<IsTruncated>true</IsTruncated>'));
    await expect(list()).rejects.toMatchObject({ code: 'UnsortedListing' });
  });

  test.each([
    ['a token', '<NextContinuationToken>x</NextContinuationToken>', 1_000],
    ['a full page', '', 1],
  ])('that only tells by %s that there is more is read on', async (_name, more, pageSize) => {
    play((request, response) => {
      const isFirst = !request.url.includes('start-after');
      const answer = isFirst ? page('<Contents><Key>a</Key></Contents>', more) : page('', '');
      answer(request, response);
    });
    expect((await list({ pageSize })).map(({ key }) => key)).toEqual(['a']);
    expect(requests()).toHaveLength(2);
  });
});
