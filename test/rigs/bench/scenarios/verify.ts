import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Bench,
  BUCKET,
  type BenchDatabase,
  INSERT_RUNS,
  type Scenario,
  TENANTS,
} from '../bench.ts';
import { type Figure, median, ratios } from '../figure.ts';
import { peakMegabytes, startCommand, startPart } from '../processes.ts';

/** Rows without an object, objects without a row, and cleared rows whose object is there. */
const DRIFT = 25;

const LOOK_MILLISECONDS = 100;

/** Rows against a listing, and what paging through the listing alone takes. */
export const verify: Scenario = {
  name: 'verify',
  run: async (bench) => {
    const rows = bench.rows(1_000_000);
    const seconds = { page: [] as number[], verify: [] as number[] };
    const megabytes = { few: [] as number[], many: [] as number[] };
    for (const [size, isLarge] of [
      [Math.max(Math.round(rows / 10), 2_000), false],
      [rows, true],
    ] as const) {
      bench.say(`verify: making ${size} rows and objects`);
      const base = await bench.makeDatabase((query) =>
        query(INSERT_RUNS, [size, TENANTS, '20 days']),
      );
      await listObjects(bench, base);
      for (let run = 0; run < bench.options.runs; run += 1) {
        bench.say(`verify: run ${run + 1}`);
        if (isLarge) seconds.page.push(await pageAlone(bench, base));
        const verified = await bench.onCopy(base, verifyOnce);
        if (isLarge) seconds.verify.push(verified.seconds);
        megabytes[isLarge ? 'many' : 'few'].push(verified.megabytes);
      }
      await base.drop();
    }
    return [
      {
        name: 'verify-to-paging',
        title: 'verify 1,000,000 rows and objects / paging through the listing alone, time',
        unit: '×',
        samples: ratios(seconds.verify, seconds.page),
        target: { is: 'at most', value: 1.4 },
        detail: `verify ${median(seconds.verify).toFixed(1)} s, paging ${median(seconds.page).toFixed(1)} s`,
      },
      {
        name: 'verify-memory',
        title: 'verify: peak memory for 1,000,000 / for 100,000',
        unit: '×',
        samples: ratios(megabytes.many, megabytes.few),
        target: { is: 'at most', value: 1.2 },
        detail: `${Math.round(median(megabytes.many))} MB / ${Math.round(median(megabytes.few))} MB`,
      },
    ] satisfies Figure[];
  },
};

/** Gives the null S3 the keys of the rows, with some drift. */
async function listObjects(bench: Bench, base: BenchDatabase): Promise<void> {
  await base.query(
    `update runs set result_cleared_at = now() - interval '1 day'
    where run_id in (select run_id from runs order by run_id limit $1)`,
    [DRIFT],
  );
  const found = await base.query<{ key: string }>(
    `select result_s3_key as key from runs
    where run_id not in (select run_id from runs order by run_id desc limit $1)
    union all
    select 'results/orphan-' || n from generate_series(1, $1) n`,
    [DRIFT],
  );
  const file = join(bench.folder, 'keys');
  writeFileSync(file, found.map(({ key }) => key).join('\n'));
  await bench.s3.ask({ list: file });
  await base.query('vacuum analyze');
}

async function pageAlone(bench: Bench, base: BenchDatabase): Promise<number> {
  const part = await startPart('floor');
  const place = { url: base.url, endpoint: bench.s3Endpoint, bucket: BUCKET };
  try {
    await part.ask({ prepare: place, concurrency: 0, rows: 0 });
    const { seconds } = await part.ask<{ seconds: number }>({ go: 'page' });
    return seconds;
  } finally {
    await part.stop();
  }
}

async function verifyOnce(copy: BenchDatabase): Promise<{ seconds: number; megabytes: number }> {
  await copy.query('select count(*) from runs');
  const startedAt = performance.now();
  const command = startCommand(
    ['reconcile', '--verify', '--orphans', '--bucket', BUCKET, '--json'],
    copy.env,
  );
  let megabytes = 0;
  const looking = setInterval(() => {
    megabytes = Math.max(megabytes, peakMegabytes(command.pid));
  }, LOOK_MILLISECONDS);
  try {
    await command.ended();
  } finally {
    clearInterval(looking);
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  const said = JSON.parse(command.stdout) as {
    drift: { stamped: number; requeued: number };
    orphans: { objects: number };
  };
  const { stamped, requeued } = said.drift;
  if (stamped !== DRIFT || requeued !== DRIFT || said.orphans.objects !== DRIFT) {
    throw new Error(`expected a drift of ${DRIFT} of each kind, got ${command.stdout}`);
  }
  return { seconds, megabytes };
}
