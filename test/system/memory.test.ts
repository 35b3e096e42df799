import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { addressOf, readFigures } from '../support/scrape.ts';

const run = promisify(execFile);
const SMALL_HEAP = new URL('../../dist/cli/small-heap.js', import.meta.url).href;
const MEGABYTE = 1_024 ** 2;

/** What is in flight is kept for a while and then dropped, thousands of times over. */
const CHURN = `
let most = 0;
const inFlight = [];
for (let batch = 0; batch < 4_000; batch += 1) {
  inFlight[batch % 100] = Array.from({ length: 1_000 }, (_, key) => ('key' + batch + key).toUpperCase());
  most = Math.max(most, process.memoryUsage().heapTotal);
}
console.log(most);`;

describe('a small heap', () => {
  test('stays near to what is in flight, where V8 by itself goes for several times as much', async () => {
    const peak = async (first: string): Promise<number> => {
      const code = `${first}\n${CHURN}`;
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code]);
      return Number(stdout) / MEGABYTE;
    };
    const small = await peak(`(await import('${SMALL_HEAP}')).keepHeapSmall();`);
    expect(small).toBeLessThan((await peak('')) / 2);
  });
});

describeDatabase('memory', () => {
  const stack = useCliStack();

  async function youngMegabytes(env: Readonly<Record<string, string>>): Promise<number> {
    await stack.insertResults({ count: 4_000 });
    await stack.database().query('select retention.flag_expired()');
    const listener = await stack.listen({ ...env, RETENTION_HTTP_PORT: '0' });
    await listener.waitForLine('Retention cleanup completed');
    const scrape = await fetch(`${await addressOf(listener)}metrics`);
    const figures = readFigures(await scrape.text());
    return (figures.get('nodejs_heap_space_size_total_bytes{space="new"}') ?? 0) / MEGABYTE;
  }

  test('promise 11: the young generation of a listener does not grow with what passes through', async () => {
    expect(await youngMegabytes({})).toBeLessThan(6);
  });

  test('flags that Node is given for it decide', async () => {
    const env = { NODE_OPTIONS: '--max-semi-space-size=16' };
    expect(await youngMegabytes(env)).toBeGreaterThan(8);
  });
});
