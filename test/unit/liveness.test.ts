import { afterEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/logger.ts';
import { type Telemetry, createTelemetry } from '../../src/telemetry/telemetry.ts';

const MINUTE = 60_000;
const away = (): Promise<never> => Promise.reject(new Error('away'));

describe('health while no session of the database can work', () => {
  let telemetry: Telemetry | undefined;
  afterEach(() => telemetry?.stop());

  async function ask(path: string, fault?: { kind: string; since: Date }) {
    telemetry = createTelemetry({
      host: '127.0.0.1',
      port: 0,
      target: 'db:5432/dpp',
      store: { readVitals: away, readOverview: away, pulse: away, explain: away },
      listener: () => ({
        listening: false,
        provenAt: undefined,
        reconnects: 0,
        stopping: false,
        fault,
      }),
      logger: silentLogger,
    });
    await telemetry.start();
    const reply = await fetch(`http://127.0.0.1:${telemetry.port()}${path}`);
    return { status: reply.status, body: await reply.text() };
  }
  const since = (milliseconds: number) => new Date(Date.now() - milliseconds);

  test.each(['login refused', 'read-only', 'another database'])(
    'it is not alive when the reason has been "%s" for a minute, so that it is started again',
    async (kind) => {
      const { status, body } = await ask('/healthz', { kind, since: since(MINUTE + 1_000) });
      expect(status).toBe(503);
      expect(body).toContain(kind);
    },
  );

  test('it is alive before that, and says in its readiness what it is', async () => {
    const fault = { kind: 'read-only', since: since(MINUTE - 5_000) };
    expect((await ask('/healthz', fault)).status).toBe(200);
    await telemetry?.stop();
    const { status, body } = await ask('/readyz', fault);
    expect(status).toBe(503);
    expect(body).toContain('read-only');
  });

  test('it is alive when the database is merely away, however long', async () => {
    expect((await ask('/healthz')).status).toBe(200);
  });
});
