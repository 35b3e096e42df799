import pg from 'pg';
import { runCli } from '../../support/cli.ts';
import { until } from '../../support/until.ts';
import type { Application } from './application.ts';
import type { Ground } from './campaign.ts';
import type { Violation } from './checker.ts';
import type { Crew } from './crew.ts';
import { objectName } from './history.ts';

/** How long after the last fault everything due has to be gone, in milliseconds. */
const BOUND_MS = 90_000;

const RETAIN = (run: string): string => `(
  select retain from retention.policy p
  where p.tenant_id in (${run}.tenant_id, '*') order by p.tenant_id = '*' limit 1
)`;

/**
 * Due and still there, by the tables alone. Without a place it is no work, and what shares its object
 * with a live run that is not due is spared for as long as that is so.
 */
const LEFT_ROWS = `
from runs r
where r.status = 'COMPLETED' and r.result_cleared_at is null
  and r.result_s3_bucket is not null and coalesce(r.result_s3_key, '') <> ''
  and r.completed_at + ${RETAIN('r')} < now()
  and not exists (
    select from runs o
    where o.result_s3_bucket = r.result_s3_bucket and o.result_s3_key = r.result_s3_key
      and o.run_id <> r.run_id and o.result_cleared_at is null
      and not coalesce(o.status = 'COMPLETED' and o.completed_at + ${RETAIN('o')} < now(), false)
  )`;
const LEFT = `select count(*) ${LEFT_ROWS}`;
/** What the product says of one of them. */
const WHY = `select row_to_json(x) from (select r.run_id ${LEFT_ROWS} limit 1) l, retention.explain(l.run_id::text) x`;

const CONFIRM_MISSING =
  'select retention.confirm_missing(b.bucket) from retention.bucket b where b.missing > 0';

const DEAD = 'select count(*) from retention.flagged where dead_at is not null';

export interface CalmOptions extends Ground {
  readonly application: Application;
  readonly crew: Crew;
  readonly say: (line: string) => void;
}

/** Ends every fault, and waits until all that is due is gone; what then is not as promised. */
export async function calmDown(options: CalmOptions): Promise<Violation[]> {
  const { postgres, proxy, crew, application, env, say } = options;
  proxy.heal();
  for (const post of crew.posts) {
    post.network.heal();
    post.process()?.kill('SIGCONT');
  }
  await until('S3 is at nothing any more', () => proxy.underWay() === 0, { limitMs: BOUND_MS });
  await application.letGo();
  const count = async (sql: string): Promise<number> => Number(await postgres.sql(sql, 'app'));
  const startedAt = performance.now();
  const promise = '2: nothing due is forgotten';
  try {
    // What was refused too often waits for a person.
    await until(
      'all that is due is gone, or dead',
      async () => {
        // A bucket that was deleted and made again looks like a wrong one, and a person has to say that it is not.
        await postgres.sql(CONFIRM_MISSING, 'app');
        return (await count(LEFT)) <= (await count(DEAD));
      },
      {
        limitMs: BOUND_MS,
        pollMs: 250,
      },
    );
    const dead = await count(DEAD);
    if (dead > 0) {
      say(`${dead} dead: one retry revives them`);
      await runCli(['retry', '--all'], { env: { ...env, DATABASE_URL: postgres.url() } });
    }
    await until('all that is due is gone', async () => (await count(LEFT)) === 0, {
      limitMs: BOUND_MS,
      pollMs: 250,
    });
  } catch (error) {
    const state = await postgres.sql(WHY, 'app');
    const words = crew.posts.map((post) => post.process()?.stderr.split('\n').slice(-8).join('\n'));
    const what = `${await count(LEFT)} due results are left: ${String(error)}\n${state}\n${words.join('\n--\n')}`;
    return [{ promise, what }];
  }
  say(
    `everything due is gone ${Math.round((performance.now() - startedAt) / 100) / 10} s after the last fault`,
  );
  return compareObjects(options);
}

/** The rows against the bucket: what is live is there, what is stamped is not. */
export async function compareObjects({ postgres, s3, record }: Ground): Promise<Violation[]> {
  const rows = await readPlaces(postgres.url());
  const live = new Set(
    rows.filter((row) => row.live).map(({ bucket, key }) => objectName(bucket, key)),
  );
  return rows.flatMap(({ bucket, key, live: isLive, run }) => {
    const name = objectName(bucket, key);
    const isThere = s3.hasObject(bucket, key);
    if (isLive && !isThere && !record.isLost(bucket, key)) {
      return [
        { promise: '1: nothing live is deleted', what: `${name} of live run ${run} is gone` },
      ];
    }
    if (!isLive && isThere && !live.has(name)) {
      return [
        { promise: '3: a stamp is true', what: `${name} of stamped run ${run} is still there` },
      ];
    }
    return [];
  });
}

interface Place {
  readonly bucket: string;
  readonly key: string;
  readonly live: boolean;
  readonly run: string;
}

async function readPlaces(url: string): Promise<Place[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<Place>(
      `select result_s3_bucket as bucket, result_s3_key as key, result_cleared_at is null as live,
        run_id as run
      from runs where result_s3_bucket is not null and result_s3_key is not null`,
    );
    return rows;
  } finally {
    await client.end();
  }
}
