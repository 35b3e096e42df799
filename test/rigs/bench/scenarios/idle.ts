import { setTimeout as delay } from 'node:timers/promises';
import type { Bench, BenchDatabase, Scenario } from '../bench.ts';
import { startListener } from '../work.ts';

const MINUTE = 60_000;

/** What a listener asks of the database while there is nothing to do. */
export const idle: Scenario = {
  name: 'idle',
  run: async (bench) => {
    const database = await bench.makeDatabase(() => Promise.resolve());
    const listener = await startListener(database);
    const minutes = Math.max(MINUTE * Math.min(bench.options.scale * 10, 1), 2_000);
    try {
      // Begun without a batch and a sign of life of the scheduler; from here on it is a quiet day.
      await delay(Math.min(minutes, 5_000));
      const samples: number[] = [];
      let before = await statements(bench, database);
      for (let run = 0; run < bench.options.runs; run += 1) {
        bench.say(`idle: minute ${run + 1}`);
        await delay(minutes);
        const now = await statements(bench, database);
        samples.push(((now - before) * MINUTE) / minutes);
        before = now;
      }
      return [
        {
          name: 'idle',
          title: 'idle: statements per minute of one listener with nothing to do',
          unit: 'a minute',
          samples,
          target: { is: 'at most', value: 4 },
        },
      ];
    } finally {
      await listener.stop();
      await database.drop();
    }
  },
};

/** Asked from another database, so that asking is not counted. */
async function statements(bench: Bench, database: BenchDatabase): Promise<number> {
  const calls = await bench.postgres.sql(
    `select coalesce(sum(s.calls), 0)
    from pg_stat_statements s
    join pg_database d on d.oid = s.dbid
    where d.datname = '${database.name}'
      and s.toplevel`,
  );
  return Number(calls);
}
