import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';

import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createAgents } from '../../src/network/agents.ts';
import { createS3ObjectStore } from '../../src/objects/s3/object-store.ts';
import { deleteAll, deleteResult, deletedKey, refuse } from '../support/scripted-s3.ts';
import { expectAllDeleted } from '../support/reports.ts';
import { failure, useScriptedStore } from '../support/scripted-store.ts';

const { open, play, requests } = useScriptedStore();

afterEach(() => vi.unstubAllEnvs());

describe('a proxy', () => {
  /** A CONNECT proxy that notes what it is asked for, and with which password. */
  async function startProxy() {
    const seen: { readonly target: string; readonly authorization: string | undefined }[] = [];
    const server = createServer((_request, response) => response.writeHead(405).end());
    server.on('connect', (asked, client) => {
      const target = asked.url ?? '';
      seen.push({ target, authorization: asked.headers['proxy-authorization'] });
      const [, port] = target.split(':');
      const upstream = connect(Number(port), '127.0.0.1', () => {
        client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        upstream.pipe(client).pipe(upstream);
      });
      upstream.on('error', () => client.destroy());
      client.on('error', () => upstream.destroy());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    return { seen, port, stop: () => server.close() };
  }

  test('that the environment names is gone through, also by the fast way of deleting', async () => {
    const proxy = await startProxy();
    try {
      play(deleteAll);
      vi.stubEnv('HTTP_PROXY', `http://ada:geheim@127.0.0.1:${proxy.port}`);
      vi.stubEnv('NO_PROXY', '');
      const opened = open({ endpoint: portOf('store.test') });
      expectAllDeleted(await opened.deleteObjects('bucket', ['a', 'b']), ['a', 'b']);
      expect(requests()).toHaveLength(1);
      const { port } = new URL(portOf('store.test'));
      const authorization = `Basic ${Buffer.from('ada:geheim').toString('base64')}`;
      expect(proxy.seen).toEqual([{ target: `store.test:${port}`, authorization }]);
    } finally {
      proxy.stop();
    }
  });

  test('is passed by for hosts that NO_PROXY names', () => {
    vi.stubEnv('HTTPS_PROXY', 'http://127.0.0.1:1');
    vi.stubEnv('NO_PROXY', '.internal,store.test');
    expect(createAgents('store.test', 5).httpsAgent.constructor.name).toBe('Agent');
    expect(createAgents('minio.internal:9000', 5).httpsAgent.constructor.name).toBe('Agent');
    expect(createAgents('s3.amazonaws.com', 5).httpsAgent.constructor.name).not.toBe('Agent');
  });

  test('is passed by for this machine', () => {
    vi.stubEnv('HTTP_PROXY', 'http://127.0.0.1:1');
    for (const host of ['127.0.0.1:9000', 'localhost:9000', '[::1]:9000']) {
      expect(createAgents(host, 5).httpAgent.constructor.name).toBe('Agent');
    }
  });

  test('that does not answer is said without its password', async () => {
    vi.stubEnv('HTTP_PROXY', 'http://ada:geheim@127.0.0.1:1');
    const error = await failure(
      open({ endpoint: 'http://store.test' }).deleteObjects('bucket', ['a']),
    );
    expect(error.kind).toBe('unavailable');
    const { describeError } = await import('../../src/errors.ts');
    expect(describeError(error)).not.toContain('geheim');
    expect(JSON.stringify(error)).not.toContain('geheim');
  });

  test('whose address is none is refused in words, without its password', async () => {
    vi.stubEnv('HTTP_PROXY', 'http://ada:geheim@');
    const error = await failure(
      open({ endpoint: 'http://store.test' }).deleteObjects('bucket', ['a']),
    );
    expect(error.reason).toContain('expected HTTP_PROXY to be a URL');
    expect(JSON.stringify(error)).not.toContain('geheim');
  });
});

/** The scripted server, by another name that only a proxy or a lookup of the test knows. */
function portOf(name: string): string {
  return open().place.replace('127.0.0.1', name);
}

test('each address of a host is tried for longer than Node would', () => {
  const { httpAgent, httpsAgent } = createAgents('store.test', 5);
  for (const agent of [httpAgent, httpsAgent]) {
    expect((agent as { options?: object }).options).toMatchObject({
      autoSelectFamilyAttemptTimeout: 2_500,
      keepAlive: true,
    });
  }
});

describe('credentials', () => {
  const folder = mkdtempSync(join(tmpdir(), 'retention-credentials-'));
  const file = join(folder, 'credentials');
  const config = join(folder, 'config');

  function write(token: string): void {
    writeFileSync(
      file,
      `[default]\naws_access_key_id = A\naws_secret_access_key = S\naws_session_token = ${token}\n`,
    );
  }

  function useFiles(): void {
    for (const name of [
      'AWS_ACCESS_KEY_ID',
      'AWS_SECRET_ACCESS_KEY',
      'AWS_SESSION_TOKEN',
      'AWS_PROFILE',
    ]) {
      vi.stubEnv(name, undefined);
    }
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', file);
    vi.stubEnv('AWS_CONFIG_FILE', config);
    writeFileSync(config, '');
  }

  function openWithFiles() {
    return createS3ObjectStore({ endpoint: open().place, region: 'us-east-1', maxAttempts: 1 });
  }

  /** Takes one token only. */
  function accept(token: string, code: string): void {
    play((request, response) => {
      const isKnown = request.headers['x-amz-security-token'] === token;
      (isKnown ? deleteAll : refuse(400, code))(request, response);
    });
  }

  test.each(['ExpiredToken', 'InvalidToken', 'InvalidAccessKeyId'])(
    'that were rotated in their file are read again after %s',
    async (code) => {
      useFiles();
      write('first');
      accept('first', code);
      const opened = openWithFiles();
      await opened.deleteObjects('bucket', ['a']);
      accept('second', code);
      write('second');
      expectAllDeleted(await opened.deleteObjects('bucket', ['b']), ['b']);
      opened.close();
    },
  );

  test('of a process that gives static ones are asked for again', async () => {
    useFiles();
    rmSync(file, { force: true });
    const script = join(folder, 'give');
    const give = (token: string): void => {
      const given = { Version: 1, AccessKeyId: 'A', SecretAccessKey: 'S', SessionToken: token };
      writeFileSync(script, JSON.stringify(given));
    };
    writeFileSync(config, `[default]\ncredential_process = cat ${script}\n`);
    give('first');
    accept('first', 'ExpiredToken');
    const opened = openWithFiles();
    await opened.deleteObjects('bucket', ['a']);
    accept('second', 'ExpiredToken');
    give('second');
    expectAllDeleted(await opened.deleteObjects('bucket', ['b']), ['b']);
    opened.close();
  });

  test('that stay wrong are asked for once more and no more', async () => {
    useFiles();
    write('first');
    accept('another', 'ExpiredToken');
    const opened = openWithFiles();
    expect((await failure(opened.deleteObjects('bucket', ['a']))).kind).toBe('credentials');
    expect(requests()).toHaveLength(2);
    expect((await failure(opened.deleteObjects('bucket', ['a']))).kind).toBe('credentials');
    expect(requests()).toHaveLength(3);
    opened.close();
  });
});

describe('addressing', () => {
  test('is changed where the store refuses the one, and kept', async () => {
    play((request, response) => {
      const isVirtual = request.headers.host?.startsWith('bucket.') === true;
      const answer = isVirtual
        ? deleteResult(...request.keys.map(deletedKey))
        : refuse(403, 'SecondLevelDomainForbidden', 'Please use virtual hosted style to access.');
      answer(request, response);
    });
    // Every name leads to the scripted server.
    const lookup = (
      _name: string,
      _options: unknown,
      found: (error: null, at: readonly object[]) => void,
    ) => found(null, [{ address: '127.0.0.1', family: 4 }]);
    const httpAgent = new Agent({ lookup: lookup as never });
    const credentials = { accessKeyId: 'A', secretAccessKey: 'S' };
    const opened = open({
      endpoint: portOf('store.test'),
      clientConfig: { credentials, requestHandler: { httpAgent } },
    });
    const report = await opened.deleteObjects('bucket', ['a']);
    expect(report).toMatchObject({ all: true, learned: { habits: { addressing: 'virtual' } } });
    await opened.deleteObjects('bucket', ['b'], { habits: { addressing: 'virtual' } });
    expect(requests()).toHaveLength(3);
    opened.close();
  });
});

test('waiting for a socket is no timeout', async () => {
  play((request, response) => {
    setTimeout(() => deleteAll(request, response), 40);
  });
  const opened = open({
    maxSockets: 2,
    maxAttempts: 3,
    connectTimeoutMilliseconds: 200,
    requestTimeoutMilliseconds: 300,
  });
  const calls = Array.from({ length: 40 }, (_, index) =>
    opened.deleteObjects('bucket', [`key-${index}`]),
  );
  const reports = await Promise.all(calls);
  expect(reports.every(({ all }) => all)).toBe(true);
  expect(requests()).toHaveLength(40);
});
