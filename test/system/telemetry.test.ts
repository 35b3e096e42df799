import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type RequestOptions, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type RunningCli, startCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { haveProgram } from '../support/programs.ts';
import { addressOf, readFigures } from '../support/scrape.ts';
import { until } from '../support/until.ts';

const HTTP = { RETENTION_HTTP_PORT: '0' } as const;

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

/** One request, with nothing done to the path on the way. */
function ask(base: string, path: string, options: RequestOptions = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(base);
    const asking = request({ hostname, port, path, agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    });
    asking.on('error', reject).end();
  });
}

describeDatabase('health, metrics and status of a listener', () => {
  const stack = useCliStack();
  const flag = (): Promise<unknown> => stack.database().query('select retention.flag_expired()');

  async function listen(): Promise<{ base: string; listener: RunningCli }> {
    const listener = await stack.listen(HTTP);
    // Its first tick is over, so that the passes that follow are the test's own.
    await until('the first pass is over', async () => {
      const [row] = await stack
        .database()
        .query('select from retention.heartbeat where passed_at is not null');
      return row !== undefined;
    });
    return { base: await addressOf(listener), listener };
  }

  function ready(base: string): Promise<unknown> {
    return until('it is ready', async () => (await ask(base, '/readyz')).status === 200, {
      limitMs: 20_000,
      pollMs: 100,
    });
  }

  /** Waits for a scrape in which a figure is what is expected; returns its figures. */
  function scraped(
    base: string,
    name: string,
    value: number,
  ): Promise<ReadonlyMap<string, number>> {
    return until(
      `${name} is ${value}`,
      async () => {
        const figures = readFigures((await ask(base, '/metrics')).body);
        return figures.get(name) === value ? figures : undefined;
      },
      { limitMs: 20_000, pollMs: 200 },
    );
  }

  test('counts exactly what happened', async () => {
    await stack.database().set({ pause_base: "'10 minutes'" });
    const { base } = await listen();
    const before = readFigures((await ask(base, '/metrics')).body);
    expect(before.get('retention_cleanup_s3_objects_deleted_total')).toBe(0);

    await stack.insertResults({ count: 250 });
    await stack.database().insertRuns({ count: 3, bucket: 'no-such-bucket' });
    const spared = await stack.insertResults({ count: 2, tenant: 'spared' });
    const { query } = stack.database();
    await query(
      'begin; select retention.flag_expired(); update runs set completed_at = now() where run_id = any (string_to_array($$' +
        spared.join(',') +
        "$$, ',')::uuid[]); commit",
    );
    await stack.cleared(250);
    const figures = await scraped(base, 'retention_results{state="failed"}', 3);
    const expected: Readonly<Record<string, number>> = {
      retention_cleanup_runs_scanned_total: 255,
      retention_cleanup_s3_objects_deleted_total: 250,
      retention_cleanup_errors_total: 3,
      retention_runs_stamped_total: 250,
      retention_results_spared_total: 2,
      retention_results_buried_total: 0,
      retention_leases_lost_total: 0,
      retention_reconnects_total: 0,
      retention_listening: 1,
      retention_database_up: 1,
      retention_enabled: 1,
      retention_buckets_paused: 1,
      'retention_bucket_paused{bucket="no-such-bucket"}': 1,
      'retention_results{state="flagged"}': 3,
      'retention_results{state="dead"}': 0,
      retention_results_cleared_today: 250,
      retention_default_retain_seconds: 30 * 86_400,
      retention_loop_interval_seconds: 86_400,
      'retention_batch_duration_seconds_count{outcome="failed"}': 1,
    };
    for (const [name, value] of Object.entries(expected)) {
      expect([name, figures.get(name)]).toEqual([name, value]);
    }
    expect(figures.get('retention_notifications_received_total')).toBeGreaterThan(0);
    expect(figures.get('retention_oldest_due_age_seconds')).toBeGreaterThan(31 * 86_400 - 60);
    const overdue = figures.get('retention_oldest_overdue_seconds') ?? 0;
    expect(Math.abs(overdue - 86_400)).toBeLessThan(120);
    expect(figures.get('retention_batch_results_sum')).toBe(253);
    const asked = stack.requests().filter(({ operation }) => operation === 'DeleteObjects');
    const calls = [...figures].filter(([name]) =>
      name.startsWith('retention_s3_request_duration_seconds_count'),
    );
    expect(calls.reduce((sum, [, count]) => sum + count, 0)).toBe(asked.length);
  });

  test('promtool finds nothing to say about a live scrape', async (context) => {
    const promtool = haveProgram('promtool');
    context.skip(promtool.path === undefined, 'promtool cannot be had here');
    const { base } = await listen();
    await stack.insertResults({ count: 5 });
    await flag();
    await stack.cleared(5);
    const { body, headers } = await ask(base, '/metrics');
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    const checker = spawn(promtool.path ?? '', ['check', 'metrics'], { stdio: 'pipe' });
    let said = '';
    checker.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    checker.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    checker.stdin.end(body);
    const [code] = (await once(checker, 'close')) as [number];
    expect({ code, said }).toEqual({ code: 0, said: '' });
  });

  test('a restart begins the counters of the process again; the figures of the database stay', async () => {
    const first = await listen();
    await stack.insertResults({ count: 7 });
    await flag();
    await stack.cleared(7);
    await scraped(first.base, 'retention_cleanup_s3_objects_deleted_total', 7);
    first.listener.kill();
    await first.listener.ended();
    const { base } = await listen();
    const figures = readFigures((await ask(base, '/metrics')).body);
    expect(figures.get('retention_cleanup_s3_objects_deleted_total')).toBe(0);
    expect(figures.get('retention_results_cleared_today')).toBe(7);
    const { body } = await ask(base, '/metrics');
    expect(body).toContain(
      '# HELP retention_cleanup_s3_objects_deleted_total Objects that S3 named as deleted or already gone and whose work is done, by this process since it started.',
    );
  });

  test('answers GET and HEAD only, on its own paths only, with nothing to load or frame', async () => {
    const { base } = await listen();
    for (const path of ['/', '/healthz', '/readyz', '/status.json', '/metrics']) {
      const got = await ask(base, path);
      const headed = await ask(base, path, { method: 'HEAD' });
      expect(headed.body).toBe('');
      expect(headed.status).toBe(got.status);
      expect(Number(headed.headers['content-length'])).toBeGreaterThan(10);
      expect(headed.headers['content-type']).toBe(got.headers['content-type']);
      for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
        const refused = await ask(base, path, { method });
        expect([method, refused.status, refused.headers['allow']]).toEqual([
          method,
          405,
          'GET, HEAD',
        ]);
      }
      expect(got.headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
        'cache-control': 'no-store',
      });
      expect(got.headers['content-security-policy']).toContain("default-src 'none'");
      expect(got.headers['content-security-policy']).not.toContain('script-src');
    }
    const strange = ['/nothing', '/__proto__', '/../etc/passwd', '//', '/constructor', '/metrics/'];
    for (const path of strange) expect((await ask(base, path)).status).toBe(404);
    expect((await ask(base, '/healthz?probe=1')).status).toBe(200);
    // Another address of this very machine: only the loopback that it was told is open.
    const { port } = new URL(base);
    const elsewhere = connect({ host: '127.0.0.2', port: Number(port) });
    const [error] = (await once(elsewhere, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
  });

  test('the sums of the page are of the same moment as its lists', async () => {
    const { base } = await listen();
    // A scrape has just looked, and what it saw serves for a while.
    await ask(base, '/metrics');
    await stack.database().insertRuns({ count: 3, bucket: 'no-such-bucket' });
    await flag();
    const { flagged, buckets } = JSON.parse((await ask(base, '/status.json')).body) as {
      readonly flagged: number;
      readonly buckets: readonly { readonly flagged: number }[];
    };
    expect([flagged, buckets.map((bucket) => bucket.flagged)]).toEqual([3, [3]]);
  });

  test('tells no secret, whatever is asked', async () => {
    const { base } = await listen();
    await ready(base);
    const secrets = [
      stack.env()['AWS_SECRET_ACCESS_KEY'],
      stack.database().url,
      stack.s3().endpoint,
    ];
    for (const path of ['/', '/healthz', '/readyz', '/status.json', '/metrics', '/nothing']) {
      const { body } = await ask(base, path);
      for (const secret of secrets) expect(body).not.toContain(secret ?? 'there is none');
    }
  });

  test('a port that is taken is one clear message, and the listener ends', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => {
      taken.listen(0, '127.0.0.1', resolve);
    });
    onTestFinished(() => void taken.close());
    const { port } = taken.address() as AddressInfo;
    const result = await stack.run(['listen'], { RETENTION_HTTP_PORT: String(port) });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(
      `error: port ${port} on 127.0.0.1 cannot be served: another program has it`,
    );
    expect(result.stderr).toContain('Set RETENTION_HTTP_PORT to a free port');
    expect(result.stderr).not.toContain('    at ');
  });

  test('is not ready while it stops, and answers to the end', async () => {
    const { base, listener } = await listen();
    await ready(base);
    await stack.insertResults({ count: 1 });
    const session = await stack.database().connect();
    onTestFinished(() => session.end().catch(() => undefined));
    await session.query('begin');
    await session.query('lock table runs in share mode');
    await flag();
    await until(
      'the settle waits',
      async () =>
        (
          await stack
            .database()
            .query(
              `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%retention.settle%'`,
            )
        ).length > 0,
    );
    listener.kill();
    const stopping = await until('it says that it stops', async () => {
      const reply = await ask(base, '/readyz');
      return reply.status === 503 ? reply : undefined;
    });
    expect(stopping.body).toContain('This listener is stopping.');
    expect((await ask(base, '/healthz')).status).toBe(200);
    await session.query('rollback');
    expect((await listener.ended()).code).toBe(0);
    await stack.cleared(1);
  });
});

describeDatabase('readiness', () => {
  test('comes with the database, goes with it and comes again; the process lives throughout', async () => {
    const server = await startOwnPostgres();
    onTestFinished(() => server.stop());
    const url = server.url('app');
    await migrateUp(url);
    await server.down();
    const listener = startCli(['listen'], {
      env: {
        DATABASE_URL: url,
        AWS_REGION: 'us-east-1',
        S3_RESULT_BUCKET: '*',
        DPP_JSON_LOGS: 'false',
        ...HTTP,
      },
    });
    onTestFinished(() => listener[Symbol.asyncDispose]());
    const base = await addressOf(listener);

    const becomes = (status: number): Promise<Reply> =>
      until(
        `/readyz answers ${status}`,
        async () => {
          const reply = await ask(base, '/readyz');
          return reply.status === status ? reply : undefined;
        },
        { limitMs: 40_000, pollMs: 200 },
      );
    const away = await becomes(503);
    expect(away.headers['content-type']).toBe('application/json; charset=utf-8');
    const document = JSON.parse(away.body) as { ready: boolean; reasons: string[] };
    expect(document.ready).toBe(false);
    expect(document.reasons).toContain('The database does not answer (ECONNREFUSED).');
    expect(document.reasons.join(' ')).toContain('not proven that notifications arrive');
    expect(away.body).not.toContain(String(server.port));
    expect((await ask(base, '/healthz')).status).toBe(200);
    expect((await ask(base, '/status.json')).status).toBe(503);
    const page = await ask(base, '/');
    expect([page.status, page.body.includes('Not ready')]).toEqual([503, true]);
    const figures = readFigures((await ask(base, '/metrics')).body);
    expect(figures.get('retention_database_up')).toBe(0);
    // The past is not passed off as the present.
    expect([...figures.keys()].some((name) => name.startsWith('retention_results{'))).toBe(false);

    await server.up();
    expect((await becomes(200)).body).toBe('{"ready":true,"reasons":[]}\n');
    await server.down('immediate');
    await becomes(503);
    expect((await ask(base, '/healthz')).status).toBe(200);
    await server.up();
    await becomes(200);
    listener.kill();
    expect((await listener.ended()).code).toBe(0);
  });
});
