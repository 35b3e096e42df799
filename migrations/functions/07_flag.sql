/*
Flagging: what is due is written down as work, oldest first.

A pass goes on from where each tenant's last one stopped (retention.progress), so that it costs what
is newly due plus one index probe per tenant, whatever the size of the table or of the backlog. What
turns up behind that point (a late commit, a released hold, a spared result) is found by passes that
start from the oldest again: every pass while little lies behind, and one per sweep_interval always.

Whether a result is flagged already is looked up in the batches whose results completed in the same stretch
of time: as many as the stretch holds, whatever the backlog.

A result that is late (see 07_late) is not flagged: it is parked until the walk is complete, and then judged.

Rows are flagged in parts. A part that raises is tried again in smaller ones, until the row that raises
stands alone and is passed by: it is counted and named, and delays no other row.
*/

-- Why a row that is due cannot be flagged; null: it can.
create or replace function retention._why_skipped(p_run_id text, p_bucket text, p_key text)
returns text
language sql
immutable
as $$
  select case
    when p_run_id is null then format('a row without a run id, with the key %s', left(p_key, 100))
    when octet_length(p_bucket) > 255
    then format('run %s: the name of its bucket has %s bytes, and 255 are possible', left(p_run_id, 100), octet_length(p_bucket))
    else format('run %s: its key has more than the 1024 bytes that S3 holds', left(p_run_id, 100))
  end
$$;

-- One part of a pass: looks at up to p_rows results and flags what is due of them, in batches of one bucket
-- each. p_tenant_keys: of these tenants only (null: of all). skipped: rows that cannot be flagged. parked: how many
-- of what it looked at are set aside, by this part or before. more: there is more to look at. Called by flag_expired, under its settings.
-- In PL/pgSQL, which keeps the plan: a function in SQL is planned at each call, and that is a tenth of a part.
create or replace function retention._flag_part(p_rows bigint, p_batch_size integer, p_tenant_keys text[] default null)
returns table (
  flagged bigint, batches bigint, oldest timestamptz, looked_at bigint, left_alone bigint,
  without_place bigint, without_place_run_ids text[], skipped bigint, skipped_rows text[],
  parked bigint, more boolean, tenants bigint
)
language plpgsql
as $$
#variable_conflict use_column
begin
  return query
  with tenant as materialized (
    select l.*
    from retention._lines(p_tenant_keys) l
  ),
  -- Tenants with more to look at share a part evenly, and the oldest results get what is over; who has
  -- more to give goes on in the next part, among fewer.
  sharing as materialized (
    select t.*,
      row_number() over (order by r.completed_at)::integer as tenant,
      p_rows / count(*) over ()
        + (row_number() over (order by r.completed_at) <= p_rows % count(*) over ())::integer as share
    from tenant t
    cross join lateral retention._first_past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before) as r (completed_at)
  ),
  -- Columns of a fixed width come first: behind a text each has to be looked for in the row.
  seen as materialized (
    select r.run_id, r.completed_at, r.due_at, t.tenant,
      r.is_due and r.has_place and r.run_id is not null as may_go,
      -- A key that no store can hold is null here, see _possible_key.
      r.is_due and r.run_id is not null and (r.bucket is null or coalesce(r.key = '', false)) as lacks_place,
      -- Where no object is known to be shared, none is looked up.
      r.is_due and (select exists (select from retention.shared_object)) and exists (
        select
        from retention.shared_object o
        where o.bucket = r.bucket
          and o.key = r.key collate "C"
          and o.until > now()
      )
      -- The same of what a keeper has, and of what has changed.
      or r.is_due and (select exists (select from retention.spared_object))
        and retention._is_spared_for_now(r.bucket, r.key) as is_shared,
      r.is_due and r.due_at < t.seen_at and case
        when (select exists (select from retention.hold) or exists (select from retention.shared_object) or exists (select from retention.spared_object))
        then retention._is_late(r.run_id, r.bucket, r.key, t.seen_at)
        else true
      end as is_late,
      r.is_due, r.bucket, r.key, r.tenant_id
    from sharing t
    cross join lateral retention._past(t.tenant_id, t.after_completed_at, t.after_run_id, t.before, t.share) r
  ),
  given as materialized (
    select s.tenant, count(*) as results, min(s.completed_at) as first_completed_at,
      max(s.completed_at) as completed_at
    from seen s
    group by s.tenant
  ),
  flagged as materialized (
    select retention._known_between(
      (select min(g.first_completed_at) from given g), (select max(g.completed_at) from given g)
    ) as run_id
  ),
  made as (
    insert into retention.batch (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at),
      array_agg(n.run_id), array_agg(retention._pack_key(n.key, n.run_id::text)), array_agg(n.tenant_id)
    from (
      select s.run_id, s.completed_at, s.due_at, s.bucket, s.key, s.tenant_id,
        (row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1) / p_batch_size as part
      from seen s
      where not s.is_late and s.may_go and not s.is_shared and s.run_id not in (select f.run_id from flagged f)
    ) n
    group by n.bucket, n.part
    order by min(n.completed_at)
    returning bucket, results, oldest
  ),
  parked as (
    insert into retention.surge_part (bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at),
      array_agg(n.run_id), array_agg(retention._pack_key(n.key, n.run_id::text)), array_agg(n.tenant_id)
    from (
      select s.run_id, s.completed_at, s.due_at, s.bucket, s.key, s.tenant_id,
        (row_number() over (partition by s.bucket collate "C" order by s.completed_at, s.run_id) - 1) / p_batch_size as part
      from seen s
      where s.is_late and s.may_go and not s.is_shared and s.run_id not in (select f.run_id from flagged f)
    ) n
    group by n.bucket, n.part
    order by min(n.completed_at)
    returning results
  ),
  noted as (
    insert into retention.bucket (bucket)
    select distinct m.bucket
    from made m
    where not exists (select from retention.bucket k where k.bucket = m.bucket)
    on conflict do nothing
  ),
  moved as (
    insert into retention.progress (tenant_key, completed_at, run_id)
    select distinct on (t.tenant_key) t.tenant_key, s.completed_at, s.run_id
    from seen s
    join given g on g.tenant = s.tenant
      and g.completed_at = s.completed_at
    join sharing t on t.tenant = g.tenant
    order by t.tenant_key, s.run_id desc
    on conflict (tenant_key) do update
    set completed_at = excluded.completed_at,
      run_id = excluded.run_id
  )
  select coalesce(m.flagged, 0)::bigint, m.batches, m.oldest, n.looked_at, n.left_alone,
    n.without_place, n.without_place_run_ids, n.skipped, n.skipped_rows,
    n.parked + coalesce((select sum(p.results) from parked p), 0),
    exists (
      select
      from given g
      join sharing t on t.tenant = g.tenant
      where g.results >= t.share
    ),
    (select count(*) from tenant)
  from (
    select sum(x.results) as flagged, count(*) as batches, min(x.oldest) as oldest
    from made x
  ) m
  cross join (
    select count(*) as looked_at,
      count(*) filter (
        where case
          when s.may_go and not s.is_shared then false
          when s.run_id is null then true
          else s.run_id not in (select f.run_id from flagged f)
        end
      ) as left_alone,
      count(*) filter (where s.lacks_place) as without_place,
      coalesce((array_agg(s.run_id::text order by s.completed_at) filter (where s.lacks_place))[1:10], '{}')
        as without_place_run_ids,
      count(*) filter (where s.is_due and not s.may_go and not s.lacks_place) as skipped,
      coalesce((
        array_agg(retention._why_skipped(s.run_id::text, s.bucket, s.key) order by s.completed_at)
        filter (where s.is_due and not s.may_go and not s.lacks_place)
      )[1:10], '{}') as skipped_rows,
      count(*) filter (
        where (select exists (select from retention.surge_part))
          and s.run_id in (
            select retention._set_aside_between(min(g.first_completed_at), max(g.completed_at))
            from given g
          )
      ) as parked
    from seen s
  ) n;
end
$$;
