import { expect, describe, test } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import { MAX_PAYLOAD_CHARACTERS } from '../../src/database/subscription.ts';
import { createBackoff } from '../../src/lifecycle/backoff.ts';
import { describeDatabase, runningPostgres, startOwnPostgres } from '../support/database.ts';
import { CHANNEL, useListening } from '../support/listening.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { haveProgram } from '../support/programs.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

const pgBouncerPath = haveProgram('pgbouncer').path;

describeDatabase('notifications', () => {
  const { database, notifier, makePool, makeListening, notify, terminate } = useListening();

  test('arrive, and catching up is asked for when they do', async () => {
    const { notifications, heard, caughtUp, proven } = makeListening({
      onCaughtUp: () => {
        caughtUp.push('connected');
        // What is sent from here on must arrive.
        void notify('{"batches":2}');
      },
    });
    await notifications.start();
    await proven(1);
    await until('it arrives', () => heard.length === 1);
    expect(heard).toEqual([{ channel: CHANNEL, payload: { batches: 2 }, raw: '{"batches":2}' }]);
    expect(notifications.state()).toMatchObject({
      listening: true,
      reconnects: 0,
      reason: undefined,
      provenAt: expect.any(Date) as Date,
    });
  });

  test('of any content arrive, and none of them ends the session', async () => {
    const { notifications, heard, proven, caughtUp } = makeListening();
    await notifications.start();
    await proven(1);
    const huge = `"${'x'.repeat(7_997)}"`;
    const payloads = ['not json', '{"half":', '', '{"__proto__":{"a":1}}', 'null', huge, '7'];
    for (const payload of payloads) await notify(payload);
    await until('all arrive', () => heard.length === payloads.length);
    expect(heard.map(({ raw }) => raw)).toEqual(payloads);
    expect(heard.map(({ payload }) => payload).filter((_, index) => index !== 3)).toEqual([
      'not json',
      '{"half":',
      undefined,
      null,
      'x'.repeat(7_997),
      7,
    ]);
    expect(caughtUp).toEqual(['connected']);
    expect(huge.length).toBeLessThan(MAX_PAYLOAD_CHARACTERS);
  });

  test('whose handling fails are logged, and the next is heard', async () => {
    let calls = 0;
    const { notifications, logger, proven } = makeListening({
      onNotification: () => {
        calls += 1;
        throw new Error('no');
      },
    });
    await notifications.start();
    await proven(1);
    await notify('1');
    await notify('2');
    await until('both were tried', () => calls === 2);
    expect(logger.count('error')).toBe(2);
    expect(notifications.state()).toMatchObject({ listening: true, reconnects: 0 });
  });

  test('come again after the server ended the session, and again', async () => {
    const { notifications, applicationName, heard, caughtUp, logger, proven, sessions } =
      makeListening();
    await notifications.start();
    for (let time = 1; time <= 3; time += 1) {
      await proven(time);
      await notify(String(time));
      await until('it arrives', () => heard.length === time);
      await terminate(applicationName);
    }
    await proven(4);
    expect(caughtUp).toEqual(['connected', 'reconnected', 'reconnected', 'reconnected']);
    expect(notifications.state()).toMatchObject({ listening: true, reconnects: 3 });
    expect(await sessions()).toBe(1);
    expect(logger.count('warning')).toBe(3);
  });

  test('come again after the network went dead without a word', async () => {
    const proxy = await startTcpProxy(runningPostgres().port);
    try {
      const { notifications, heard, proven, logger } = makeListening({
        listenUrl: proxy.through(database().url),
        probeIntervalMilliseconds: 100,
        probeTimeoutMilliseconds: 200,
      });
      await notifications.start();
      await proven(1);
      proxy.freeze();
      await proven(2);
      expect(JSON.stringify(logger.lines)).toContain('did not arrive within 200 ms');
      await notify('1');
      await until('it arrives', () => heard.length === 1);
    } finally {
      await proxy.close();
    }
  });

  test('are waited for patiently while the server is down, at the start and later', async () => {
    const server = await startOwnPostgres({ cron: false });
    const ownNotifier = makePool(server.url());
    try {
      await server.down();
      const { notifications, proven, caughtUp, logger } = makeListening({
        listenUrl: server.url(),
        notifier: ownNotifier,
      });
      await notifications.start();
      await until('it has tried', () => logger.count('warning') > 0);
      expect(notifications.state()).toMatchObject({
        listening: false,
        provenAt: undefined,
        reason: expect.stringContaining('ECONNREFUSED') as string,
      });
      await server.up();
      await proven(1);
      await server.restart('immediate');
      await proven(2);
      expect(caughtUp).toEqual(['connected', 'reconnected']);
      await notifications.stop();
    } finally {
      await ownNotifier.close();
      await server.stop();
    }
  });

  test('a loss that lasts is logged ever more rarely', async () => {
    const { notifications, logger } = makeListening({
      listenUrl: 'postgres://u:geheim@127.0.0.1:1/d',
      backoff: createBackoff({ firstMilliseconds: 1, capMilliseconds: 1 }),
    });
    await notifications.start();
    await until('it has tried often', () => logger.lines.length >= 16);
    await notifications.stop();
    const attempts = logger.lines.map(({ fields }) => fields['attempt'] as number);
    const warned = logger.lines.filter(({ level }) => level === 'warning');
    expect(attempts).toEqual(attempts.map((_, index) => index + 1));
    expect(warned.slice(0, 5).map(({ fields }) => fields['attempt'])).toEqual([1, 2, 4, 8, 16]);
    expect(JSON.stringify(logger.lines)).not.toContain('geheim');
  });

  describe('probing', () => {
    /** Counts and may fail what the notifier is asked for. */
    function watchNotifier() {
      const watch = { probes: 0, fails: false };
      const query: Database['query'] = async (...statement) => {
        watch.probes += 1;
        if (watch.fails) throw new Error('the notifier is out');
        return notifier().query(...statement);
      };
      return Object.assign(watch, { notifier: { query } });
    }

    test('costs one statement at the start, and later none while others are heard', async () => {
      const watch = watchNotifier();
      const { notifications, proven, heard } = makeListening({
        notifier: watch.notifier,
        probeIntervalMilliseconds: 300,
      });
      await notifications.start();
      await proven(1);
      expect(watch.probes).toBe(1);
      const started = performance.now();
      while (performance.now() - started < 700) {
        const before = heard.length;
        await notify('1');
        await until('it arrives', () => heard.length > before);
      }
      expect(watch.probes).toBe(1);
    });

    test('asks nothing of the listening session itself', async () => {
      const watch = watchNotifier();
      const { notifications, applicationName, proven } = makeListening({
        notifier: watch.notifier,
        probeIntervalMilliseconds: 10,
      });
      await notifications.start();
      await proven(1);
      const lastQuery = () =>
        database().one<{ query: string; query_start: Date }>(
          'select query, query_start from pg_stat_activity where application_name = $1',
          [applicationName],
        );
      const before = await lastQuery();
      await until('it has probed often', () => watch.probes > 10);
      expect(before.query).toMatch(/^LISTEN/u);
      expect(await lastQuery()).toEqual(before);
      expect(notifications.state()).toMatchObject({ listening: true, reconnects: 0 });
    });

    test('that cannot be sent does not end a session that may be well', async () => {
      const watch = watchNotifier();
      const { notifications, proven, caughtUp } = makeListening({
        notifier: watch.notifier,
        probeIntervalMilliseconds: 10,
      });
      await notifications.start();
      await proven(1);
      watch.fails = true;
      await until('it is noticed', () => notifications.state().reason !== undefined);
      expect(notifications.state()).toMatchObject({
        listening: true,
        reason: 'the probe could not be sent: the notifier is out',
      });
      watch.fails = false;
      await until('it is proven again', () => notifications.state().reason === undefined);
      expect(caughtUp).toEqual(['connected']);
    });

    test('finds out that both addresses are not the same database', async () => {
      const { notifications, caughtUp } = makeListening({
        listenUrl: database().urlAs('postgres').replace(database().name, 'postgres'),
        probeTimeoutMilliseconds: 100,
      });
      await notifications.start();
      await until('it is noticed', () =>
        notifications.state().reason?.includes('are the same database'),
      );
      expect(caughtUp).toEqual([]);
    });
  });

  describe.skipIf(pgBouncerPath === undefined)('behind a transaction pooler', () => {
    test('are known not to arrive, and the remedy is named', async () => {
      const bouncer = await startPgBouncer(pgBouncerPath ?? '', runningPostgres().port);
      try {
        const { notifications, caughtUp, logger } = makeListening({
          listenUrl: bouncer.through(database().url),
          probeTimeoutMilliseconds: 300,
        });
        await notifications.start();
        await until('it is noticed', () => logger.count('warning') === 1);
        expect(notifications.state()).toMatchObject({
          listening: false,
          reason: expect.stringMatching(/because a pooler.*Set DATABASE_LISTEN_URL/u) as string,
        });
        expect(caughtUp).toEqual([]);
        await notifications.stop();
      } finally {
        await bouncer.stop();
      }
    });
  });
});
