import type { MigratedDatabase } from './migrated.ts';

/**
 * Fills the table with runs of every kind that a look has to tell apart: policies of tenants, dates of their own, runs without
 * a tenant, a bucket or a key, holds on runs and tenants that are in force, ended or coming back, objects that several
 * runs share, and such as a keeper needs. What comes out depends on the seed alone.
 *
 * The table needs a column `retain_until`, and no tenant for some rows.
 */
export async function insertRandomRuns(
  { query }: MigratedDatabase,
  { seed, count = 600 }: { readonly seed: number; readonly count?: number },
): Promise<void> {
  await query(`
    insert into retention.policy (tenant_id, retain) values ('t1', '10 days'), ('t2', '45 days');
    create table if not exists public.needed (object_key text, place text, until timestamptz);
    create index if not exists needed_key on public.needed (object_key);
    truncate public.needed;
    select setseed(${seed / 1_000});
    insert into runs (run_id, tenant_id, status, completed_at, retain_until, result_s3_bucket, result_s3_key)
    select md5('${seed} run ' || i)::uuid,
      case when r[1] > 0.1 then 't' || (r[1] * 70)::int % 7 end,
      case when r[2] < 0.05 then 'FAILED' else 'COMPLETED' end,
      case when r[3] < 0.03 then null else now() - r[3] * interval '60 days' end,
      case when r[4] < 0.15 then now() + (r[5] - 0.5) * interval '40 days' end,
      case when r[6] < 0.03 then null when r[6] < 0.3 then 'second' else 'dpp-results' end,
      case
        when r[7] < 0.03 then null
        when r[7] < 0.05 then ''
        when r[7] < 0.07 then repeat('k', 1100)
        when r[7] < 0.35 then 'shared/' || (r[8] * ${Math.ceil(count / 10)})::int
        else 'results/' || i
      end
    from (
      select i, array(select random() from generate_series(1, 8) j where j > i * 0) as r
      from generate_series(1, ${count}) i
    ) m;
    insert into retention.hold (run_id, reason, expires_at, released_at, released_by)
    select run_id, 'audit', case when random() < 0.3 then now() + interval '1 day' end, ended, case when ended is not null then 'x' end
    from (select run_id, case when random() < 0.3 then now() - interval '1 minute' end as ended, random() as r from runs) m
    where r < 0.03;
    insert into retention.hold (tenant_id, reason, released_at, released_by)
    values ('t3', 'audit', null, null), ('t4', 'audit', now() - interval '3 hours', 'x');
    -- What holds on runs have found: also objects of runs that they are not on.
    insert into retention.held_object (hold_id, bucket, key)
    select h.hold_id, r.result_s3_bucket, r.result_s3_key
    from (select hold_id, row_number() over (order by hold_id) as n from retention.hold where run_id is not null) h
    join (
      select result_s3_bucket, result_s3_key, (random() * 200)::int as n
      from runs
      where result_s3_bucket is not null and octet_length(result_s3_key) between 1 and 1000
    ) r on r.n = h.n
    on conflict do nothing;
    insert into public.needed
    select result_s3_key, case when random() < 0.5 then result_s3_bucket end,
      case when random() < 0.3 then now() - interval '1 day' when random() < 0.5 then now() + interval '1 day' end
    from runs where random() < 0.05 and octet_length(result_s3_key) between 1 and 1000;
    analyze runs;`);
}
