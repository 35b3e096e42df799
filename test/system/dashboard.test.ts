import { S3Client, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { DEFAULT_USERS } from '../stack/memory-s3.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { dashboardQueries } from '../support/dashboard.ts';
import { describeDatabase } from '../support/database.ts';
import { haveProgram } from '../support/programs.ts';
import { type Prometheus, type Series, startPrometheus } from '../support/prometheus.ts';
import { addressOf } from '../support/scrape.ts';
import { until } from '../support/until.ts';

const ALERTS = fileURLToPath(new URL('../../deploy/prometheus/alerts.yaml', import.meta.url));
const LIMIT = { limitMs: 60_000, pollMs: 300 };

interface Answer {
  readonly result: readonly Series[];
}

interface Rule {
  readonly name: string;
  readonly health: string;
  readonly lastError?: string;
  readonly state: string;
}

describeDatabase('the dashboard and the alerts, in a real Prometheus', () => {
  const stack = useCliStack();
  const query = (text: string): Promise<unknown> => stack.database().query(text);

  test(
    'every panel shows something and every rule works',
    { timeout: 240_000 },
    async (context) => {
      const found = haveProgram('prometheus');
      if (found.path === undefined) {
        if (process.env['CI'] === 'true') throw new Error(found.reason);
        return context.skip(found.reason);
      }
      await stack.database().set({ pause_base: "'10 minutes'", max_attempts: '1' });
      const listeners = [await stack.listen(SERVED), await stack.listen(SERVED)];
      const addresses = await Promise.all(listeners.map(addressOf));
      const prometheus = await startPrometheus({
        program: found.path,
        targets: addresses.map((address) => new URL(address).host),
        ruleFiles: [ALERTS],
      });
      await until(
        'both are scraped',
        async () => (await ask(prometheus, 'sum(up) == 2')).length > 0,
        LIMIT,
      );
      await causeTrouble();
      const stop = keepWorking();
      try {
        const queries = dashboardQueries('10s');
        expect(queries.length).toBeGreaterThan(20);
        for (const { title, query: panel } of queries) {
          await until(
            `panel ${title} shows something`,
            () => showsFigures(prometheus, panel),
            LIMIT,
          );
        }
      } finally {
        await stop();
      }
      await expectFiguresOfTheDatabase(prometheus);
      await expectRules(prometheus);
      return undefined;
    },
  );

  const SERVED = { RETENTION_HTTP_PORT: '0', S3_RESULT_BUCKET: 'dpp-results,no-such-bucket' };

  /** A paused bucket, dead results, a hold, a lost session, and runs that are all old. */
  async function causeTrouble(): Promise<void> {
    const { endpoint, region } = stack.s3();
    const [credentials] = DEFAULT_USERS;
    const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials });
    onTestFinished(() => client.destroy());
    const Policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Deny',
          Principal: '*',
          Action: 's3:DeleteObject',
          Resource: 'arn:aws:s3:::dpp-results/locked/*',
        },
      ],
    });
    await client.send(new PutBucketPolicyCommand({ Bucket: 'dpp-results', Policy }));
    await stack.insertResults({ count: 4, key: 'locked/all' });
    await stack.database().insertRuns({ count: 3, bucket: 'no-such-bucket' });
    await stack.insertResults({ count: 2, tenant: 'held' });
    await query(`select retention.place_hold('audit', p_tenant_id => 'held')`);
    await query('select retention.flag_expired()');
    await query(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()
        and query ilike 'listen %retention_expired%'`);
  }

  /** New results fall due all the time, and some of them are refused. */
  function keepWorking(): () => Promise<void> {
    const over = new AbortController();
    const working = (async () => {
      while (!over.signal.aborted) {
        await stack.insertResults({ count: 20 });
        await stack.insertResults({ key: `locked/${Date.now()}` });
        await query('select retention.flag_expired()');
        await new Promise((resolve) => {
          setTimeout(resolve, 500);
        });
      }
    })();
    return () => {
      over.abort();
      return working;
    };
  }

  async function ask(prometheus: Prometheus, text: string): Promise<readonly Series[]> {
    return (await prometheus.ask<Answer>('query', { query: text })).result;
  }

  /** Both the figure of now and the graph of the last half minute. */
  async function showsFigures(prometheus: Prometheus, text: string): Promise<boolean> {
    const now = Date.now() / 1_000;
    const range = { start: String(now - 30), end: String(now), step: '1' };
    const graph = await prometheus.ask<Answer>('query_range', { query: text, ...range });
    const points = [
      (await ask(prometheus, text)).map(({ value }) => value),
      graph.result.flatMap(({ values = [] }) => values),
    ];
    return points.every((list) => list.some((point) => Number.isFinite(Number(point?.[1]))));
  }

  async function expectFiguresOfTheDatabase(prometheus: Prometheus): Promise<void> {
    const status = await stack
      .database()
      .one<{ dead: number }>('select dead::int as dead from retention.status');
    expect(status.dead).toBeGreaterThanOrEqual(4);
    await until(
      'what is dead is what the database says',
      async () => {
        const [series] = await ask(prometheus, 'max(retention_results{state="dead"})');
        return Number(series?.value?.[1]) === status.dead;
      },
      LIMIT,
    );
    const both = await ask(prometheus, 'count by (state) (retention_results)');
    expect(both.map(({ value }) => value?.[1])).toEqual(['2', '2', '2', '2', '2']);
  }

  async function expectRules(prometheus: Prometheus): Promise<void> {
    const read = async (): Promise<readonly Rule[]> => {
      const { groups } = await prometheus.ask<{
        readonly groups: readonly { readonly rules: readonly Rule[] }[];
      }>('rules');
      return groups.flatMap(({ rules }) => rules);
    };
    // What was caused is on its way to fire; a database that answers is not.
    const stateOf = (rules: readonly Rule[], name: string): string | undefined =>
      rules.find((rule) => rule.name === name)?.state;
    const rules = await until(
      'what was caused is pending',
      async () => {
        const now = await read();
        const caused = ['RetentionResultsDead', 'RetentionBucketPaused', 'RetentionNoNewRuns'];
        return caused.every((name) => stateOf(now, name) === 'pending') ? now : undefined;
      },
      LIMIT,
    );
    expect(rules).toHaveLength(readFileSync(ALERTS, 'utf8').split('- alert:').length - 1);
    expect(rules.filter(({ health, lastError }) => health !== 'ok' || lastError)).toEqual([]);
    for (const calm of ['RetentionDatabaseDown', 'RetentionNoListener', 'RetentionTicksSilent']) {
      expect([calm, stateOf(rules, calm)]).toEqual([calm, 'inactive']);
    }
  }
});
