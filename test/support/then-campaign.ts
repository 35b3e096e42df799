import { type MigratedDatabase, failuresOf } from './migrated.ts';

const TENANTS = ['acme', 'beta', 'gamma'] as const;
const DAY = 86_400_000_000;

/** What was asked of a run, and what its state was by the campaign's own history. Times in microseconds since 1970. */
export interface Moment {
  readonly runId: string;
  readonly at: number;
  readonly state: string;
  readonly retainDays: number;
}

interface CampaignRun {
  readonly runId: string;
  readonly tenant: string;
  readonly completedAt: number;
  /** Where it stands in the line of what comes back after a hold on its tenant. */
  readonly place: number;
  cleared: boolean;
  stamped: boolean;
  work: Work | undefined;
}

/** A result in a batch or a surge, as it was written down when it happened. */
interface Work extends Record<string, unknown> {
  readonly run_id: string;
  readonly state: 'dead' | 'leased' | 'waits' | 'set aside';
  readonly until: number;
  readonly has_failed: boolean;
}

interface Held {
  readonly id: string;
  readonly run: string | null;
  readonly tenant: string | null;
}

const WORK = `
select unnest(b.run_ids)::text as run_id,
  case when b.dead_at is not null then 'dead' when b.lease is not null then 'leased' else 'waits' end as state,
  (extract(epoch from b.visible_at) * 1000000)::float8 as until,
  b.failed_at is not null as has_failed
from retention.batch b
where b.settled_at is null
union all
select unnest(p.run_ids)::text, 'set aside', 0, false
from retention.surge_part p`;

const INSERT = `
insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
select n.id, coalesce($1, ('{acme,beta,gamma}'::text[])[1 + n.n % 3]), 'COMPLETED',
  -- Some fall due, and some complete, while the campaign runs.
  case
    when $1 is not null then now() - interval '60 days' - n.n * interval '1 hour'
    when n.n % 12 = 0 then clock_timestamp() + n.n * interval '15 milliseconds'
    when n.n % 12 = 1 then clock_timestamp() - interval '30 days' + n.n * interval '15 milliseconds'
    else now() - n.n * interval '12 hours'
  end,
  'dpp-results', 'results/' || n.id
from (select gen_random_uuid() as id, n from generate_series(1, $2::int) n) n
returning run_id::text, tenant_id, (extract(epoch from completed_at) * 1000000)::float8 as at,
  retention._place_in_line(run_id::text) as place`;

/**
 * Lets people and listeners do random things to a database, each at a known time, and writes down by itself what was
 * true after each. Returns random runs and times with their states.
 */
export async function runCampaign(
  database: MigratedDatabase,
  options: { readonly seed: number; readonly steps: number; readonly moments: number },
): Promise<readonly Moment[]> {
  const { query, one } = database;
  const draw = seeded(options.seed);
  const pick = <Item>(items: readonly Item[]): Item => {
    const item = items[Math.floor(draw() * items.length)];
    if (item === undefined) throw new Error('There is nothing to pick from.');
    return item;
  };
  const clock = async (): Promise<number> =>
    (
      await one<{ at: number }>(
        'select (extract(epoch from clock_timestamp()) * 1000000)::float8 as at',
      )
    ).at;
  const runs: CampaignRun[] = [];
  const policies = new Map<string, number>([['*', 30]]);
  const holds: Held[] = [];
  const ended: { readonly tenant: string; readonly at: number }[] = [];
  const claims: {
    readonly id: number;
    readonly lease: string;
    readonly keys: readonly string[];
  }[] = [];
  let isHalted = false;
  let isEnabled = true;
  const spread = 400_000;

  const insert = async (tenant: string | null, count: number): Promise<void> => {
    const rows = await query<{ run_id: string; tenant_id: string; at: number; place: number }>(
      INSERT,
      [tenant, count],
    );
    for (const row of rows) {
      runs.push({
        runId: row.run_id,
        tenant: row.tenant_id,
        completedAt: row.at,
        place: row.place,
        cleared: false,
        stamped: false,
        work: undefined,
      });
    }
  };
  const clear = (keys: readonly string[]): void => {
    for (const run of runs) if (keys.includes(`results/${run.runId}`)) run.cleared = true;
  };
  const pass = () => query('select retention.flag_expired(p_whole => true)');

  const steps: Record<string, () => Promise<unknown>> = {
    policy: async () => {
      const [tenant, days] = [pick([...TENANTS, '*']), pick([5, 15, 30, 45])];
      await query('select retention.set_policy($1, make_interval(days => $2))', [tenant, days]);
      policies.set(tenant, days);
    },
    unset: async () => {
      const tenant = pick(TENANTS);
      if (policies.delete(tenant)) await query('select retention.unset_policy($1)', [tenant]);
    },
    hold: async () => {
      const isOnRun = draw() < 0.7;
      const [run, tenant] = [isOnRun ? pick(runs).runId : null, isOnRun ? null : pick(TENANTS)];
      const { id } = await one<{ id: string }>(
        `select hold_id::text as id from retention.place_hold('audit', $1, $2)`,
        [run, tenant],
      );
      holds.push({ id, run, tenant });
    },
    release: async () => {
      const [hold] = holds.splice(Math.floor(draw() * holds.length), 1);
      if (hold === undefined) return;
      await query('select retention.release_hold($1)', [hold.id]);
      const { at } = await one<{ at: number }>(
        'select (extract(epoch from released_at) * 1000000)::float8 as at from retention.hold where hold_id = $1',
        [hold.id],
      );
      if (hold.tenant !== null) ended.push({ tenant: hold.tenant, at });
    },
    halt: async () => {
      await query(isHalted ? 'select retention.resume()' : `select retention.halt('wait')`);
      isHalted = !isHalted;
    },
    enable: async () => {
      await query(`update retention.setting set enabled = not enabled`);
      isEnabled = !isEnabled;
    },
    flag: pass,
    backfill: async () => {
      if (isHalted || !isEnabled) return;
      await pass();
      await insert(pick(TENANTS), 9);
      await pass();
    },
    releaseSurge: async () => {
      const [surge] = await query<{ surge_id: number; results: string }>(
        'select surge_id, sum(results)::text as results from retention.surge_part where surge_id is not null group by 1 order by 1 limit 1',
      );
      if (surge === undefined) return;
      // What is no longer due leaves it, and so the number may be another.
      await query('select retention._review_surge($1)', [surge.surge_id]);
      await query(
        `select retention.release_surge($1, sum(results)::bigint) from retention.surge_part where surge_id = $1 having count(*) > 0`,
        [surge.surge_id],
      );
    },
    claim: async () => {
      await query(
        `update retention.batch set visible_at = clock_timestamp() where lease is null and settled_at is null and dead_at is null`,
      );
      await query('update retention.bucket set paused_until = null');
      const lease = crypto.randomUUID();
      const [claim] = await query<{ id: number; keys: string[] }>(
        `select batch_id as id, keys from retention.claim($1, '1 hour', 'a listener')`,
        [lease],
      );
      if (claim !== undefined) claims.push({ ...claim, lease });
    },
    settle: async () => {
      const claim = claims.shift();
      if (claim === undefined) return;
      const settled = await query<{ settled: boolean }>(
        `select settled from retention.settle($1, $2, '{}', true)`,
        [claim.id, claim.lease],
      );
      if (settled[0]?.settled === true) clear(claim.keys);
    },
    refuse: async () => {
      const claim = claims.shift();
      if (claim === undefined) return;
      const [failed, cleared] = [
        claim.keys.filter((_, place) => place % 2 === 0),
        claim.keys.filter((_, place) => place % 2 === 1),
      ];
      const settled = await query<{ settled: boolean }>(
        'select settled from retention.settle($1, $2, $3, false, $4)',
        [
          claim.id,
          claim.lease,
          cleared,
          JSON.stringify(failuresOf(failed, { final: draw() < 0.5 })),
        ],
      );
      if (settled[0]?.settled === true) clear(cleared);
    },
    postpone: async () => {
      const claim = claims.shift();
      if (claim === undefined) return;
      await query(`select retention.postpone($1, $2, 'SlowDown', 'slow down')`, [
        claim.id,
        claim.lease,
      ]);
    },
    lose: () =>
      query(
        'update retention.batch set visible_at = clock_timestamp() where lease is not null and visible_at > clock_timestamp()',
      ),
    retry: () =>
      query(
        draw() < 0.5
          ? 'select retention.retry(p_all => true)'
          : `select retention.retry(p_tenant_id => '${pick(TENANTS)}')`,
      ),
    stamp: async () => {
      const run = pick(runs);
      if (run.cleared || run.stamped || run.work?.state === 'leased') return;
      await query('update runs set result_cleared_at = clock_timestamp() where run_id = $1', [
        run.runId,
      ]);
      run.stamped = true;
    },
  };
  const often = [
    'flag',
    'flag',
    'claim',
    'claim',
    'claim',
    'claim',
    'settle',
    'refuse',
    'refuse',
    'postpone',
    'release',
    'release',
  ];

  const stateOf = (run: CampaignRun, at: number): string => {
    const { work } = run;
    const isHeld = holds.some((hold) => hold.run === run.runId || hold.tenant === run.tenant);
    const retain = policies.get(run.tenant) ?? policies.get('*') ?? 0;
    if (run.cleared) return 'cleared';
    if (run.stamped) return 'stamped';
    if (run.completedAt > at) return 'not completed';
    if (work?.state === 'dead') return 'dead';
    if (work?.state === 'leased' && work.until > at) return 'in flight';
    if (isHeld) return 'held';
    if (ended.some((end) => end.tenant === run.tenant && end.at + spread * run.place > at))
      return 'coming back';
    if (run.completedAt + retain * DAY >= at) return 'kept';
    if (work?.state === 'set aside') return 'set aside';
    if (isHalted) return 'halted';
    if (!isEnabled) return 'disabled';
    if (work === undefined) return 'due';
    return work.has_failed ? 'failed' : 'flagged';
  };

  await database.set({
    release_spread: `'${spread} microseconds'`,
    batch_size: '7',
    policy_guard: '100000',
  });
  await insert(null, 90);
  await pass();
  await database.set({ surge_guard: '5' });
  const moments: Moment[] = [];
  for (let step = 0; step < options.steps; step += 1) {
    const opening = isHalted ? steps['halt'] : isEnabled ? undefined : steps['enable'];
    const next =
      opening !== undefined && draw() < 0.5
        ? opening
        : steps[pick([...Object.keys(steps), ...often])];
    await next?.();
    const works = await query<Work>(WORK);
    const byRun = new Map(works.map((work) => [work.run_id, work]));
    for (const run of runs) run.work = byRun.get(run.runId);
    const [from, to] = [await clock(), await clock()];
    for (let n = 0; n < options.moments; n += 1) {
      const run = pick(runs);
      const at = Math.round(from + draw() * (to - from));
      moments.push({
        runId: run.runId,
        at,
        state: stateOf(run, at),
        retainDays: policies.get(run.tenant) ?? policies.get('*') ?? 0,
      });
    }
  }
  return moments;
}

/** A random number generator with a seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d_2b_79_f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
