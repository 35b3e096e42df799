import { expect, inject, test } from 'vitest';
import type { Variables } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { useFaultyNetwork } from '../support/faulty-network.ts';
import { makeBucket } from '../support/s3-target.ts';
import { until } from '../support/until.ts';

const DAY_MILLISECONDS = 86_400_000;

/** More than S3 lets a clock be wrong. */
const SKEW_MILLISECONDS = 900_000;

/** Sets the wall clock of a command's process wrong; what counts time up goes on as it does. */
function clockWrongBy(milliseconds: number): Variables {
  const preload = `const Real = Date;
    globalThis.Date = class Date extends Real {
      constructor(...given) {
        if (given.length === 0) super(Real.now() + ${milliseconds});
        else super(...given);
      }
      static now() { return Real.now() + ${milliseconds}; }
    };`;
  const address = `data:text/javascript;base64,${Buffer.from(preload).toString('base64')}`;
  return { NODE_OPTIONS: `--import ${address}` };
}

const realS3 = inject('realS3');

describeDatabase('a bad day of the clock', () => {
  const stack = useCliStack();
  const network = useFaultyNetwork(stack);

  test.each([
    ['a day ahead', DAY_MILLISECONDS],
    ['half an hour behind', -DAY_MILLISECONDS / 48],
  ])(
    'a listener whose clock is %s deletes what is due by the database, and says what is so',
    async (_, wrongBy) => {
      const { run } = stack.database();
      const listener = await stack.listen(
        network.env({ ...clockWrongBy(wrongBy), RETENTION_HTTP_PORT: '0' }),
      );
      const line = await listener.waitForLine('Serving health, metrics and status on');
      const [base = ''] = /http:\/\/[\w.:]+\//u.exec(line) ?? [];
      // Its own day is wrong for certain.
      const said = Date.parse(line.slice(0, 24)) - Date.now();
      expect(Math.abs(said - wrongBy)).toBeLessThan(60_000);

      const [due = ''] = await stack.insertResults({ completedAgo: '721 hours' });
      const [fresh = ''] = await stack.insertResults({ completedAgo: '719 hours' });
      await stack.database().query('select retention.flag_expired()');
      await stack.cleared(1);
      const { result_cleared_at: stamp } = await run(due);
      const { now } = await stack.database().one<{ now: Date }>('select now() as now');
      expect(Math.abs(now.getTime() - (stamp?.getTime() ?? 0))).toBeLessThan(60_000);
      expect((await run(fresh)).result_cleared_at).toBeNull();
      expect(stack.s3().hasObject('dpp-results', `results/${fresh}`)).toBe(true);

      await until(
        'it is ready',
        async () => (await fetch(new URL('readyz', base))).status === 200,
        {
          seen: () => listener.stderr,
          pollMs: 200,
        },
      );
      const metrics = await (await fetch(new URL('metrics', base))).text();
      const tick = /^retention_seconds_since_last_tick (.*)$/mu.exec(metrics)?.[1];
      expect(Number(tick)).toBeLessThan(120);
      const page = (await (await fetch(new URL('status.json', base))).json()) as { at: string };
      expect(Math.abs(Date.parse(page.at) - Date.now())).toBeLessThan(60_000);
      expect(listener.stderr).not.toMatch(/WARNING|ERROR/u);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    },
  );

  test('a listener whose clock is a day behind deletes nothing, since the database may be a day ahead', async () => {
    await stack.insertResults({ count: 3 });
    const listener = await stack.listen(
      network.env({ ...clockWrongBy(-DAY_MILLISECONDS), RETENTION_HTTP_PORT: '0' }),
    );
    const line = await listener.waitForLine('Serving health, metrics and status on');
    const [base = ''] = /http:\/\/[\w.:]+\//u.exec(line) ?? [];
    const said = await listener.waitForLine('Nothing is flagged and nothing deleted');
    expect(said).toContain("the clock of the database is ahead of this process's by 1 day");
    const ready = await fetch(new URL('readyz', base));
    expect(ready.status).toBe(503);
    expect(await ready.text()).toContain('clocks differ');
    // Nothing of what is announced meanwhile either.
    await stack.database().query('select retention.flag_expired()');
    await stack.insertResults({ count: 3 });
    await stack.database().query('select retention.flag_expired()');
    const refused = await stack.run(['reconcile'], clockWrongBy(-DAY_MILLISECONDS));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('the clock of the database is ahead');
    expect(stack.requests().filter(({ operation }) => operation.startsWith('Delete'))).toEqual([]);
    expect(await stack.countCleared()).toBe(0);
    // Another process, of which the clock is right, goes on.
    expect((await stack.run(['reconcile'])).code).toBe(0);
    expect(await stack.countCleared()).toBe(6);
  });

  test('an S3 that refuses a request of the wrong day is asked again in its own time', async () => {
    await stack.insertResults({ count: 20 });
    network.http().steer(({ headers }) => {
      const [, date = '', time = ''] =
        /^(\d{8})T(\d{6})Z$/u.exec(String(headers['x-amz-date'])) ?? [];
      const iso = `${date.replace(/(..)(..)$/u, '-$1-$2')}T${time.replace(/(..)(..)(..)/u, '$1:$2:$3')}Z`;
      if (Math.abs(Date.parse(iso) - Date.now()) < SKEW_MILLISECONDS) return undefined;
      const body = '<Error><Code>RequestTimeTooSkewed</Code><Message>too skewed</Message></Error>';
      return { kind: 'answer', status: 403, body, headers: { date: new Date().toUTCString() } };
    });
    const { code, stdout, stderr } = await stack.run(
      ['reconcile', '--json'],
      network.env({
        ...clockWrongBy(DAY_MILLISECONDS),
        RETENTION_S3_MAX_ATTEMPTS: '2',
        RETENTION_LEASE_SECONDS: '60',
      }),
    );
    expect(stderr).not.toContain('ERROR');
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { cleared: 20, failed: 0 }]);
    expect(network.http().injected.get('answer')).toBeGreaterThan(0);
    expect(await stack.countCleared()).toBe(20);
  });

  test.skipIf(realS3.kind === 'missing')('and so is a real S3', async () => {
    if (realS3.kind === 'missing') return;
    const { endpoint, region, owner } = realS3.target;
    const bucket = await makeBucket(realS3.target);
    const runIds = await stack.database().insertRuns({ count: 20, bucket: bucket.name });
    await bucket.put(...runIds.map((runId) => `results/${runId}`));
    const { code, stdout } = await stack.run(['reconcile', '--json'], {
      ...clockWrongBy(DAY_MILLISECONDS),
      S3_ENDPOINT_URL: endpoint,
      S3_RESULT_BUCKET: bucket.name,
      AWS_REGION: region,
      AWS_ACCESS_KEY_ID: owner.accessKeyId,
      AWS_SECRET_ACCESS_KEY: owner.secretAccessKey,
    });
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { cleared: 20, failed: 0 }]);
    expect(await bucket.keys()).toEqual([]);
  });
});
