import { expect, test } from 'vitest';
import { createBackoff } from '../../src/lifecycle/backoff.ts';
import { describeDatabase, runningPostgres } from '../support/database.ts';
import { useListening } from '../support/listening.ts';
import { countOpenHandles, countOpenSockets } from '../support/open-handles.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

describeDatabase('stopping notifications', () => {
  const { database, notifier, makeListening, terminate } = useListening();

  test('leaves no session, no socket and no timer, twice is harmless', async () => {
    const { notifications, proven, sessions } = makeListening();
    // What the test itself keeps open is open before.
    await notifier().query('select 1');
    await sessions();
    const before = countOpenHandles();
    await notifications.start();
    await proven(1);
    await Promise.all([notifications.stop(), notifications.stop()]);
    await notifications.stop();
    await until('the session is gone', async () => (await sessions()) === 0);
    expect(countOpenHandles()).toBeLessThanOrEqual(before);
    expect(notifications.state()).toMatchObject({ listening: false, reason: 'stopped' });
  });

  test('without a start does nothing', async () => {
    const { notifications, sessions } = makeListening();
    await notifications.stop();
    await expect(notifications.start()).rejects.toThrow('stopped before it was started');
    expect(await sessions()).toBe(0);
  });

  test('while it reconnects ends the attempt and leaves nothing', async () => {
    const proxy = await startTcpProxy(runningPostgres().port);
    try {
      const { notifications, applicationName, proven, sessions, caughtUp } = makeListening({
        listenUrl: proxy.through(database().url),
      });
      await notifications.start();
      await proven(1);
      proxy.letThrough(false);
      await terminate(applicationName);
      await until('an attempt hangs', () => proxy.hanging() === 1);
      const started = performance.now();
      await notifications.stop();
      expect(performance.now() - started).toBeLessThan(3_000);
      proxy.letThrough(true);
      await until('the attempt is gone', () => proxy.hanging() === 0);
      expect(await sessions()).toBe(0);
      expect(caughtUp).toEqual(['connected']);
    } finally {
      await proxy.close();
    }
  });

  test('on a dead network takes a moment and leaves no socket', async () => {
    const proxy = await startTcpProxy(runningPostgres().port);
    try {
      const { notifications, proven, sessions } = makeListening({
        listenUrl: proxy.through(database().url),
      });
      await sessions();
      await notifier().query('select 1');
      await notifications.start();
      await proven(1);
      proxy.freeze();
      const before = countOpenSockets();
      await notifications.stop();
      // Both ends of the proxy stay.
      expect(countOpenSockets()).toBe(before - 1);
    } finally {
      await proxy.close();
    }
  });

  test('in the pause between two attempts does not wait for its end', async () => {
    const { notifications, logger } = makeListening({
      listenUrl: 'postgres://u@127.0.0.1:1/d',
      backoff: createBackoff({ firstMilliseconds: 3_600_000, capMilliseconds: 3_600_000 }),
    });
    await notifications.start();
    await until('it has failed', () => logger.count('warning') === 1);
    await notifications.stop();
  });

  test('at any moment of the start leaves nothing', async () => {
    for (let moment = 0; moment < 12; moment += 1) {
      const { notifications, sessions } = makeListening();
      await notifications.start();
      for (let turn = 0; turn < moment; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      await notifications.stop();
      await until('no session is left', async () => (await sessions()) === 0);
    }
  });
});
