import { once } from 'node:events';
import { Agent, type IncomingMessage, createServer as createHttpServer, request } from 'node:http';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  type Exchange,
  type HttpFault,
  type HttpProxy,
  isDeleteObjects,
  startHttpProxy,
} from '../support/http-proxy.ts';
import { type TcpProxy, startTcpProxy } from '../support/tcp-proxy.ts';
import { watchStalls } from '../support/stalls.ts';
import { until } from '../support/until.ts';

describe('the TCP proxy', () => {
  // Says everything back.
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  const clients: Client[] = [];
  let proxy: TcpProxy;
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => void server.close());
  beforeEach(async () => {
    proxy = await startTcpProxy((server.address() as AddressInfo).port);
  });
  afterEach(async () => {
    for (const { socket } of clients.splice(0)) socket.destroy();
    await proxy.close();
  });

  interface Client {
    readonly socket: Socket;
    heard: string;
    isClosed: boolean;
  }

  function open(): Client {
    const socket = connect(proxy.port, '127.0.0.1');
    const client: Client = { socket, heard: '', isClosed: false };
    socket.setEncoding('utf8').on('data', (text: string) => {
      client.heard += text;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      client.isClosed = true;
    });
    clients.push(client);
    return client;
  }

  async function say(client: Client, text: string): Promise<void> {
    const wanted = client.heard + text;
    client.socket.write(text);
    await until('it is said back', () => client.heard === wanted);
  }

  const closed = (client: Client) => until('it is closed', () => client.isClosed);

  test('carries what is said, and ends with either end', async () => {
    const client = open();
    await say(client, 'hello');
    expect(proxy.connected()).toBe(1);
    client.socket.end();
    await closed(client);
    await until('nothing is connected', () => proxy.connected() === 0);
  });

  test('leads addresses through itself', () => {
    const led = new URL(proxy.through('postgresql://user@127.0.0.1:5432/app'));
    expect([led.port, led.pathname]).toEqual([String(proxy.port), '/app']);
  });

  test('lets new connections hang, and lets go of them when it heals', async () => {
    const early = open();
    await say(early, 'early');
    proxy.letThrough(false);
    const late = open();
    late.socket.write('late');
    await until('it hangs', () => proxy.hanging() === 1);
    await say(early, ' and still there');
    expect(late.heard).toBe('');
    proxy.heal();
    await closed(late);
    await say(open(), 'again');
  });

  test('refuses new connections', async () => {
    proxy.refuse(true);
    await closed(open());
    proxy.heal();
    await say(open(), 'again');
  });

  test('freezes what is there and nothing else, for good', async () => {
    const frozen = open();
    await say(frozen, 'one');
    proxy.freeze();
    frozen.socket.write('two');
    await say(open(), 'beside it');
    proxy.heal();
    frozen.socket.write('three');
    await say(open(), 'after it');
    expect([frozen.heard, frozen.isClosed]).toEqual(['one', false]);
  });

  test('ends what is frozen towards its client, and nothing else', async () => {
    const frozen = open();
    await say(frozen, 'one');
    proxy.freeze();
    const other = open();
    await say(other, 'two');
    proxy.lapse();
    await closed(frozen);
    await say(other, 'three');
  });

  test('cuts what is there', async () => {
    const client = open();
    await say(client, 'one');
    proxy.cut();
    await closed(client);
    await say(open(), 'again');
  });

  test('is late', async () => {
    const client = open();
    await say(client, 'quick');
    proxy.delay(60);
    const startedAt = performance.now();
    await say(client, 'slow');
    // Late on the way there and on the way back.
    expect(performance.now() - startedAt).toBeGreaterThan(110);
  });

  test('is slow', async () => {
    const client = open();
    await say(client, 'quick');
    proxy.throttle(1_000);
    const startedAt = performance.now();
    await say(client, 'x'.repeat(300));
    expect(performance.now() - startedAt).toBeGreaterThan(250);
  });

  test('cuts in the middle of a word', async () => {
    const client = open();
    await say(client, 'whole');
    proxy.cutAfter(3);
    client.socket.write('broken');
    await closed(client);
    expect(client.heard).toBe('wholebro');
  });
});

test('a process knows for a while how long it was elsewhere', async () => {
  const stalls = watchStalls();
  const endsAt = performance.now() + 300;
  while (performance.now() < endsAt);
  expect(stalls.recent()).toBeGreaterThan(290);
  // The beat that is over now ends the stall.
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(stalls.recent()).toBeGreaterThan(290);
  stalls.stop();
});

describe('the HTTP proxy', () => {
  const served: string[] = [];
  const exchanges: Exchange[] = [];
  let answering = Promise.resolve();
  const server = createHttpServer((incoming, response) => {
    served.push(incoming.url ?? '');
    incoming
      .resume()
      .on('end', () => void answering.then(() => response.end('0123456789'.repeat(10))));
  });
  let proxy: HttpProxy;
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => {
    server.close();
    server.closeAllConnections();
  });
  beforeEach(async () => {
    served.length = 0;
    exchanges.length = 0;
    answering = Promise.resolve();
    proxy = await startHttpProxy(
      `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      (exchange) => exchanges.push(exchange),
    );
  });
  afterEach(() => proxy.close());

  /** What came of a request: its status and body, and whether the connection broke. */
  async function ask(path = '/b/k', method = 'GET') {
    const came = { status: 0, body: '', isBroken: false, milliseconds: 0 };
    const startedAt = performance.now();
    try {
      const asking = request(proxy.endpoint + path, { agent: false, method });
      asking.end();
      const [reply] = (await once(asking, 'response')) as [IncomingMessage];
      came.status = reply.statusCode ?? 0;
      for await (const chunk of reply.setEncoding('utf8') as AsyncIterable<string>) {
        came.body += chunk;
      }
    } catch {
      came.isBroken = true;
    }
    came.milliseconds = performance.now() - startedAt;
    return came;
  }

  test('passes on what has no fault, and knows a DeleteObjects', async () => {
    const deletes: boolean[] = [];
    proxy.steer((passing) => {
      deletes.push(isDeleteObjects(passing));
      return undefined;
    });
    expect(await ask()).toMatchObject({ status: 200, isBroken: false });
    for (const path of ['/b?delete', '/b/?delete=', '/b?x-id=DeleteObjects&delete']) {
      await ask(path, 'POST');
    }
    await ask('/b/k?deleted=1', 'POST');
    expect(deletes).toEqual([false, true, true, true, false]);
    expect(served).toHaveLength(5);
    expect(proxy.injected.size).toBe(0);
  });

  test('drops, and the server hears nothing', async () => {
    proxy.next({ kind: 'drop' });
    expect(await ask()).toMatchObject({ status: 0, isBroken: true });
    expect(served).toEqual([]);
    expect(proxy.injected.get('drop')).toBe(1);
    expect(await ask()).toMatchObject({ status: 200 });
  });

  test('hangs until it heals, and the server hears nothing', async () => {
    proxy.next({ kind: 'hang' });
    const asked = ask();
    await until('it hangs', () => proxy.hanging() === 1);
    proxy.heal();
    expect(await asked).toMatchObject({ status: 0, isBroken: true });
    expect(served).toEqual([]);
  });

  test('answers in place of the server', async () => {
    proxy.next({ kind: 'answer', status: 502, body: '<html>', headers: { 'x-by': 'proxy' } });
    expect(await ask()).toMatchObject({ status: 502, body: '<html>' });
    expect(served).toEqual([]);
  });

  test('is late on the way there', async () => {
    proxy.next({ kind: 'delay', milliseconds: 80 });
    const asked = ask();
    expect(served).toEqual([]);
    const { status, milliseconds } = await asked;
    expect([status, milliseconds > 75]).toEqual([200, true]);
  });

  test('is late on the way back', async () => {
    proxy.next({ kind: 'delay-reply', milliseconds: 200 });
    const asked = ask();
    await until('the server has heard it', () => served.length === 1);
    const { status, milliseconds } = await asked;
    expect([status, milliseconds > 195]).toEqual([200, true]);
  });

  test('holds the request back until it is let go, though its client has gone', async () => {
    let letGo = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    proxy.next({ kind: 'hold', until: released });
    const abort = new AbortController();
    const given = fetch(proxy.endpoint, { signal: abort.signal });
    await until('it has come', () => proxy.injected.get('hold') === 1);
    abort.abort();
    await expect(given).rejects.toThrow();
    expect([served, exchanges]).toEqual([[], []]);
    letGo();
    await until('it is over', () => exchanges.length === 1);
    expect(served).toHaveLength(1);
    expect(exchanges[0]).toMatchObject({ fault: 'hold', told: undefined });
    expect(exchanges[0]?.doneAt).toBeGreaterThan(0);
  });

  test.each<HttpFault | undefined>([
    undefined,
    { kind: 'delay', milliseconds: 1 },
    { kind: 'hold', until: Promise.resolve() },
    { kind: 'delay-reply', milliseconds: 1 },
    { kind: 'hold-reply', until: Promise.resolve() },
    { kind: 'lose-reply' },
    { kind: 'cut-reply', bytes: 7 },
    { kind: 'throttle', bytesPerSecond: 400 },
    { kind: 'rewrite', change: (reply) => reply },
  ])('tells of %o when the server has answered, though its client has gone', async (fault) => {
    let answer = (): void => undefined;
    answering = new Promise((resolve) => {
      answer = resolve;
    });
    if (fault !== undefined) proxy.next(fault);
    const asking = request(proxy.endpoint, { agent: false }).on('error', () => undefined);
    asking.end();
    await until('the server has heard it', () => served.length === 1);
    asking.destroy();
    await until('the proxy has heard that', async () => (await proxy.connections()) === 0);
    expect([exchanges, proxy.underWay()]).toEqual([[], 1]);
    const answeredAt = performance.timeOrigin + performance.now();
    answer();
    await until('it is over', () => exchanges.length === 1);
    expect(exchanges[0]).toMatchObject({ fault: fault?.kind, told: undefined });
    expect(exchanges[0]?.doneAt).toBeGreaterThanOrEqual(answeredAt);
    expect(proxy.underWay()).toBe(0);
  });

  test('tells of a reply that is late when it came', async () => {
    proxy.next({ kind: 'delay-reply', milliseconds: 80 });
    await ask();
    await until('it is over', () => exchanges.length === 1);
    const [{ doneAt = 0, told } = {}] = exchanges;
    expect((told?.at ?? 0) - doneAt).toBeGreaterThan(75);
  });

  test('holds the reply back until it is let go', async () => {
    let letGo = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    proxy.next({ kind: 'hold-reply', until: released });
    let isAnswered = false;
    const asked = ask().finally(() => {
      isAnswered = true;
    });
    await until('the server has heard it', () => served.length === 1);
    await ask();
    expect(isAnswered).toBe(false);
    letGo();
    expect(await asked).toMatchObject({ status: 200, isBroken: false });
  });

  test('loses the reply to what the server has done', async () => {
    proxy.next({ kind: 'lose-reply' });
    expect(await ask()).toMatchObject({ status: 0, isBroken: true });
    expect(served).toEqual(['/b/k']);
  });

  test('cuts the reply', async () => {
    proxy.next({ kind: 'cut-reply', bytes: 7 });
    expect(await ask()).toMatchObject({ status: 200, body: '0123456', isBroken: true });
  });

  test('cuts the reply also where it is shorter than that', async () => {
    proxy.next({ kind: 'cut-reply', bytes: 2_000 });
    const { body, isBroken } = await ask();
    expect([body.length, isBroken]).toEqual([99, true]);
    await until('it is over', () => exchanges.length === 1);
    expect(exchanges[0]?.told).toBeUndefined();
  });

  test('lets the reply trickle', async () => {
    proxy.next({ kind: 'throttle', bytesPerSecond: 400 });
    const { body, milliseconds } = await ask();
    expect([body.length, milliseconds > 190]).toEqual([100, true]);
  });

  test('rewrites the reply', async () => {
    proxy.next({
      kind: 'rewrite',
      change: (reply) => ({ ...reply, status: 503, body: Buffer.from('other') }),
    });
    expect(await ask()).toMatchObject({ status: 503, body: 'other', isBroken: false });
    expect(served).toHaveLength(1);
  });

  test('does one fault to as many requests as were asked for, and only to those that match', async () => {
    proxy.next({ kind: 'answer', status: 500 }, { times: 2, when: ({ url }) => url === '/x' });
    const statuses: number[] = [];
    for (const path of ['/y', '/x', '/x', '/x']) statuses.push((await ask(path)).status);
    expect(statuses).toEqual([200, 500, 500, 200]);
  });
});

describe('what the TCP proxy still has in hand', () => {
  const accepted: Socket[] = [];
  const heard: string[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted.push(socket);
    socket.on('error', () => undefined);
    socket.setEncoding('utf8').on('data', (text: string) => heard.push(text));
  });
  const clients: Socket[] = [];
  let proxy: TcpProxy;
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => void server.close());
  beforeEach(async () => {
    proxy = await startTcpProxy((server.address() as AddressInfo).port);
  });
  afterEach(async () => {
    for (const socket of [...clients.splice(0), ...accepted.splice(0)]) socket.destroy();
    heard.length = 0;
    await proxy.close();
  });

  /** A client, and its connection as the server has it. */
  async function meet(): Promise<{ readonly client: Socket; readonly served: Socket }> {
    const before = accepted.length;
    const client = connect(proxy.port, '127.0.0.1');
    client.on('error', () => undefined);
    clients.push(client);
    const served = await until('the server has it', () => accepted[before]);
    return { client, served };
  }

  test('counts what is let through, and not what hangs or is refused', async () => {
    const one = await meet();
    await meet();
    expect([proxy.connected(), proxy.hanging()]).toEqual([2, 0]);
    proxy.letThrough(false);
    const waiting = connect(proxy.port, '127.0.0.1');
    clients.push(waiting);
    await until('it hangs', () => proxy.hanging() === 1);
    expect(proxy.connected()).toBe(2);
    waiting.end();
    await until('nothing hangs', () => proxy.hanging() === 0);
    proxy.refuse(true);
    const refused = connect(proxy.port, '127.0.0.1').on('error', () => undefined);
    await until('it is refused', () => refused.closed);
    one.client.resetAndDestroy();
    await until('one is left', () => proxy.connected() === 1);
    expect(accepted).toHaveLength(2);
  });

  test.each<readonly [string, (client: Socket) => void]>([
    ['breaks off', (client) => client.resetAndDestroy()],
    ['closes', (client) => client.destroy()],
    ['says goodbye', (client) => client.end('goodbye')],
  ])('ends what is frozen and whose client %s, when it expires and no sooner', async (_, leave) => {
    const lost = await meet();
    const kept = await meet();
    proxy.freeze();
    const beside = await meet();
    leave(lost.client);
    proxy.heal();
    const ask = once(beside.served, 'data');
    beside.client.write('still there');
    await ask;
    expect(lost.served.readableEnded).toBe(false);
    await until('the server knows', () => {
      proxy.expire();
      return lost.served.readableEnded;
    });
    expect(heard).toEqual(['still there']);
    for (const { client, served } of [kept, beside]) {
      expect([client.destroyed, served.readableEnded]).toEqual([false, false]);
    }
  });

  test('passes on the end of one way while the other goes on', async () => {
    const { client, served } = await meet();
    client.end('last words');
    await until('the server knows', () => served.readableEnded);
    expect(heard.join('')).toBe('last words');
    const answer = once(client.setEncoding('utf8'), 'data');
    served.end('answer');
    expect(await answer).toEqual(['answer']);
    await until('it is over', () => proxy.connected() === 0);
  });

  test('is quick, wide and whole again when it heals', async () => {
    const { client, served } = await meet();
    const text = 'x'.repeat(20_000);
    proxy.delay(60_000);
    proxy.throttle(1);
    proxy.cutAfter(1);
    proxy.heal();
    const said: string[] = [];
    client.setEncoding('utf8').on('data', (piece: string) => said.push(piece));
    served.write(text);
    await until('all has come', () => said.join('') === text);
  });

  test('ends everything when it closes, also what is frozen or hangs', async () => {
    const own = await startTcpProxy((server.address() as AddressInfo).port);
    const before = accepted.length;
    const sockets = [connect(own.port, '127.0.0.1')];
    await until('the server has it', () => accepted[before]);
    own.freeze();
    own.letThrough(false);
    sockets.push(connect(own.port, '127.0.0.1'));
    await until('it hangs', () => own.hanging() === 1);
    for (const socket of sockets) socket.on('error', () => undefined).resume();
    await own.close();
    await until('both have ended', () => sockets.every(({ readableEnded }) => readableEnded));
    await until('the server knows', () => accepted[before]?.readableEnded);
    await until('nothing is left', () => own.connected() + own.hanging() === 0);
  });
});

describe('what the HTTP proxy still has in hand', () => {
  const hosts: (string | undefined)[] = [];
  const server = createHttpServer((incoming, response) => {
    hosts.push(incoming.headers.host);
    incoming.resume().on('end', () => response.end('done'));
  });
  const agents: Agent[] = [];
  let proxy: HttpProxy;
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => {
    server.close();
    server.closeAllConnections();
  });
  beforeEach(async () => {
    proxy = await startHttpProxy(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  afterEach(async () => {
    for (const agent of agents.splice(0)) agent.destroy();
    hosts.length = 0;
    await proxy.close();
  });

  /** A client that keeps its connections. */
  function keepAgent(): Agent {
    const agent = new Agent({ keepAlive: true });
    agents.push(agent);
    return agent;
  }

  async function ask(agent: Agent): Promise<number | undefined> {
    const asking = request(proxy.endpoint, { agent });
    asking.end();
    const [reply] = (await once(asking, 'response')) as [IncomingMessage];
    reply.resume();
    await once(reply, 'end');
    return reply.statusCode;
  }

  async function untilConnected(count: number): Promise<void> {
    await until(`${count} are connected`, async () => (await proxy.connections()) === count);
  }

  test('counts connections, and not requests', async () => {
    expect(await proxy.connections()).toBe(0);
    const [one, other] = [keepAgent(), keepAgent()];
    await ask(one);
    await untilConnected(1);
    await ask(one);
    await ask(one);
    expect(await proxy.connections()).toBe(1);
    await ask(other);
    expect(await proxy.connections()).toBe(2);
    one.destroy();
    await untilConnected(1);
    other.destroy();
    await untilConnected(0);
  });

  test('counts those whose request hangs, until it heals', async () => {
    proxy.next({ kind: 'hang' }, { times: 2 });
    const agent = keepAgent();
    const asked = [ask(agent), ask(agent)].map((asking) => expect(asking).rejects.toThrow());
    await until('both hang', () => proxy.hanging() === 2);
    expect(await proxy.connections()).toBe(2);
    proxy.heal();
    await Promise.all(asked);
    await until('nothing hangs', () => proxy.hanging() === 0);
    await untilConnected(0);
    expect(proxy.injected.get('hang')).toBe(2);
  });

  test('does no fault any more when it is healed', async () => {
    proxy.steer(() => ({ kind: 'answer', status: 503 }));
    expect(await ask(keepAgent())).toBe(503);
    proxy.heal();
    expect(await ask(keepAgent())).toBe(200);
    expect(proxy.injected.get('answer')).toBe(1);
  });

  test('tells the server the host that was asked, for the sake of signatures', async () => {
    await ask(keepAgent());
    expect(hosts).toEqual([new URL(proxy.endpoint).host]);
  });

  test('ends the connection where the server is gone', async () => {
    const gone = createHttpServer();
    gone.listen(0, '127.0.0.1');
    await once(gone, 'listening');
    const { port } = gone.address() as AddressInfo;
    gone.close();
    await once(gone, 'close');
    const exchanges: Exchange[] = [];
    const alone = await startHttpProxy(`http://127.0.0.1:${port}`, (it) => exchanges.push(it));
    try {
      await expect(fetch(alone.endpoint)).rejects.toThrow();
      await until('it is told', () => exchanges.length === 1);
      expect(exchanges[0]).toMatchObject({ fault: undefined, doneAt: undefined, told: undefined });
    } finally {
      await alone.close();
    }
  });
});
