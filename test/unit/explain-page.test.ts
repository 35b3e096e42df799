import { describe, expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../src/logger.ts';
import type { Explanation } from '../../src/store/explanation.ts';
import { type Telemetry, createTelemetry } from '../../src/telemetry/telemetry.ts';

const KEY = 'results/secret-name.json';
const away = (): Promise<never> => Promise.reject(new Error('away'));

function explanationOf(runId: string): Explanation {
  return {
    run_id: runId,
    state: 'dead',
    because: `failed 10 times, last with ObjectLocked ${KEY} is kept; fix the cause`,
    tenant_id: '<b>acme</b>',
    status: 'COMPLETED',
    completed_at: new Date('2026-01-01T00:00:00Z'),
    bucket: 'dpp-results',
    key: KEY,
    cleared_at: null,
    retain_days: 30,
    due_at: new Date('2026-01-31T00:00:00Z'),
    holds: null,
    flagged_at: new Date('2026-01-31T00:01:00Z'),
    batch_id: null,
    attempts: 10,
    last_code: 'ObjectLocked',
    last_error: `${KEY} is kept`,
    next_attempt_at: null,
    shares_with: null,
  };
}

interface Served {
  readonly get: (query: string, method?: string) => Promise<Response & { readonly body_: string }>;
  readonly asked: readonly string[];
}

async function serve(
  explain: (runId: string) => Promise<Explanation> = (runId) =>
    Promise.resolve(explanationOf(runId)),
): Promise<Served> {
  const asked: string[] = [];
  const telemetry: Telemetry = createTelemetry({
    host: '127.0.0.1',
    port: 0,
    target: 'db.staging.internal:5432/dpp',
    store: {
      readVitals: away,
      readOverview: away,
      pulse: away,
      explain: async ([runId = '']) => {
        asked.push(runId);
        return [await explain(runId)];
      },
    },
    listener: () => ({ listening: true, provenAt: undefined, reconnects: 0, stopping: false }),
    logger: silentLogger,
  });
  await telemetry.start();
  onTestFinished(() => telemetry.stop());
  const get: Served['get'] = async (query, method = 'GET') => {
    const reply = await fetch(`http://127.0.0.1:${telemetry.port()}/explain${query}`, { method });
    return Object.assign(reply, { body_: await reply.text() });
  };
  return { get, asked };
}

describe('/explain?run=ID', () => {
  test('says what becomes of one run, of which database, as text and without its key', async () => {
    const { get } = await serve();
    const reply = await get(`?run=${encodeURIComponent('<img src=x>/1')}`);
    expect(reply.status).toBe(200);
    expect(reply.body_).toContain('<title>One run: dpp on db.staging.internal:5432');
    expect(reply.body_).toContain('&lt;img src=x&gt;');
    expect(reply.body_).toContain('&lt;b&gt;acme');
    expect(reply.body_).toContain('last with ObjectLocked (its key) is kept; fix the cause');
    expect(reply.body_).not.toContain(KEY);
    expect(reply.body_).not.toMatch(/<img|<b>acme|<script/u);
    expect(reply.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(reply.headers.get('cache-control')).toBe('no-store');
    // A page that a person reads does not change under their eyes.
    expect(reply.headers.get('refresh')).toBeNull();
  });

  test('is for reading only, and says what it expects', async () => {
    const { get, asked } = await serve();
    for (const method of ['POST', 'DELETE', 'PUT']) {
      expect((await get('?run=1', method)).status, method).toBe(405);
    }
    const head = await get('?run=1', 'HEAD');
    expect([head.status, head.body_]).toEqual([200, '']);
    for (const [query, words] of [
      ['', 'Expected one run, as in /explain?run=ID; given none.'],
      ['?run=', 'given none.'],
      ['?run=1&run=2', 'given 2.'],
      ['?run=%00', 'without a zero byte'],
      [`?run=${'x'.repeat(1_025)}`, 'of at most 1,024 bytes'],
    ] as const) {
      const reply = await get(query);
      expect([query, reply.status]).toEqual([query, 400]);
      expect(reply.body_).toContain(words);
    }
    expect(asked).toEqual(['1']);
  });

  test('answers 404 for a run that is not there', async () => {
    const { get } = await serve((runId) =>
      Promise.resolve({ ...explanationOf(runId), state: 'unknown', key: null }),
    );
    expect((await get('?run=1')).status).toBe(404);
  });

  test('cannot load the database: one look-up at a time, each kept, and the rest refused', async () => {
    const open: (() => void)[] = [];
    const { get, asked } = await serve(async (runId) => {
      await new Promise<void>((resolve) => open.push(resolve));
      return explanationOf(runId);
    });
    const statuses: number[] = [];
    const replies = Promise.all(
      Array.from({ length: 40 }, async (_, n) => {
        statuses.push((await get(`?run=${n % 20}`)).status);
      }),
    );
    await expect.poll(() => statuses.length).toBe(36);
    for (let served = 0; served < 2; served += 1) {
      await expect.poll(() => open.length).toBe(served + 1);
      open[served]?.();
    }
    await replies;
    // Two runs, each asked for twice; the others were told to come again.
    expect(statuses.filter((status) => status === 200)).toHaveLength(4);
    expect(statuses.filter((status) => status === 503)).toHaveLength(36);
    expect(asked).toHaveLength(2);
    const [runId = ''] = asked;
    expect((await get(`?run=${runId}`)).status).toBe(200);
    expect(asked).toHaveLength(2);
  });

  test('says that there is no answer where there is none, without the reason', async () => {
    const { get } = await serve(() => Promise.reject(new Error('connect 10.0.0.7:5432')));
    const reply = await get('?run=1');
    expect(reply.status).toBe(503);
    expect(reply.body_).toContain('the log says why');
    expect(reply.body_).not.toContain('10.0.0.7');
  });
});
