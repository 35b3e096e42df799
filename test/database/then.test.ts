import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

/** Microseconds since 1970, by the server's clock. */
const CLOCK = `select (extract(epoch from clock_timestamp()) * 1000000)::bigint::text as at`;
const TENANTS = ['acme', 'beta', 'gamma'] as const;
const DAY = 86_400_000_000;

interface Run {
  readonly runId: string;
  readonly tenant: string;
  readonly completedAt: number;
  flagged: boolean;
  inFlight: boolean;
  isDead: boolean;
  cleared: boolean;
}

/** A random number generator with a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d_2b_79_f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

describeDatabase('promise 14: what was true then', () => {
  const database = useMigrated();

  test('is the same as the history that a campaign of its own keeps', async () => {
    const { query, one, set } = database();
    const draw = random(20_261_128);
    const pick = <Item>(items: readonly Item[]): Item => {
      const item = items[Math.floor(draw() * items.length)];
      if (item === undefined) throw new Error('There is nothing to pick from.');
      return item;
    };
    const clock = async (): Promise<number> => Number((await one<{ at: string }>(CLOCK)).at);
    await set({ release_spread: `'0'`, batch_size: '7', policy_guard: '100000' });
    const rows = await query<{ run_id: string; tenant_id: string; at: string }>(`
      insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select gen_random_uuid(), ('{acme,beta,gamma}'::text[])[1 + n % 3], 'COMPLETED',
        -- Some fall due, and some complete, while the campaign runs.
        case when n % 20 = 0 then clock_timestamp() + n * interval '10 milliseconds'
          when n % 20 = 1 then clock_timestamp() - interval '30 days' + n * interval '10 milliseconds'
          else now() - n * interval '12 hours' end,
        'dpp-results', 'results/' || n
      from generate_series(1, 120) n
      returning run_id::text, tenant_id, (extract(epoch from completed_at) * 1000000)::bigint::text as at`);
    const runs: Run[] = rows.map((row) => ({
      runId: row.run_id,
      tenant: row.tenant_id,
      completedAt: Number(row.at),
      flagged: false,
      inFlight: false,
      isDead: false,
      cleared: false,
    }));
    const policies = new Map<string, number>([['*', 30]]);
    const holds: { readonly id: string; readonly run?: string; readonly tenant?: string }[] = [];
    let isHalted = false;
    const claims: { readonly id: string; readonly lease: string; readonly runs: Run[] }[] = [];
    const policyOf = (tenant: string): number => policies.get(tenant) ?? policies.get('*') ?? 30;
    const dueAt = (run: Run): number => run.completedAt + policyOf(run.tenant) * DAY;
    const holdOf = (run: Run) =>
      holds.find((hold) => hold.run === run.runId || hold.tenant === run.tenant);

    const steps: Record<string, () => Promise<void>> = {
      policy: async () => {
        const tenant = pick([...TENANTS, '*']);
        const days = pick([5, 15, 30, 45]);
        await query('select retention.set_policy($1, make_interval(days => $2))', [tenant, days]);
        policies.set(tenant, days);
      },
      unset: async () => {
        const tenant = pick(TENANTS);
        if (!policies.delete(tenant)) return;
        await query('select retention.unset_policy($1)', [tenant]);
      },
      hold: async () => {
        const of = draw() < 0.6 ? { run: pick(runs).runId } : { tenant: pick(TENANTS) };
        const { id } = await one<{ id: string }>(
          `select hold_id::text as id from retention.place_hold('audit', $1, $2)`,
          [of.run ?? null, of.tenant ?? null],
        );
        holds.push({ id, ...of });
      },
      release: async () => {
        const [hold] = holds.splice(Math.floor(draw() * holds.length), 1);
        if (hold !== undefined) await query('select retention.release_hold($1)', [hold.id]);
      },
      halt: async () => {
        await query(isHalted ? 'select retention.resume()' : `select retention.halt('wait')`);
        isHalted = !isHalted;
      },
      flag: async () => {
        await query('select retention.flag_expired(p_whole => true)');
      },
      claim: async () => {
        const lease = crypto.randomUUID();
        const [claim] = await query<{ id: string; keys: string[] }>(
          `select batch_id::text as id, keys from retention.claim($1, '1 hour')`,
          [lease],
        );
        if (claim === undefined) return;
        const [batch] = await query<{ ids: string[] }>(
          'select run_ids::text[] as ids from retention.batch where batch_id = $1',
          [claim.id],
        );
        const claimed = runs.filter(({ runId }) => batch?.ids.includes(runId));
        for (const run of claimed) run.inFlight = true;
        claims.push({ id: claim.id, lease, runs: claimed });
      },
      settle: async () => {
        const claim = claims.shift();
        if (claim === undefined) return;
        await query(`select * from retention.settle($1, $2, '{}', true)`, [claim.id, claim.lease]);
        for (const run of claim.runs) Object.assign(run, { inFlight: false, cleared: true });
      },
    };

    /** What each run's state was at the time. */
    const stateOf = (run: Run, at: number): string => {
      if (run.cleared) return 'cleared';
      if (run.completedAt > at) return 'not completed';
      if (run.inFlight) return 'in flight';
      if (holdOf(run) !== undefined) return 'held';
      if (dueAt(run) >= at) return 'kept';
      if (isHalted) return 'halted';
      return run.flagged ? 'flagged' : 'due';
    };
    const asked: { run: string; at: number; state: string; days: number }[] = [];
    for (let step = 0; step < 120; step += 1) {
      await steps[pick(['policy', 'unset', 'hold', 'release', 'halt', 'flag', 'flag', 'claim', 'claim', 'settle', 'settle'])]?.();
      // Written down as it happens: what a pass flags and what a claim spares.
      const open = await query<{ run_id: string }>(
        'select unnest(run_ids)::text as run_id from retention.batch where settled_at is null',
      );
      const flagged = new Set(open.map(({ run_id }) => run_id));
      for (const run of runs) run.flagged = flagged.has(run.runId);
      const from = await clock();
      const to = await clock();
      for (let one = 0; one < 9; one += 1) {
        const run = pick(runs);
        const at = Math.round(from + draw() * (to - from));
        asked.push({ run: run.runId, at, state: stateOf(run, at), days: policyOf(run.tenant) });
      }
    }
    console.time('ask');
    const told = await query<{ state: string; days: number; because: string }>(
      `select e.state, extract(epoch from e.retain)::int / 86400 as days, e.because
      from unnest($1::text[], $2::bigint[]) with ordinality as w (run_id, at, n)
      cross join lateral retention.explain_at(w.run_id, timestamptz 'epoch' + w.at * interval '1 microsecond') e
      order by w.n`,
      [asked.map(({ run }) => run), asked.map(({ at }) => at)],
    );
    console.timeEnd('ask');
    const wrong = told.flatMap((answer, index) => {
      const { state, days, run, at } = asked[index] ?? {};
      return answer.state === state && answer.days === days ? [] : [{ run, at, state, days, answer }];
    });
    console.log(told.length, wrong.length, JSON.stringify(asked.reduce((m: any, {state}) => ({...m, [state]: (m[state] ?? 0) + 1}), {})), JSON.stringify(wrong.reduce((m: any, {state, answer}) => ({...m, [`${state} told ${answer.state}`]: (m[`${state} told ${answer.state}`] ?? 0) + 1}), {})), JSON.stringify(wrong.slice(0, 3), null, 1));
    expect(wrong).toEqual([]);
  });
});
