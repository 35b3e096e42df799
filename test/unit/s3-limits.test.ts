import { describe, expect, test } from 'vitest';
import type { DeletionReport } from '../../src/objects/deletion-report.ts';
import { type Script, deleteAll, refuse, reply } from '../support/scripted-s3.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';
import { expectAllDeleted } from '../support/reports.ts';

const { open, play, requests } = useScriptedStore();

const KEYS = Array.from({ length: 1_000 }, (_, index) => `key-${index}`);

const HTML = reply(400, '<html><body>Bad Request</body></html>', { 'content-type': 'text/html' });

/** Takes at most so many keys with one request. */
function atMost(limit: number, refusal: Script): Script {
  return (request, response) => {
    const answer = request.keys.length > limit ? refusal : deleteAll;
    answer(request, response);
  };
}

/** Refuses each DeleteObjects that holds one of these keys. */
function refuseKeys(bad: ReadonlySet<string>, refusal: Script): Script {
  return (request, response) => {
    const isBad =
      request.method === 'DELETE'
        ? [...bad].some((key) => request.url.includes(`/${key}?`))
        : request.keys.some((key) => bad.has(key));
    (isBad ? refusal : deleteAll)(request, response);
  };
}

function learnedKeys(report: DeletionReport): number | null | undefined {
  return report.learned?.habits.keys_per_request;
}

describe('a store that takes fewer keys than S3', () => {
  test.each([
    ['MalformedXML', 100, refuse(400, 'MalformedXML')],
    ['InvalidRequest', 500, refuse(400, 'InvalidRequest', 'too many objects')],
    ['a code of its own', 999, refuse(400, 'TooManyObjectsInRequest')],
    ['MaxMessageLengthExceeded', 250, refuse(400, 'MaxMessageLengthExceeded')],
    ['a 413', 10, reply(413, '<html>Request Entity Too Large</html>')],
    ["a proxy's page with a 400", 3, HTML],
    ['a 422', 4, refuse(422, 'Unprocessable')],
  ])(
    'and says so with %s (%i) deletes all, and its limit is kept',
    async (_name, limit, refusal) => {
      play(atMost(limit, refusal));
      const keys = KEYS.slice(0, limit * 30);
      const report = await open().deleteObjects('bucket', keys);
      expectAllDeleted(report, keys);
      const learned = learnedKeys(report) ?? 0;
      expect(learned).toBeLessThanOrEqual(limit);
      expect(learned).toBeGreaterThan(limit / 2 - 1);
    },
  );

  test('is asked no more often than its limit wants, beside the halving', async () => {
    play(atMost(100, refuse(400, 'MalformedXML')));
    await open().deleteObjects('bucket', KEYS);
    const refused = requests().filter(({ keys }) => keys.length > 100);
    // 1,000, 500, 250 and 125, and one of them again to be sure.
    expect(refused).toHaveLength(5);
  });

  test('is sent no more than it takes from then on', async () => {
    play(atMost(100, refuse(400, 'MalformedXML')));
    const opened = open();
    const { learned } = await opened.deleteObjects('bucket', KEYS);
    play(atMost(100, refuse(400, 'MalformedXML')));
    const limit = Number(learned?.habits.keys_per_request);
    const report = await opened.deleteObjects('bucket', KEYS, {
      habits: { keys_per_request: limit },
    });
    expectAllDeleted(report, KEYS);
    expect(report.learned).toBeUndefined();
    expect(Math.max(...requests().map(({ keys }) => keys.length))).toBe(limit);
  });

  test('and has a bad key as well deletes the others, and its limit is kept', async () => {
    const bad = new Set(['key-7']);
    const refusal = refuse(400, 'MalformedXML');
    const bads = refuseKeys(bad, refusal);
    play((request, response) => (request.keys.length > 100 ? refusal : bads)(request, response));
    const report = await open().deleteObjects('bucket', KEYS);
    expect(report.deleted).toHaveLength(999);
    expect(report.failures).toMatchObject([{ key: 'key-7', outcome: 'refused', concerns: 'key' }]);
    expect(learnedKeys(report)).toBeGreaterThan(49);
    expect(learnedKeys(report)).toBeLessThanOrEqual(100);
  });
});

describe('a bad key', () => {
  test.each([['key-0'], ['key-500'], ['key-999']])(
    'that makes its request malformed (%s) is no limit: it fails alone',
    async (key) => {
      play(refuseKeys(new Set([key]), refuse(400, 'MalformedXML')));
      const report = await open().deleteObjects('bucket', KEYS);
      expect(report.deleted).toHaveLength(999);
      expect(report.failures).toMatchObject([{ key, outcome: 'refused', concerns: 'key' }]);
      expect(report.learned).toBeUndefined();
    },
  );

  test('is one of forty at the front, and the others are deleted', async () => {
    const bad = new Set(KEYS.slice(0, 40));
    play(refuseKeys(bad, refuse(400, 'InvalidRequest', 'no')));
    const report = await open().deleteObjects('bucket', KEYS);
    expect(new Set(report.failures.map(({ key }) => key))).toEqual(bad);
    expect(report.deleted).toHaveLength(960);
    expect(report.learned).toBeUndefined();
  });

  test('that only DeleteObjects cannot name is deleted alone', async () => {
    play((request, response) =>
      (request.keys.includes('key-3') ? refuse(400, 'MalformedXML') : deleteAll)(request, response),
    );
    const report = await open().deleteObjects('bucket', KEYS);
    expectAllDeleted(report, KEYS);
    expect(report.learned).toBeUndefined();
  });
});

test('a refusal that does not come again is no limit', async () => {
  let isFirst = true;
  play((request, response) => {
    const answer = isFirst ? HTML : deleteAll;
    isFirst = false;
    answer(request, response);
  });
  const report = await open().deleteObjects('bucket', KEYS);
  expectAllDeleted(report, KEYS);
  expect(report.learned).toBeUndefined();
});

test('a store that refuses whatever it is asked buries nothing, and is soon left alone', async () => {
  play(refuse(400, 'MalformedXML'));
  const error = await failure(open().deleteObjects('bucket', KEYS));
  expect(error).toMatchObject({ kind: 'malformed', outcome: 'failed', concerns: 'bucket' });
  expect(requests().length).toBeLessThan(60);
});

describe('a store without DeleteObjects that says so with', () => {
  test.each([
    ['a 400 InvalidArgument', refuse(400, 'InvalidArgument', 'Cannot create buckets using a POST')],
    ['a 400 NotImplemented', refuse(400, 'NotImplemented', 'A header or query is not implemented')],
    ['a 404 of no bucket', reply(404, '<html>not found</html>')],
    ['a 400 without a word', reply(400, '')],
    ['a 405', refuse(405, 'MethodNotAllowed')],
    ['a 501', refuse(501, 'NotImplemented')],
  ])('%s is asked one by one, and that is kept', async (_name, refusal) => {
    play((request, response) =>
      (request.method === 'POST' ? refusal : deleteAll)(request, response),
    );
    const keys = KEYS.slice(0, 60);
    const report = await open().deleteObjects('bucket', keys);
    expectAllDeleted(report, keys);
    expect(report.learned?.habits).toEqual({ deletes: 'singly' });
    play((request, response) =>
      (request.method === 'POST' ? refusal : deleteAll)(request, response),
    );
    await open().deleteObjects('bucket', ['a', 'b'], { habits: { deletes: 'singly' } });
    expect(requests().map(({ method }) => method)).toEqual(['DELETE', 'DELETE']);
  });
});

describe('a store that is slow for each key', () => {
  /** Answers after so long for each key, unless the client hangs up. */
  function slow(millisecondsAKey: number): Script {
    return (request, response) => {
      const timer = setTimeout(
        () => deleteAll(request, response),
        request.keys.length * millisecondsAKey,
      );
      response.on('close', () => clearTimeout(timer));
    };
  }

  test('is sent half as many after a timeout, until they come through', async () => {
    play(slow(2));
    const opened = open({ requestTimeoutMilliseconds: 700 });
    const error = await failure(opened.deleteObjects('bucket', KEYS));
    expect(error.learned?.habits).toEqual({ keys_in_time: 500 });
    const second = await failure(
      opened.deleteObjects('bucket', KEYS, { habits: { keys_in_time: 500 } }),
    );
    expect(second.learned?.habits).toEqual({ keys_in_time: 250 });
    const keys = KEYS.slice(0, 250);
    const report = await opened.deleteObjects('bucket', keys, { habits: { keys_in_time: 250 } });
    expectAllDeleted(report, keys);
    expect(report.learned).toBeUndefined();
  });

  test('and has become fast gets more again, and in the end all', async () => {
    play(deleteAll);
    const opened = open({ requestTimeoutMilliseconds: 30_000 });
    const habits = { keys_in_time: 20 };
    const report = await opened.deleteObjects('bucket', KEYS.slice(0, 20), { habits });
    expect(report.learned?.habits).toEqual({ keys_in_time: 160 });
    const more = await opened.deleteObjects('bucket', KEYS.slice(0, 160), {
      habits: { keys_in_time: 160 },
    });
    expect(more.learned?.habits).toEqual({ keys_in_time: null });
  });

  test('is not taken for one that cannot be reached', async () => {
    const opened = open({ endpoint: 'http://127.0.0.1:1' });
    const error = await failure(opened.deleteObjects('bucket', KEYS));
    expect(error.learned).toBeUndefined();
  });

  test('behind a gateway that does not wait is sent fewer as well', async () => {
    play(reply(504, '<html>Gateway Time-out</html>'));
    const error = await failure(open().deleteObjects('bucket', KEYS));
    expect(error.learned?.habits).toEqual({ keys_in_time: 500 });
  });
});

test('a limit set by hand is kept to, whatever the store would take', async () => {
  play(deleteAll);
  await open().deleteObjects('bucket', KEYS.slice(0, 25), { habits: { keys_per_request: 10 } });
  expect(requests().map(({ keys }) => keys.length)).toEqual([10, 10, 5]);
});
