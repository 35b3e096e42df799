-- Up Migration

-- What flag_selected works with, under the lock of the heartbeat's row and empty between calls. Not a
-- temporary table: whoever calls could have made one of that name, with triggers that would then run
-- with the rights of this schema's owner.
create unlogged table retention.selection (
  run_id retention.run_id primary key,
  bucket text not null,
  key text collate "C" not null,
  completed_at timestamptz not null,
  due_at timestamptz not null,
  batch_id bigint
);

-- What would go now, oldest first by tenant, whether it is flagged already or not: what claim would
-- hand out. Narrowed by p_tenant_id, p_run_ids and p_older_than (null: not narrowed).
-- p_early: p_older_than stands in for the policy where it is shorter. Changes nothing. early = true:
-- not due by the policy in force.
create function retention.list_due(
  p_tenant_id text default null,
  p_run_ids text[] default null,
  p_older_than interval default null,
  p_early boolean default false,
  p_limit bigint default null
)
returns table (
  run_id retention.run_id,
  tenant_id text,
  bucket text,
  key text,
  completed_at timestamptz,
  due_at timestamptz,
  early boolean
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_run_ids retention.run_id[];
begin
  if p_run_ids is not null then
    v_run_ids := array(select retention.read_run_id(i) from unnest(p_run_ids) i);
    return query
    select r.run_id::retention.run_id, r.tenant_id::text, r.bucket::text, r.key::text, r.completed_at, r.due_at, r.due_at >= now()
    from retention.live r
    where r.run_id = any (v_run_ids)
      and r.status = 'COMPLETED'
      and (p_tenant_id is null or r.tenant_id::text = p_tenant_id)
      and (p_older_than is null or r.completed_at < now() - retention.exactly(p_older_than))
      and (r.due_at < now() or p_early and coalesce(r.retain_until, '-infinity') < now())
      and retention.may_be_due(r.run_id, r.bucket, r.key, r.held)
    limit p_limit;
  else
    return query
    select s.run_id, t.tenant_id::text, s.bucket, s.key, s.completed_at, s.due_at, s.due_at >= now()
    from retention.tenants() t
    cross join lateral retention.look(
      t.tenant_id,
      null,
      null,
      now() - retention.exactly(
        case when p_early then p_older_than else greatest(t.retain, coalesce(p_older_than, t.retain)) end
      ),
      null
    ) s
    where (p_tenant_id is null or t.tenant_id::text = p_tenant_id)
      and (s.due_at < now() or p_early and coalesce(s.retain_until, '-infinity') < now())
      and retention.may_be_due(s.run_id, s.bucket, s.key, s.held)
    limit p_limit;
  end if;
end
$$;

-- The part of promise 1 that no date decides: has a place, is not held, is not dead, and shares its
-- object with no run that is not due.
create function retention.may_be_due(p_run_id retention.run_id, p_bucket text, p_key text, p_held boolean)
returns boolean
language sql
stable
as $$
  select p_bucket is not null
    and p_key <> ''
    and not p_held
    and not exists (
      select
      from retention.expired e
      where e.run_id = p_run_id
        and e.dead_at is not null
    )
    and (
      not (select s.check_shared_objects from retention.setting s)
      or not exists (
        select
        from retention.live o
        where o.key = p_key collate "C"
          and o.bucket = p_bucket
          and o.run_id <> p_run_id
          and (o.due_at is null or o.due_at >= now() or o.held)
      )
    )
$$;

-- Puts the rows of retention.selection into visible batches of their own: flagged ones that nobody
-- works on are taken out of theirs, dead ones are revived, the others are flagged. What is leased
-- stays where it is. The caller has locked the heartbeat's row. p_early: see retention.batch.early.
create function retention.regroup(p_batch_size integer, p_early interval)
returns table (batch_ids bigint[], newly_flagged bigint, selected bigint)
language plpgsql
as $$
#variable_conflict use_column
declare
  v_batch_ids bigint[];
  v_flagged bigint;
  v_taken bigint;
begin
  -- What is leased stays where it is: somebody works on it.
  perform
  from retention.batch b
  where b.settled_at is null
    and b.batch_id in (
      select e.batch_id
      from retention.expired e
      join retention.selection s on s.run_id = e.run_id
    )
  order by b.batch_id
  for update;
  delete from retention.selection s
  using retention.expired e, retention.batch b
  where e.run_id = s.run_id
    and b.batch_id = e.batch_id
    and b.lease is not null
    and b.visible_at > clock_timestamp();

  update retention.selection s
  set batch_id = p.batch_id
  from (
    select q.run_id,
      first_value(q.id) over (partition by q.bucket, q.part order by q.place) as batch_id
    from (
      select n.*,
        case when (n.place - 1) % p_batch_size = 0
          then nextval('retention.batch_batch_id_seq')
        end as id
      from (
        select t.run_id,
          t.bucket,
          row_number() over (partition by t.bucket order by t.completed_at, t.run_id) as place,
          (row_number() over (partition by t.bucket order by t.completed_at, t.run_id) - 1)
            / p_batch_size as part
        from retention.selection t
      ) n
    ) q
  ) p
  where p.run_id = s.run_id;

  -- Of a batch whose lease has run out, also those that stay: it loses its lease here.
  perform retention.note_unanswered(b.batch_id, null, b.visible_at)
  from retention.batch b
  where b.lease is not null
    and b.batch_id in (
      select e.batch_id
      from retention.expired e
      join retention.selection s on s.run_id = e.run_id
    );
  with taken as (
    select e.batch_id, count(*) as results
    from retention.expired e
    join retention.selection s on s.run_id = e.run_id
    group by e.batch_id
  )
  update retention.batch b
  set results = b.results - t.results,
    lease = null,
    visible_at = case when b.lease is null then b.visible_at else clock_timestamp() end
  from taken t
  where b.batch_id = t.batch_id;
  update retention.expired e
  set batch_id = s.batch_id,
    completed_at = s.completed_at,
    due_at = s.due_at,
    bucket = s.bucket,
    key = s.key,
    dead_at = null
  from retention.selection s
  where e.run_id = s.run_id;
  get diagnostics v_taken = row_count;
  delete from retention.batch b where b.settled_at is null and b.results = 0;

  insert into retention.expired (run_id, batch_id, bucket, key, completed_at, due_at)
  select s.run_id, s.batch_id, s.bucket, s.key, s.completed_at, s.due_at
  from retention.selection s
  where not exists (select from retention.expired e where e.run_id = s.run_id);
  get diagnostics v_flagged = row_count;
  insert into retention.bucket (bucket)
  select distinct s.bucket
  from retention.selection s
  on conflict do nothing;
  with made as (
    insert into retention.batch (batch_id, bucket, results, oldest, due_since, early)
    select s.batch_id, s.bucket, count(*), min(s.completed_at), min(s.due_at), p_early
    from retention.selection s
    group by s.batch_id, s.bucket
    order by s.batch_id
    returning batch_id
  )
  select coalesce(array_agg(m.batch_id), '{}') into v_batch_ids from made m;
  delete from retention.selection;
  return query select v_batch_ids, v_flagged, v_flagged + v_taken;
end
$$;

-- Puts what list_due finds into batches of its own, taking flagged results that nobody works on out
-- of theirs, and returns the batches: the work of a narrowed reconcile. Waits for a flagging pass
-- that runs. Raises invalid_parameter_value.
create function retention.flag_selected(
  p_tenant_id text default null,
  p_run_ids text[] default null,
  p_older_than interval default null,
  p_early boolean default false,
  p_limit bigint default null,
  p_batch_size integer default null
)
returns table (batch_ids bigint[], newly_flagged bigint, selected bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_setting retention.setting;
begin
  if p_early and (p_older_than is null or p_older_than < '1 day') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a cutoff that stands in for the policy must be 1 day or more, given: %s', p_older_than);
  end if;
  select * into strict v_setting from retention.setting;
  if not v_setting.enabled then
    return query select '{}'::bigint[], 0::bigint, 0::bigint;
    return;
  end if;
  perform from retention.heartbeat for update;

  delete from retention.selection;
  insert into retention.selection (run_id, bucket, key, completed_at, due_at)
  select d.run_id, d.bucket, d.key, d.completed_at, d.due_at
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d;

  return query
  select g.batch_ids, g.newly_flagged, g.selected
  from retention.regroup(
    coalesce(p_batch_size, v_setting.batch_size), case when p_early then p_older_than end
  ) g;
end
$$;

-- Revives dead results and brings forward failed ones that wait for their next attempt: all, or those
-- of some runs, a tenant, a bucket, an error code. They are flagged results like any other again, and
-- their attempts count from the beginning. Returns how many. What is being worked on is left alone.
-- Raises invalid_parameter_value for what cannot be a run id.
create function retention.retry(
  p_run_ids text[] default null,
  p_tenant_id text default null,
  p_bucket text default null,
  p_code text default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
declare
  v_run_ids retention.run_id[];
  v_revived bigint;
  v_batch_ids bigint[];
begin
  v_run_ids := array(select retention.read_run_id(i) from unnest(p_run_ids) i);
  perform from retention.heartbeat for update;
  delete from retention.selection;
  insert into retention.selection (run_id, bucket, key, completed_at, due_at)
  select e.run_id, e.bucket, e.key, e.completed_at, e.due_at
  from retention.expired e
  where e.failed_at is not null
    and (p_run_ids is null or e.run_id = any (v_run_ids))
    and (p_bucket is null or e.bucket = p_bucket)
    and (p_code is null or e.last_code = p_code)
    and (
      p_tenant_id is null
      or exists (
        select
        from retention.result r
        where r.run_id = e.run_id
          and r.tenant_id::text = p_tenant_id
      )
    );
  select g.batch_ids, g.selected
  into v_batch_ids, v_revived
  from retention.regroup((select s.batch_size from retention.setting s), null) g;
  update retention.expired e
  set attempts = 0,
    failed_at = null
  where e.batch_id = any (v_batch_ids);
  return v_revived;
end
$$;

-- Down Migration

drop function
  retention.retry(text[], text, text, text),
  retention.regroup(integer, interval),
  retention.flag_selected(text, text[], interval, boolean, bigint, integer),
  retention.may_be_due(retention.run_id, text, text, boolean),
  retention.list_due(text, text[], interval, boolean, bigint);
drop table retention.selection;
