import { writeFileSync } from 'node:fs';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { sendTest, createWebhook } from '../../src/webhook/webhook.ts';
import { describeDatabase } from '../support/database.ts';
import { failuresOf, useMigrated } from '../support/migrated.ts';
import { sealRuns } from '../support/proof.ts';
import { createRecordingLogger } from '../support/recording-logger.ts';
import { until } from '../support/until.ts';
import { SECRET, isSigned, startWebhookServer } from '../support/webhook-server.ts';

describeDatabase('the webhook', () => {
  const database = useMigrated();
  const query = (sql: string) => database().query(sql);

  // The gate that a test has left, and what it announced.
  beforeEach(async () => {
    await query('select retention._note_gate()');
    await query('delete from retention.attention');
  });

  async function start(listeners = 1) {
    const server = await startWebhookServer();
    const logger = createRecordingLogger();
    const senders = Array.from({ length: listeners }, () =>
      createWebhook({
        url: server.url,
        secretFile: server.secretFile,
        store: database().store,
        logger,
        pollSeconds: 60,
        timeoutMilliseconds: 300,
      }),
    );
    onTestFinished(() => Promise.all(senders.map((sender) => sender.stop())).then(() => undefined));
    await Promise.all(senders.map((sender) => sender.start()));
    const came = (count: number) =>
      until(`${count} messages came`, () => server.deliveries.length >= count, {
        seen: () => logger.lines,
      });
    const wake = (): void => senders.forEach((sender) => sender.wake());
    const kinds = () => server.deliveries.map(({ document }) => document.type);
    return { ...server, logger, senders, came, wake, kinds };
  }

  const settled = (kind: string) =>
    until(`${kind} is delivered`, async () => {
      const rows = await database().query(
        'select from retention.webhook where kind = $1 and message_id is null and delivered_at is not null',
        [kind],
      );
      return rows.length > 0;
    });
  const passMinute = () =>
    query(`update retention.webhook set next_at = now() - interval '1 second'`);

  test('tells of a halt, its end, dead results, a surge and the head of a seal, each signed, without keys', async () => {
    const hook = await start();
    await sealRuns(database(), 1);
    await database().insertRun();
    await query('select retention.flag_expired()');
    const { batchId, lease, keys } = await database().claimNext();
    const failed = failuresOf(keys, { final: true });
    await database().store.settle(batchId, lease, { cleared: [], failed, milliseconds: 1 });
    await query(`select retention._open_surge(5000, 2, 'tenant', 'test')`);
    await query(`select retention.halt('the key results/secret-1 of postgres://u:geheim@h/d')`);
    hook.wake();
    await hook.came(4);
    await settled('halted');
    await query('select retention.resume()');
    hook.wake();
    await settled('resumed');
    expect(new Set(hook.kinds())).toEqual(
      new Set(['dead', 'surge', 'sealed', 'halted', 'resumed'].map((kind) => `retention.${kind}`)),
    );
    for (const each of hook.deliveries) {
      expect(isSigned(each)).toBe(true);
      expect(Math.abs(Number(each.headers['webhook-timestamp']) - Date.now() / 1_000)).toBeLessThan(
        60,
      );
      expect(each.headers['content-type']).toBe('application/json');
      expect(each.body).not.toMatch(/results\/|geheim/u);
    }
    const dataOf = (kind: string) =>
      hook.deliveries.find(({ document }) => document.type === `retention.${kind}`)?.document.data;
    expect(dataOf('dead')).toMatchObject({
      bucket: 'dpp-results',
      code: 'AccessDenied',
      results: 1,
    });
    expect(dataOf('surge')).toMatchObject({ results: 5_000, tenants: 2, announcements: 1 });
    expect(dataOf('sealed')).toMatchObject({
      seal: 1,
      digest: expect.stringMatching(/^[0-9a-f]{64}$/u) as string,
    });
    expect(dataOf('halted')).toMatchObject({ reasons: ['halted'] });
    expect(dataOf('halted')?.['text']).toContain(
      'Nothing is flagged and nothing is deleted: halted',
    );
  });

  test('of several listeners one tells, and a minute passes before the next of its kind, which tells how many there were', async () => {
    const hook = await start(3);
    await query(`select retention._open_surge(10, 1, 'tenant', 'test')`);
    hook.wake();
    await settled('surge');
    for (const found of [20, 30, 40]) {
      await query(`select retention._open_surge(${found}, 1, 'tenant', 'test')`);
    }
    const { messages, nextSeconds } = await database().store.claimMessages(30);
    expect(messages).toEqual([]);
    expect(nextSeconds).toBeGreaterThan(50);
    expect(nextSeconds).toBeLessThanOrEqual(60);
    expect(hook.deliveries).toHaveLength(1);
    await passMinute();
    hook.wake();
    await hook.came(2);
    await settled('surge');
    expect(hook.deliveries).toHaveLength(2);
    expect(hook.deliveries[1]?.document.data).toMatchObject({ results: 40, announcements: 3 });
    expect(hook.deliveries[1]?.id).not.toBe(hook.deliveries[0]?.id);
  });

  test.each([
    ['fails', 500, 'answered 500'],
    ['redirects', { location: '/elsewhere' }, 'answered 307, and redirects are not followed'],
    ['hangs', 'hang', 'no answer within 0.3 s'],
  ] as const)(
    'a server that %s gets the same message again, and nothing of its address is logged',
    async (_, answer, said) => {
      const hook = await start();
      hook.state.answer = answer;
      await query(`select retention.halt('a test')`);
      hook.wake();
      await hook.came(1);
      await until('the failure is written down', async () => {
        const [row] = await query(
          'select problem from retention.webhook where problem is not null',
        );
        return String(row?.['problem']).includes(said);
      });
      hook.state.answer = 200;
      await passMinute();
      hook.wake();
      await settled('halted');
      const [first, second, ...others] = hook.deliveries;
      expect(others).toEqual([]);
      expect(second).toMatchObject({ id: first?.id, body: first?.body, url: first?.url });
      expect(second && isSigned(second)).toBe(true);
      const lines = JSON.stringify(hook.logger.lines);
      expect(lines).toContain(said);
      expect(lines).toContain('The webhook works again');
      expect(lines).not.toMatch(/geheim|elsewhere/u);
    },
  );

  test('a server that hangs does not delay a stop, and another listener has the message when the lease is over', async () => {
    const hook = await start();
    hook.state.answer = 'hang';
    await query(`select retention.halt('a test')`);
    hook.wake();
    await hook.came(1);
    const before = performance.now();
    await hook.senders[0]?.stop();
    expect(performance.now() - before).toBeLessThan(250);
    expect((await database().store.claimMessages(30)).messages).toEqual([]);
    await passMinute();
    const { messages } = await database().store.claimMessages(30);
    expect(messages).toMatchObject([
      { kind: 'halted', message_id: hook.deliveries[0]?.id, attempt: 2 },
    ]);
  });

  test('what anybody sends on the channels makes no message, and what is over is not told', async () => {
    const hook = await start();
    const forged = `select pg_notify('retention_attention', '{"kind":"halted","reasons":["halted"]}')`;
    await query(forged);
    await query(`select retention.halt('a test')`);
    await query('select retention.resume()');
    hook.wake();
    await settled('resumed');
    await query(`update retention.attention set at = now() - interval '2 days'`);
    expect(hook.kinds()).toEqual(['retention.resumed']);
    expect((await database().store.claimMessages(30)).nextSeconds).toBeUndefined();
  });

  test('a copy of the database is a kind of its own', async () => {
    await query('update retention.identity set timeline = 7');
    await query('select retention._note_gate()');
    const { messages } = await database().store.claimMessages(30);
    expect(messages).toMatchObject([
      { kind: 'copy', payload: { kind: 'halted', reasons: ['copy'] } },
    ]);
    await query('select retention.accept_fence()');
  });

  test('during a change of the secret both sign; a file that holds none is named, and none of what it holds', async () => {
    const hook = await startWebhookServer();
    const newer = `whsec_${Buffer.alloc(24, 9).toString('base64')}`;
    writeFileSync(hook.secretFile, `${SECRET}\n${newer}\n`);
    await sendTest(hook);
    const [delivery] = hook.deliveries;
    expect(delivery?.document.type).toBe('retention.test');
    expect(delivery && [isSigned(delivery, SECRET), isSigned(delivery, newer)]).toEqual([
      true,
      true,
    ]);
    for (const text of ['', 'geheim', 'whsec_Z2VoZWlt']) {
      writeFileSync(hook.secretFile, text);
      const error = await sendTest(hook).catch((it: unknown) => it);
      expect(String(error)).toContain(
        'RETENTION_WEBHOOK_SECRET_FILE: expected secrets of 24 to 64 bytes',
      );
      expect(String(error)).not.toMatch(/geheim|Z2Vo/u);
    }
  });
});
