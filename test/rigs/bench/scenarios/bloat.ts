import { type Bench, type BenchDatabase, INSERT_RUNS, type Scenario } from '../bench.ts';
import { type Figure, median } from '../figure.ts';
import { startListener, untilDrained } from '../work.ts';

const ROUND = 200_000;
const ROUNDS = 25;

/** What the work tables take after millions have passed through, against their size after one round. */
export const bloat: Scenario = {
  name: 'bloat',
  run: async (bench) => {
    const round = bench.rows(ROUND);
    const samples: number[] = [];
    const sizes: string[] = [];
    // One pass of 25 rounds is a sample of its own; more would take hours for the same answer.
    const [ratio, described, growth] = await passThrough(bench, round);
    samples.push(ratio);
    sizes.push(described);
    return [
      {
        name: 'bloat',
        title: 'bloat: the work tables at their largest, 5,000,000 results / the first 200,000',
        unit: '×',
        samples,
        target: { is: 'at most', value: 1.5 },
        detail: `${sizes.join()}; single run of ${ROUNDS} rounds`,
      },
      {
        name: 'bloat-growth',
        title: 'bloat: their largest in the second half of these / in the first',
        unit: '×',
        samples: [growth],
        target: { is: 'at most', value: 1.2 },
        detail: 'at most 1: what passes through leaves nothing; autovacuum looks once a minute',
      },
    ] satisfies Figure[];
  },
};

async function passThrough(bench: Bench, round: number): Promise<[number, string, number]> {
  const database = await bench.makeDatabase(() => Promise.resolve());
  const listener = await startListener(database);
  const megabytes: number[] = [];
  try {
    for (let index = 0; index < ROUNDS; index += 1) {
      if (index % 5 === 0) bench.say(`bloat: round ${index + 1} of ${ROUNDS}`);
      // What went before is history; the table of the application is not what is looked at.
      await database.query('truncate runs');
      await database.query(INSERT_RUNS, [round, 10, '40 days']);
      await database.query('select retention.flag_expired(1000000)');
      megabytes.push(await workMegabytes(database));
      await untilDrained(database);
    }
  } finally {
    await listener.stop();
    await database.drop();
  }
  const first = megabytes[0] ?? Number.NaN;
  const largest = Math.max(...megabytes);
  return [
    largest / first,
    `${largest.toFixed(0)} MB / ${first.toFixed(0)} MB, in the middle ${median(megabytes).toFixed(0)} MB`,
    Math.max(...megabytes.slice(ROUNDS / 2)) / Math.max(...megabytes.slice(0, ROUNDS / 2)),
  ];
}

async function workMegabytes(database: BenchDatabase): Promise<number> {
  const [row] = await database.query<{ bytes: string }>(
    `select sum(pg_total_relation_size(c.oid)) as bytes
    from pg_class c
    where c.oid in ('retention.flagged'::regclass, 'retention.batch'::regclass,
      'retention.progress'::regclass, 'retention.heartbeat'::regclass, 'retention.bucket'::regclass)`,
  );
  return Number(row?.bytes ?? 0) / 1024 ** 2;
}
