import { describe, expect, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { haveProgram } from '../support/programs.ts';
import { until } from '../support/until.ts';

const GRACE_SECONDS = 2;

/** What a loaded machine may add to a grace. */
const MARGIN_MILLISECONDS = 6_000;

describeDatabase('a bad day of the network', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');
  const listen = (more = {}): Promise<RunningCli> =>
    stack.listen(network.env({ RETENTION_SHUTDOWN_GRACE_SECONDS: String(GRACE_SECONDS), ...more }));
  const linesOf = ({ stderr }: RunningCli, what: RegExp): number =>
    stderr.split('\n').filter((line) => what.test(line)).length;

  async function stopped(listener: RunningCli): Promise<void> {
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  }

  async function stopsInItsGrace(listener: RunningCli): Promise<void> {
    const startedAt = performance.now();
    await stopped(listener);
    expect(performance.now() - startedAt).toBeLessThan(GRACE_SECONDS * 1_000 + MARGIN_MILLISECONDS);
    expect(listener.stderr.trimEnd().split('\n').at(-1)).toContain('Stopped');
  }

  test('4: every backend terminated, again and again, while results are flagged and settled', async () => {
    const { connect, set } = stack.database();
    await set({ batch_size: '20', flag_limit: '200' });
    const rounds = 6;
    const listener = await listen();
    await stack.insertResults({ count: rounds * 200 });
    const killer = await connect();
    for (let round = 0; round < rounds; round += 1) {
      const flagger = await connect();
      const flagging = flagger.query('select retention.flag_expired()').catch(() => undefined);
      await killer.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`,
      );
      await flagging;
    }
    await killer.end();
    // What of the last flags was lost with its session is found by the next pass.
    await until('it is flagged', () => flag().then(() => true), { limitMs: 20_000 });
    await stack.cleared(rounds * 200, 40_000);
    expect(await stack.database().query('select from retention.flagged')).toEqual([]);
    expect(stack.s3().countObjects('dpp-results')).toBe(0);
    expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThan(rounds * 12);
    await stopped(listener);
  });

  test('5: a black hole on the established LISTEN, and on reconnecting: polls, then listens again', async () => {
    const listener = await listen();
    network.listenTcp().freeze();
    await stack.insertResults({ count: 20 });
    await flag();
    await stack.cleared(20);

    network.listenTcp().letThrough(false);
    network.listenTcp().cut();
    await until('it is reconnecting', () => network.listenTcp().hanging() > 0);
    await stack.insertResults({ count: 20 });
    await flag();
    await stack.cleared(40);
    await listener.waitForLine('Not listening for notifications, polling instead', 20_000);
    network.listenTcp().heal();
    await listener.waitForLine('Listening for notifications again', 40_000);
    expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThan(6);
    await stopped(listener);
  });

  test('5: a black hole on reconnecting does not hold up a stop', async () => {
    const listener = await listen();
    network.listenTcp().letThrough(false);
    network.listenTcp().cut();
    await until('it is reconnecting', () => network.listenTcp().hanging() > 0);
    await stopsInItsGrace(listener);
  });

  test('5: a slow and a broken network: work still gets through', async () => {
    const listener = await listen();
    network.tcp().delay(40);
    network.tcp().throttle(200_000);
    await stack.insertResults({ count: 300 });
    await flag();
    await until('the first words have come', () => stack.requests().length > 0);
    // In the middle of an answer.
    network.tcp().cutAfter(10);
    await until('what was connected is cut', () => network.tcp().connected() === 0).catch(
      () => undefined,
    );
    network.tcp().heal();
    await stack.cleared(300, 40_000);
    await stopped(listener);
  });

  describe('6: with SIGTERM meanwhile, exits in its grace with code 0', () => {
    /** Starts a listener without waiting for what it cannot have. */
    const boot = async (line: string | RegExp): Promise<RunningCli> => {
      const listener = stack.start(
        network.env({ RETENTION_SHUTDOWN_GRACE_SECONDS: String(GRACE_SECONDS) }),
      );
      await listener.waitForLine(line, 20_000);
      return listener;
    };

    test('refused at boot', async () => {
      network.tcp().refuse(true);
      network.listenTcp().refuse(true);
      await stopsInItsGrace(await boot(/ERROR .*(ECONNREFUSED|ECONNRESET|reset|refused)/u));
    });

    test('a black hole at boot', async () => {
      network.tcp().letThrough(false);
      network.listenTcp().letThrough(false);
      const listener = await boot('Starting Retention Loop...');
      await until('it is connecting', () => network.tcp().hanging() > 0);
      await stopsInItsGrace(listener);
    });

    test('gone while a settle is under way', async () => {
      await stack.insertResults({ count: 20 });
      await flag();
      const release = await stack.holdStamps();
      const listener = await listen({ RETENTION_LEASE_SECONDS: '120' });
      await stack.settleWaits();
      network.tcp().refuse(true);
      network.tcp().cut();
      await listener.waitForLine('Settling is tried again');
      await stopsInItsGrace(listener);
      network.tcp().heal();
      await release();
      await stack.database().expireLeases();
      await stack.listen(network.env());
      await stack.cleared(20);
    });

    test('frozen while a settle is under way', async () => {
      await stack.insertResults({ count: 20 });
      await flag();
      const release = await stack.holdStamps();
      const listener = await listen({ RETENTION_LEASE_SECONDS: '120' });
      await stack.settleWaits();
      network.tcp().freeze();
      network.listenTcp().freeze();
      await stopsInItsGrace(listener);
      await release();
    });

    test('while S3 hangs', async () => {
      await stack.insertResults({ count: 20 });
      await flag();
      network.http().next({ kind: 'hang' });
      const listener = await listen({
        RETENTION_LEASE_SECONDS: '120',
        RETENTION_S3_REQUEST_TIMEOUT_SECONDS: '60',
      });
      await until('S3 hangs', () => network.http().hanging() === 1);
      await stopsInItsGrace(listener);
      expect(await stack.database().countStamped()).toBe(0);
    });
  });

  const pgBouncerPath = haveProgram('pgbouncer').path;
  test.skipIf(pgBouncerPath === undefined)(
    '7: behind PgBouncer in transaction mode, polls, and says so in log, health, metrics and status',
    async () => {
      const bouncer = await startPgBouncer(pgBouncerPath ?? '', runningPostgres().port);
      try {
        const url = bouncer.through(stack.database().url);
        const listener = stack.start(
          network.env({
            DATABASE_URL: url,
            DATABASE_LISTEN_URL: url,
            RETENTION_HTTP_PORT: '0',
          }),
        );
        const line = await listener.waitForLine('Serving health, metrics and status on');
        const [base = ''] = /http:\/\/[\w.:]+\//u.exec(line) ?? [];
        const text = async (path: string): Promise<string> =>
          (await fetch(new URL(path, base), { signal: AbortSignal.timeout(10_000) })).text();
        await stack.insertResults({ count: 20 });
        await flag();
        await stack.cleared(20);
        await listener.waitForLine(/Not listening.*|pooler/u, 30_000);
        await listener.waitForLine(/a pooler stands before the server/u, 30_000);
        expect(listener.stderr).toContain('Set DATABASE_LISTEN_URL');
        const ready = await fetch(new URL('readyz', base));
        expect(ready.status).toBe(503);
        expect(await ready.text()).toContain('It is not proven that notifications arrive');
        expect((await fetch(new URL('healthz', base))).status).toBe(200);
        expect(await text('metrics')).toMatch(/^retention_listening 0$/mu);
        expect(JSON.parse(await text('status.json'))).toMatchObject({
          ready: false,
          listener: { listening: false },
        });
        // No less work is done for that.
        await stack.insertResults({ count: 20 });
        await flag();
        await stack.cleared(40);
        expect(linesOf(listener, /WARNING|ERROR/u)).toBeLessThan(4);
        const doctor = await stack.run(['doctor'], { DATABASE_URL: url });
        expect(doctor.stdout).toMatch(/pooler/u);
        await stopped(listener);
      } finally {
        await bouncer.stop();
      }
    },
  );
});
