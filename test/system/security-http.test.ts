import { type Socket, connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const PATHS = ['/', '/healthz', '/readyz', '/status.json', '/metrics', '/nothing'];
const NASTY = `<script>alert(1)</script><img src=x onerror="alert(1)">'"&`;

interface Exchange {
  readonly socket: Socket;
  readonly received: () => string;
  readonly closed: () => boolean;
}

/** Says something to a port, byte for byte. */
function say(port: number, text: string): Exchange {
  const socket = connect({ host: '127.0.0.1', port });
  let received = '';
  let isClosed = false;
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    received += chunk;
  });
  socket
    .on('error', () => undefined)
    .on('close', () => {
      isClosed = true;
    });
  socket.write(text);
  onTestFinished(() => void socket.destroy());
  return { socket, received: () => received, closed: () => isClosed };
}

const statusOf = (text: string): string => /^HTTP\/1\.1 (\d+)/u.exec(text)?.[1] ?? 'closed';

describeDatabase('the HTTP port under attack', () => {
  const stack = useCliStack();

  async function listen(more = {}): Promise<{ port: number; listener: RunningCli }> {
    const listener = await stack.listen({ RETENTION_HTTP_PORT: '0', ...more });
    const line = await listener.waitForLine('Serving health, metrics and status on');
    const port = Number(/:(\d+)\//u.exec(line)?.[1]);
    await until('it is ready', async () => statusOf(await get(port, '/readyz')) === '200', {
      limitMs: 20_000,
    });
    return { port, listener };
  }

  /** Sends a request as it stands and returns the whole answer. */
  async function exchange(port: number, text: string): Promise<string> {
    const { received, closed } = say(port, text);
    await until('the connection is closed', () => Promise.resolve(closed()), {
      limitMs: 30_000,
      seen: received,
    });
    return received();
  }

  const get = (port: number, path: string, headers = 'Host: localhost\r\n'): Promise<string> =>
    exchange(port, `GET ${path} HTTP/1.1\r\n${headers}Connection: close\r\n\r\n`);

  test('refuses whatever is not GET or HEAD, and whatever is no request, and goes on', async () => {
    const { port, listener } = await listen();
    const end = 'Host: h\r\nConnection: close\r\n\r\n';
    for (const [text, wanted] of [
      [`TRACE / HTTP/1.1\r\n${end}`, ['405', '400']],
      [`PATCH /status.json HTTP/1.1\r\n${end}`, ['405']],
      [`PURGE / HTTP/1.1\r\n${end}`, ['405']],
      [`CONNECT evil.example:443 HTTP/1.1\r\n${end}`, ['closed', '400', '405']],
      [`OPTIONS * HTTP/1.1\r\n${end}`, ['405']],
      [`POST / HTTP/1.1\r\nContent-Length: 4\r\n${end}body`, ['405']],
      [
        `POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n${end}0\r\n\r\n`,
        ['400'],
      ],
      [`GET http://evil.example/ HTTP/1.1\r\n${end}`, ['404']],
      [`GET / HTTP/1.1\r\nConnection: close\r\n\r\n`, ['400']],
      [`GET / HTTP/9.9\r\n${end}`, ['400', '505']],
      [`NONSENSE\r\n\r\n`, ['400']],
      [`GET /\0 HTTP/1.1\r\n${end}`, ['400']],
      ['\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00FC\u0003\u0003\r\n\r\n', ['400']],
      ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', ['400', 'closed']],
      [`GET / HTTP/1.1\r\nX-Long: ${'x'.repeat(20_000)}\r\n${end}`, ['431']],
      [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${end}`, ['431', '414']],
      [
        `GET / HTTP/1.1\r\n${Array.from({ length: 3_000 }, (_, n) => `X${n}: y\r\n`).join('')}${end}`,
        ['431'],
      ],
    ] as const) {
      expect(wanted, JSON.stringify(text.slice(0, 60))).toContain(
        statusOf(await exchange(port, text)),
      );
    }
    expect(statusOf(await get(port, '/healthz'))).toBe('200');
    expect(listener.stderr).not.toContain('ERROR');
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  });

  test('does not wait for those who never finish their headers, and serves others meanwhile', async () => {
    const { port } = await listen();
    const slow = Array.from({ length: 20 }, () => say(port, 'GET / HTTP/1.1\r\nHost: h\r\n'));
    const drip = setInterval(() => {
      for (const { socket } of slow) if (!socket.destroyed) socket.write('X: y\r\n');
    }, 500);
    onTestFinished(() => clearInterval(drip));
    expect(statusOf(await get(port, '/healthz'))).toBe('200');
    await until('they are cut off', () => Promise.resolve(slow.every(({ closed }) => closed())), {
      limitMs: 25_000,
    });
    for (const { received } of slow) expect(['408', 'closed']).toContain(statusOf(received()));
    expect(statusOf(await get(port, '/healthz'))).toBe('200');
  });

  test('tells nothing of its configuration but which database a page is of: no value, role, path or version of Node', async () => {
    const { query, name, urlAs } = stack.database();
    const role = `http_${process.pid}`;
    await query(`create role ${role} login; select retention.grant_rights('${role}')`);
    onTestFinished(async () => {
      await query(`drop owned by ${role}; drop role ${role}`);
    });
    const env = stack.env({ DATABASE_URL: urlAs(role) });
    const { port } = await listen({ DATABASE_URL: urlAs(role) });
    const values = Object.values(env).filter((value) => value !== undefined && value.length > 6);
    const places = [role, process.cwd(), 'node_modules', new URL(stack.s3().endpoint).host];
    for (const path of [...PATHS, '/explain', '/explain?run=1']) {
      const answer = await get(port, path);
      for (const secret of [...values, ...places]) expect(answer, path).not.toContain(secret);
      // A person has to tell one installation from another; a program knows which one it asks.
      expect(answer.includes(name), path).toBe(path === '/' || path.startsWith('/explain'));
      expect(answer).not.toMatch(/^(?:server|x-powered-by|access-control-[\w-]+|set-cookie):/imu);
      expect(answer).not.toContain(process.version);
      expect(answer).toMatch(/^X-Content-Type-Options: nosniff\r$/mu);
      expect(answer).toMatch(/^Content-Security-Policy: default-src 'none'/mu);
      expect(answer).toMatch(/^Cache-Control: no-store\r$/mu);
      expect(answer).toMatch(/^Content-Type: (?:text|application)\/[\w+-]+/mu);
    }
  });

  test('a site that has its name point here can read no more than is public, and change nothing', async () => {
    const { port } = await listen();
    const everything = (): Promise<unknown> =>
      stack.database().query('select s::text from retention.setting s');
    const before = await everything();
    const foreign = `Host: evil.example\r\nOrigin: http://evil.example\r\nX-Forwarded-Host: evil.example\r\nReferer: http://evil.example/\r\n`;
    for (const path of PATHS) {
      const answer = await get(port, `${path}?enabled=false&next=http://evil.example`, foreign);
      // Nothing that was sent comes back, and no browser is told to share it.
      expect(answer).not.toContain('evil.example');
      expect(answer.toLowerCase()).not.toContain('access-control-allow');
      expect(answer).toMatch(/^Cross-Origin-Resource-Policy: same-origin\r$/mu);
      expect(answer).toMatch(/^X-Frame-Options: DENY\r$/mu);
    }
    expect(await everything()).toEqual(before);
  });

  test('writes tenants, keys, buckets and errors as text', async () => {
    const { query, insertRuns } = stack.database();
    await insertRuns({ count: 2, tenant: NASTY, bucket: NASTY, key: NASTY });
    await query('select retention.flag_expired()');
    await query(
      `update retention.batch set code = $1, error = $1, failed_at = now(), dead_at = now()`,
      [NASTY],
    );
    await query(
      "update retention.bucket set pause_code = $1, pause_error = $1, pauses = 1, paused_until = now() + interval '1 hour'",
      [NASTY],
    );
    await query(`insert into retention.hold (tenant_id, reason) values ($1, $1)`, [NASTY]);
    const { port } = await listen();
    const page = await get(port, '/');
    expect(page).toContain('&lt;script&gt;alert(1)');
    expect(page).not.toMatch(/<script|<img|onerror="/u);
    const json = await get(port, '/status.json');
    expect(json).toMatch(/^Content-Type: application\/json/mu);
    const metrics = await get(port, '/metrics');
    expect(metrics).toMatch(/^Content-Type: text\/plain/mu);
    for (const line of metrics.split('\r\n\r\n')[1]?.split('\n') ?? []) {
      expect(line).toMatch(
        /^(?:$|#|[a-z0-9_]+(?:\{[^\n]*\})? [\d.e+-]+|[a-z0-9_]+(?:\{[^\n]*\})? (?:NaN|\+Inf))/u,
      );
    }
  });
});
