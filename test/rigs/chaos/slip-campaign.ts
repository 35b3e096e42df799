import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { runCli, type Variables } from '../../support/cli.ts';
import { until } from '../../support/until.ts';
import { compareObjects } from './calm.ts';
import { BUCKETS } from './application.ts';
import { type Ground, layGround, type Outcome, tick } from './campaign.ts';
import type { Violation } from './checker.ts';
import { type Crew, startCrew } from './crew.ts';
import { createDraws } from './draws.ts';
import { createTrouble } from './faults.ts';
import { objectName } from './history.ts';
import { LISTENER_ROLE } from './scene.ts';
import { ARCHIVE, SLIP_TABLES, type Slipping, startSlipping } from './slips.ts';
import { startStrays } from './strays.ts';

/*
Promise 13 under fire: slips of many rows beside the faults. Judged by the slips as the campaign wrote them down and by
what went over the wire: before anybody released anything, no more of them went than the guards let through. Then
all is released by its number, and nothing due is forgotten.
*/

/** What is asked of it. */
export interface SlipCampaignOptions {
  readonly seed: number;
  readonly minutes: number;
  readonly listeners?: number;
  readonly say?: (line: string) => void;
}

const GUARD = 300;
const GUARD_ALL = 500;
/** Each look at a surge and each release is a process of its own. */
const BOUND_MS = 300_000;

const GUARDS = `update retention.setting set surge_guard = ${GUARD}, surge_guard_all = ${GUARD_ALL}`;

/** Due and still there; of what was set aside too. */
const LEFT_ROWS = `
from runs r
where r.status = 'COMPLETED' and r.result_cleared_at is null
  and r.completed_at + (
    select retain from retention.policy p
    where p.tenant_id in (r.tenant_id, '*') order by p.tenant_id = '*' limit 1
  ) < now()`;

/** Slips and faults for so many minutes, then calm, judgement, release and judgement again. */
export async function runSlipCampaign(options: SlipCampaignOptions): Promise<Outcome> {
  const say = options.say ?? (() => undefined);
  await using ground = await layGround();
  const { postgres, s3, record } = ground;
  // The archive is not among them.
  const env = { ...ground.env, S3_RESULT_BUCKET: BUCKETS.join(',') };
  s3.createBucket(ARCHIVE);
  await postgres.sql(SLIP_TABLES);
  await postgres.sql(GUARDS);
  const draws = (part: number): ReturnType<typeof createDraws> => createDraws(options.seed, part);
  const platform = await startSlipping({ url: postgres.url(), s3, record, draws: draws(0) });
  // The reactor has seen the table before anybody slips.
  await postgres.sql('select retention.flag_expired()');
  const crew = await startCrew({
    listeners: options.listeners ?? draws(3).integer(2, 4),
    databaseUrl: postgres.url('app', LISTENER_ROLE),
    databasePort: postgres.port,
    env,
    draws: draws(1),
  });
  const strays = await startStrays(ground, draws(4));
  const ticking = new AbortController();
  try {
    const scheduler = { isSilent: false };
    const trouble = createTrouble(
      { ...ground, crew, scheduler, restarting: undefined },
      draws(2),
      // It loses objects, and this campaign counts them.
      { without: ['a bucket deleted and made again'] },
    );
    const ended = [
      platform.work(),
      platform.slip(),
      crew.reconcile(),
      tick(postgres.url(), scheduler, ticking.signal),
      trouble.work(),
      strays.work(),
    ];
    say(`seed ${options.seed}: ${options.minutes} minutes of slips and faults`);
    await Promise.race([pause(options.minutes * 60_000), ...ended]);
    say('calm');
    trouble.stop();
    platform.stop();
    strays.stop();
    await Promise.all([ended[0], ended[1], ended[4], ended[5]]);
    await platform.putRight();
    ground.proxy.heal();
    for (const post of crew.posts) {
      post.network.heal();
      post.process()?.kill('SIGCONT');
    }
    const violations = await settleUp(ground, platform, crew, say);
    ticking.abort();
    await crew.stop();
    await Promise.all(ended);
    return {
      violations: [
        ...violations,
        ...strays.judge(),
        ...crew.complaints.map((what) => ({ promise: 'a process ends when it is told to', what })),
      ],
      faults: trouble.done,
      applicationSteps: new Map([...platform.done, ...strays.done]),
      totals: await count(ground, platform),
    };
  } finally {
    ticking.abort();
    strays.stop();
    await crew.dispose();
    await platform.end();
    await strays.close();
  }
}

async function count({ postgres, record }: Ground, { done }: Slipping): Promise<Outcome['totals']> {
  const number = async (sql: string): Promise<number> => Number(await postgres.sql(sql, 'app'));
  return {
    slips: [...done.values()].reduce((sum, each) => sum + each, 0),
    'rows that slipped': await number('select count(distinct run_id) from history.slip'),
    surges: await number('select count(*) from retention.list_surges(true)'),
    deletions: record.deletions.length,
    stamps: await number('select count(*) from runs where result_cleared_at is not null'),
  };
}

/** Judges what went without a release, then releases all, and waits until nothing due is left. */
async function settleUp(
  ground: Ground,
  platform: Slipping,
  crew: Crew,
  say: (line: string) => void,
): Promise<Violation[]> {
  const { postgres, record } = ground;
  await postgres.sql(AN_HOUR_LATER, 'app');
  const number = async (sql: string): Promise<number> => Number(await postgres.sql(sql, 'app'));
  const setAside = 'select coalesce(sum(results), 0) from retention.list_surges()';
  try {
    await until(
      'all that is due is gone, set aside, or dead',
      async () =>
        (await number(`select count(*) ${LEFT_ROWS}`)) <=
        (await number(setAside)) + (await number(DEAD)),
      { limitMs: BOUND_MS, pollMs: 250 },
    );
    const violations = [
      ...(await judgeSlips(ground)),
      ...platform.emptyings.judge(record),
      ...judgeArchive(ground),
    ];
    say(`${await number(setAside)} results are set aside; they are released`);
    await until(
      'all that is due is gone',
      async () => {
        await releaseAll(ground);
        return (await number(`select count(*) ${LEFT_ROWS}`)) === 0;
      },
      { limitMs: BOUND_MS, pollMs: 1_000 },
    );
    return [...violations, ...(await compareObjects(ground)), ...judgeArchive(ground)];
  } catch (error) {
    const why = await postgres.sql(
      `select x.state, count(*), min(x.because), min(x.last_error)
      from (select r.run_id ${LEFT_ROWS} order by md5(r.run_id::text) limit 500) l,
        retention.explain(l.run_id::text) x
      group by 1`,
      'app',
    );
    const words = crew.posts.map((post) => post.process()?.stderr.split('\n').slice(-8).join('\n'));
    return [
      {
        promise: '2: nothing due is forgotten',
        what: `${String(error)}\n${why}\n${words.join('\n--\n')}`,
      },
    ];
  }
}

/** What waited in the archive is looked at again. */
const AN_HOUR_LATER = `
update retention.batch set visible_at = visible_at - interval '2 hours'
where settled_at is null and dead_at is null and lease is null and bucket = '${ARCHIVE}';
select retention._clean_up()`;

/** Nothing of a bucket that is on no process's list is asked for. */
function judgeArchive({ record }: Ground): Violation[] {
  return record.deletions
    .filter(({ bucket }) => bucket === ARCHIVE)
    .slice(0, 3)
    .map(({ bucket, key }) => ({
      promise: '13: a slip is not a deletion',
      what: `${objectName(bucket, key)} was asked for, and nobody may delete there`,
    }));
}

const DEAD = 'select count(*) from retention.flagged where dead_at is not null';

interface Listed {
  readonly surges: readonly { readonly surge_id: number; readonly state: string }[];
}

interface Shown {
  readonly groups: readonly { readonly results: number }[];
}

async function releaseAll({ postgres, env }: Ground): Promise<void> {
  const own: Variables = { ...env, DATABASE_URL: postgres.url() };
  const ask = async (...words: readonly string[]): Promise<unknown> =>
    JSON.parse((await runCli([...words, '--json'], { env: own })).stdout);
  const { surges } = (await ask('surge', 'list')) as Listed;
  for (const { surge_id: id } of surges.filter(({ state }) => state === 'open')) {
    // To show it is to look again: what was taken back is no part of it any more.
    const { groups } = (await ask('surge', 'show', String(id))) as Shown;
    const results = groups.reduce((sum, group) => sum + group.results, 0);
    if (results > 0) await ask('surge', 'release', String(id), '--expect', String(results));
  }
  await runCli(['retry', '--all'], { env: own });
}

/** Promise 13: of what slipped, no more objects went than the guards let through. */
async function judgeSlips({ postgres, record }: Ground): Promise<Violation[]> {
  const client = new pg.Client({ connectionString: postgres.url() });
  await client.connect();
  const { rows } = await client.query<{ name: string; tenant: string }>(
    `select distinct r.result_s3_bucket || '/' || r.result_s3_key as name, s.tenant_id as tenant
    from history.slip s join runs r on r.run_id = s.run_id where s.kind <> 'bucket'`,
  );
  await client.end();
  const went = new Set(
    record.deletions.flatMap(({ bucket, key, doneAt }) =>
      doneAt === undefined ? [] : [`${bucket}/${key}`],
    ),
  );
  const byTenant = new Map<string, Set<string>>();
  for (const { name, tenant } of rows) {
    if (went.has(name)) byTenant.set(tenant, (byTenant.get(tenant) ?? new Set()).add(name));
  }
  const promise = '13: a slip is not a deletion';
  const all = new Set([...byTenant.values()].flatMap((names) => [...names]));
  return [
    ...[...byTenant]
      .filter(([, names]) => names.size > GUARD)
      .map(([tenant, names]) => ({
        promise,
        what: `${names.size} of tenant ${tenant} went, and ${GUARD} may`,
      })),
    ...(all.size > GUARD_ALL ? [{ promise, what: `${all.size} went, and ${GUARD_ALL} may` }] : []),
  ];
}
