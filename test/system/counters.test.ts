import { expect, test } from 'vitest';
import type { RunningCli } from '../support/cli.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { addressOf, readFigures, readHelp } from '../support/scrape.ts';
import { until } from '../support/until.ts';

const OF_THE_DATABASE = /Of the database: the same from every listener\.$/u;
const BY_THIS_PROCESS = /by this process since it started\.$/u;
/** What a process says of its own sight, now. */
const OF_THIS_PROCESS = / of this process: (?:1 or 0|seconds)\.$/u;

const HTTP = { RETENTION_HTTP_PORT: '0' };

describeDatabase('the figures of several listeners', () => {
  const stack = useCliStack();

  test('of the database are the same from all and after a restart; counters begin again', async () => {
    await stack.database().set({ pause_base: "'10 minutes'" });
    const replicas = [await stack.listen(HTTP), await stack.listen(HTTP)];
    await stack.insertResults({ count: 60 });
    await stack.database().insertRuns({ count: 3, bucket: 'no-such-bucket' });
    await stack.insertResults({ count: 2, tenant: 'held' });
    await stack.database().query(`select retention.place_hold('audit', p_tenant_id => 'held');
      select retention.flag_expired()`);
    await stack.cleared(60);
    await settled(replicas);

    const scrapes = await Promise.all(replicas.map(scrape));
    const [first, second] = scrapes.map((text) => only(text, OF_THE_DATABASE));
    expect(first?.size).toBeGreaterThan(15);
    expectSame(first, second);
    // Counters add up to what happened, whoever did it.
    const sum = scrapes
      .map((text) => readFigures(text).get('retention_cleanup_s3_objects_deleted_total') ?? 0)
      .reduce((total, deleted) => total + deleted, 0);
    expect(sum).toBe(60);
    expect(first?.get('retention_results_cleared_today')).toBe(60);

    for (const replica of replicas) {
      replica.kill();
      expect((await replica.ended()).code).toBe(0);
    }
    const successor = await stack.listen(HTTP);
    await settled([successor]);
    const after = await scrape(successor);
    expectSame(first, only(after, OF_THE_DATABASE));
    // Prometheus takes a fall for a restart, so rate() and increase() go on: it has to be to nothing.
    const counters = [...only(after, BY_THIS_PROCESS)].filter(([name]) =>
      /_(?:total|count|sum|bucket)(?:\{|$)/u.test(name),
    );
    expect(counters.length).toBeGreaterThan(20);
    expect(counters.filter(([, value]) => value !== 0)).toEqual([]);
  });

  test('each say of themselves whose they are', async () => {
    const text = await scrape(await stack.listen(HTTP));
    const own = [...readHelp(text)].filter(([name]) => name.startsWith('retention_'));
    expect(own.length).toBeGreaterThan(30);
    for (const [name, { type, help }] of own) {
      const isCounted = type === 'counter' || type === 'histogram';
      const wanted = isCounted ? [BY_THIS_PROCESS] : [OF_THE_DATABASE, OF_THIS_PROCESS];
      expect([name, wanted.some((pattern) => pattern.test(help)), help]).toEqual([
        name,
        true,
        help,
      ]);
    }
  });

  async function scrape(listener: RunningCli): Promise<string> {
    return (await fetch(`${await addressOf(listener)}metrics`)).text();
  }

  /** A look at the database serves for seconds; waits until each has taken one after the work. */
  function settled(listeners: readonly RunningCli[]): Promise<unknown> {
    return until(
      'every listener has seen what became of the work',
      async () => {
        const figures = (await Promise.all(listeners.map(scrape))).map(readFigures);
        return figures.every(
          (it) =>
            it.get('retention_results_cleared_today') === 60 &&
            it.get('retention_results{state="failed"}') === 3 &&
            it.get('retention_results{state="leased"}') === 0 &&
            it.get('retention_listening') === 1,
        );
      },
      { limitMs: 30_000, pollMs: 300 },
    );
  }

  /** The figures of the metrics whose help says this. */
  function only(text: string, pattern: RegExp): ReadonlyMap<string, number> {
    const helps = readHelp(text);
    const metricOf = (series: string): string => {
      const name = series.replace(/\{.*$/u, '');
      return helps.has(name) ? name : name.replace(/_(?:bucket|sum|count)$/u, '');
    };
    return new Map(
      [...readFigures(text)].filter(([series]) =>
        pattern.test(helps.get(metricOf(series))?.help ?? ''),
      ),
    );
  }

  /**
   * Ages grow between two looks, and the next pass comes nearer; an estimate and the use of the queue have lives of
   * their own.
   */
  function expectSame(
    some: ReadonlyMap<string, number> | undefined,
    others: ReadonlyMap<string, number> | undefined,
  ): void {
    const isAge = (name: string): boolean =>
      /_seconds$|since_last_tick|age_|overdue|until_next/u.test(name);
    const isConstant = (name: string): boolean => /interval|retain/u.test(name);
    const steady = (figures: ReadonlyMap<string, number> = new Map()): unknown =>
      Object.fromEntries([...figures].filter(([name]) => isConstant(name) || !isAge(name)));
    expect(steady(others)).toEqual(steady(some));
    const nextPass = (figures: ReadonlyMap<string, number> | undefined): number =>
      figures?.get('retention_seconds_until_next_pass') ?? Number.NaN;
    expect(Math.abs(nextPass(others) - nextPass(some))).toBeLessThan(120);
    expect([...(others ?? []).keys()]).toEqual([...(some ?? []).keys()]);
  }
});
