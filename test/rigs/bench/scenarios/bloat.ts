import { type Bench, type BenchDatabase, INSERT_RUNS, type Scenario, TENANTS } from '../bench.ts';
import type { Figure } from '../figure.ts';
import { startListener, untilDrained } from '../work.ts';

const ROUND = 200_000;
const ROUNDS = 25;
/** As many rounds lie between the first and this one as behind it. */
const HALF = (ROUNDS - 1) / 2;

/** What the tables of the schema take per result after millions have passed through, against after one round. */
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
        title: 'bloat: bytes kept per result after 5,000,000 / after the first 200,000',
        unit: '×',
        samples,
        target: { is: 'at most', value: 1.5 },
        detail: `${sizes.join()}; single run of ${ROUNDS} rounds`,
      },
      {
        name: 'bloat-growth',
        title: 'bloat: what the second half of these added / the first half',
        unit: '×',
        samples: [growth],
        target: { is: 'at most', value: 1.2 },
        detail:
          'about 1: each result leaves its receipt and nothing else; autovacuum looks once a minute',
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
      await database.query(INSERT_RUNS, [round, TENANTS, '40 days']);
      await database.query('select retention.flag_expired(1000000)');
      await untilDrained(database);
      megabytes.push(await keptMegabytes(database));
    }
  } finally {
    await listener.stop();
    await database.drop();
  }
  const first = megabytes[0] ?? Number.NaN;
  const middle = megabytes[HALF] ?? Number.NaN;
  const last = megabytes.at(-1) ?? Number.NaN;
  const bytesEach = (size: number, rounds: number): string =>
    `${((size * 1024 ** 2) / (rounds * round)).toFixed(1)} bytes`;
  return [
    last / ROUNDS / first,
    `${bytesEach(last, ROUNDS)} (${last.toFixed(0)} MB) / ${bytesEach(first, 1)}`,
    (last - middle) / (middle - first),
  ];
}

async function keptMegabytes(database: BenchDatabase): Promise<number> {
  const [row] = await database.query<{ bytes: string }>(
    `select sum(pg_total_relation_size(c.oid)) as bytes
    from pg_class c
    where c.oid in ('retention.batch'::regclass, 'retention.progress'::regclass, 'retention.heartbeat'::regclass, 'retention.bucket'::regclass)`,
  );
  return Number(row?.bytes ?? 0) / 1024 ** 2;
}
