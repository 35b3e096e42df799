import { describe, expect, test } from 'vitest';
import type { S3ObjectStoreOptions } from '../../src/objects/s3/connection.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';
import {
  type Script,
  deleteAll,
  deletedKey,
  deleteResult,
  refuse,
  refusedKey,
  reply,
} from '../support/scripted-s3.ts';
import { useScriptedStore } from '../support/scripted-store.ts';

const { open, play, requests } = useScriptedStore();
const IMPATIENT = { requestTimeoutMilliseconds: 150 };
const ODD = '\u0001odd';

/** The keys that the store may still be at after a call, whatever it came to. */
async function unansweredOf(
  keys: readonly string[],
  options: S3ObjectStoreOptions = {},
): Promise<string[]> {
  const store = open(options);
  // Else a first call may spend its time on loading the SDK, and send nothing.
  await store.prepare();
  const { unanswered } = await store.deleteObjects('bucket', keys).catch(theError);
  return unanswered.toSorted();
}

/** The store's error, which tells of unanswered keys as a report does. */
function theError(error: unknown): ObjectStoreError {
  if (error instanceof ObjectStoreError) return error;
  throw error;
}

/** Plays one script after the other, and the last of them from then on. */
function inTurn(...scripts: readonly Script[]): Script {
  let turn = 0;
  return (request, response) => {
    const script = scripts[Math.min(turn, scripts.length - 1)] ?? deleteAll;
    turn += 1;
    script(request, response);
  };
}

const hang: Script = () => undefined;
const cut: Script = (_request, response) => response.destroy();

describe('a request that the store may still be at', () => {
  test.each<[string, Script]>([
    ['timed out', hang],
    ['was cut off', cut],
    [
      'was cut off in the middle of its reply',
      (_request, response) => {
        response.writeHead(200, { 'content-length': '1000' });
        response.write('<DeleteResult>', () => response.destroy());
      },
    ],
    ['was answered by a gateway', reply(504, '<html><body>Gateway Timeout</body></html>')],
    ['was answered by nobody in particular', reply(503, '')],
    ['was answered with a page in a 200', reply(200, '<html><body><hr>Welcome</body></html>')],
    ['was answered with an empty 200', reply(200, '')],
  ])('is one that %s', async (_, script) => {
    play(script);
    expect(await unansweredOf(['a', 'b'], IMPATIENT)).toEqual(['a', 'b']);
    play(script);
    expect(await unansweredOf([ODD], IMPATIENT)).toEqual([ODD]);
  });

  test.each<[string, Script]>([
    ['refused as too many', refuse(503, 'SlowDown')],
    ['broken in the store', refuse(500, 'InternalError')],
    ['broken in a 200', refuse(200, 'InternalError')],
    ['forbidden', refuse(403, 'AccessDenied')],
    ['malformed', refuse(400, 'MalformedXML')],
    ['refused by somebody between', reply(403, '<html>no</html>')],
    ['done', deleteAll],
  ])('is none that is %s', async (_, script) => {
    play(script);
    expect(await unansweredOf(['a', ODD], { ...IMPATIENT, maxAttempts: 2 })).toEqual([]);
    expect(requests()).not.toEqual([]);
  });

  test.each<[string, Script]>([
    ['refused', refuse(503, 'SlowDown')],
    ['forbidden', refuse(403, 'AccessDenied')],
    ['done', deleteAll],
  ])('is also an earlier attempt of one that is then %s', async (_, then) => {
    for (const key of ['a', ODD]) {
      play(inTurn(hang, then));
      expect(await unansweredOf([key], { ...IMPATIENT, maxAttempts: 2 })).toEqual([key]);
      expect(requests()).toHaveLength(2);
    }
  });

  test('is told by key', async () => {
    play(deleteResult(deletedKey('a'), refusedKey('b', 'AccessDenied')));
    expect(await unansweredOf(['a', 'b', 'c'])).toEqual(['c']);
    play((request, response) => {
      if (request.url.includes('%01odd')) hang(request, response);
      else deleteAll(request, response);
    });
    expect(await unansweredOf(['a', ODD, '\u0001even'], IMPATIENT)).toEqual([ODD]);
  });

  test('is one that is given up', async () => {
    const abort = new AbortController();
    play(() => abort.abort());
    const call = open().deleteObjects('bucket', ['a'], { signal: abort.signal });
    await expect(call).rejects.toMatchObject({ kind: 'aborted', unanswered: ['a'] });
  });

  test('is none that was never sent', async () => {
    play(deleteAll);
    expect(await unansweredOf(['a'], { endpoint: 'http://127.0.0.1:1' })).toEqual([]);
    const credentials = (): Promise<never> =>
      Promise.reject(Object.assign(new Error('none found'), { name: 'CredentialsProviderError' }));
    expect(await unansweredOf(['a'], { clientConfig: { credentials } })).toEqual([]);
    // As the SDK's own handler says it. No address of a test's machine surely swallows connections.
    const message = 'the request socket did not establish a connection with the server in time';
    const requestHandler = {
      handle: () => Promise.reject(Object.assign(new Error(message), { name: 'TimeoutError' })),
    };
    const clientConfig = {
      credentials: { accessKeyId: 'A', secretAccessKey: 'S' },
      requestHandler,
    };
    expect(await unansweredOf(['a'], { clientConfig })).toEqual([]);
    expect(requests()).toEqual([]);
  });

  test('is told of a purge as well', async () => {
    const version =
      '<Version><Key>a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest></Version>';
    play((request, response) => {
      if (request.method === 'POST') hang(request, response);
      else reply(200, `<ListVersionsResult>${version}</ListVersionsResult>`)(request, response);
    });
    const call = open(IMPATIENT).versions.purgeKeys('bucket', ['a']);
    await expect(call).rejects.toMatchObject({ kind: 'timeout', unanswered: ['a'] });
  });
});
