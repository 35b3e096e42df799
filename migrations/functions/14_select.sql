/*
Selections: what a narrowed reconcile and a retry work on, put into batches of its own.
*/

-- Puts the rows of retention.selection into visible batches of their own: flagged ones that no listener
-- works on are taken out of theirs, dead ones are revived, the others are flagged. What is leased
-- stays where it is: leased names those batches. The caller has taken the lock of the pass. p_early: see
-- retention.batch.early. What is due without it gets batches of its own: their receipts are not of an early deletion.
-- p_when: only batches of what completed then, as it was flagged; null: all batches.
create or replace function retention._regroup(p_batch_size integer, p_early interval, p_when tstzmultirange default null)
returns table (batch_ids bigint[], newly_flagged bigint, selected bigint, leased bigint[])
language plpgsql
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_candidates bigint[] := '{}';
  v_found bigint[];
  v_batch_ids bigint[];
  v_selected bigint;
  v_taken bigint;
  v_leased bigint[] := '{}';
begin
  -- Found without a lock. Until it is there, a batch may be settled or split, and what failed goes on in a
  -- batch that was not found: so look again until all are locked.
  loop
    v_found := array(
      select distinct b.batch_id
      from (
        -- Left out before their results are looked at.
        select o.batch_id, o.run_ids
        from retention.batch o
        where o.settled_at is null
          and o.batch_id not in (select unnest(v_candidates))
          and (p_when is null or p_when && tstzrange(o.oldest, o.newest, '[]'))
        offset 0
      ) b
      cross join unnest(b.run_ids) as u (run_id)
      where u.run_id in (select s.run_id from retention.selection s)
    );
    exit when v_found = '{}';
    perform
    from retention.batch b
    where b.batch_id = any (v_found)
    order by b.batch_id
    for update;
    v_candidates := v_candidates || v_found;
  end loop;
  with leased as (
    select b.batch_id
    from retention.batch b
    where b.batch_id = any (v_candidates)
      and b.settled_at is null
      and (b.lease is not null and b.visible_at > clock_timestamp() or b.deleted_at is not null)
  ),
  kept as (
    delete from retention.selection s
    where s.run_id in (
      select unnest(b.run_ids)
      from leased l
      join retention.batch b on b.batch_id = l.batch_id
    )
  )
  select coalesce(array_agg(l.batch_id), '{}') into v_leased from leased l;
  v_candidates := array(select unnest(v_candidates) except select unnest(v_leased));
  -- Such a one loses its lease here, and its last holder may still be asking S3.
  perform retention._note_unanswered(b, null, b.visible_at), retention._note_attempt(b, b.visible_at)
  from retention.batch b
  where b.batch_id = any (v_candidates)
    and b.settled_at is null
    and b.lease is not null
    and exists (
      select
      from unnest(b.run_ids) as u (run_id)
      where u.run_id in (select s.run_id from retention.selection s)
    );
  v_taken := retention._take_out_selected(v_candidates);

  insert into retention.bucket (bucket)
  select distinct s.bucket
  from retention.selection s
  on conflict do nothing;
  with made as (
    insert into retention.batch (
      bucket, results, oldest, newest, due_since, early, why, asked_by, run_ids, keys, tenants
    )
    select n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at), p_early,
      case when n.is_early then 'early' end,
      session_user,
      array_agg(n.run_id order by n.place),
      array_agg(retention._pack_key(n.key, n.run_id::text) order by n.place),
      array_agg(n.tenant_id order by n.place)
    from (
      select t.*,
        row_number() over (partition by t.bucket, t.is_early order by t.completed_at, t.run_id) as place
      from (
        select s.*, p_early is not null and (s.due_at < now()) is not true as is_early
        from retention.selection s
      ) t
    ) n
    group by n.bucket, n.is_early, (n.place - 1) / p_batch_size
    order by n.bucket, n.is_early, min(n.place)
    returning batch_id, results
  )
  select coalesce(array_agg(m.batch_id), '{}'), coalesce(sum(m.results), 0)
  into v_batch_ids, v_selected
  from made m;
  delete from retention.selection;
  return query select v_batch_ids, greatest(v_selected - v_taken, 0), v_selected, v_leased;
end
$$;

-- Puts what list_due finds into batches of its own and returns them: the work of a narrowed reconcile.
-- Flagged results leave their former batches, and a batch with a valid lease keeps its results. It needs p_tenant_id or
-- p_run_ids, or p_all => true, which says everything that is due. An empty list of runs selects nothing. p_batch_size:
-- by default setting.batch_size. leased: the batches that keep what was selected, since a listener works on it. Late
-- results pass the guard (see list_surges): set_aside says how many did not, and are in no batch, and surge_id where.
-- p_expected: how many results the caller has seen that it selects (count_due counts them); then they all go.
-- p_early: p_older_than stands in for the policy where it is shorter. Then p_expected says how many results that are
-- not due a person has seen: with more of them nothing is changed, and late ones pass the guard.
-- With p_early its batches are handed out only to claims that name them, as long as those come at least every 15
-- minutes and until end_cutoff; after that they go by the policy. Returns no batches when the gate is closed.
-- For operators.
-- Locks the row of retention.pass_lock (it waits for a flagging pass, for a minute at most) and the batches that it
-- takes results from. No tick waits for it.
-- Raises invalid_parameter_value for a call that says neither what nor p_all, or both, for an empty text, for a text that
-- cannot be a run id or a tenant id, and with p_early for a cutoff below 1 day. Raises RR003 for more early results than
-- p_expected, or without it, and where without p_early p_expected is not the number. Raises lock_not_available when another transaction keeps a lock for a minute.
create or replace function retention.flag_selected(
  p_tenant_id text default null,
  p_run_ids text[] default null,
  p_older_than interval default null,
  p_early boolean default false,
  p_limit bigint default null,
  p_batch_size integer default null,
  p_all boolean default false,
  p_expected bigint default null
)
returns table (
  batch_ids bigint[],
  newly_flagged bigint,
  selected bigint,
  leased bigint[],
  set_aside bigint,
  surge_id bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
set lock_timeout = '60s'
as $$
#variable_conflict use_column
declare
  v_setting retention.setting;
  v_guarded record;
  v_asked jsonb := retention._selection_asked(p_tenant_id, p_run_ids, p_older_than, p_limit, p_expected);
begin
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  perform retention._check_scope('flag_selected', num_nonnulls(p_tenant_id, p_run_ids) > 0, p_all, 'p_tenant_id or p_run_ids');
  if p_early and (p_older_than is null or p_older_than < '1 day') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a cutoff that stands in for the policy must be 1 day or more, given: %s', p_older_than);
  end if;
  select * into strict v_setting from retention.setting;
  if not retention._is_open() then
    return query select '{}'::bigint[], 0::bigint, 0::bigint, '{}'::bigint[], 0::bigint, null::bigint;
    return;
  end if;
  perform retention._take_pass_lock();
  delete from retention.selection;
  insert into retention.selection (run_id, tenant_id, bucket, key, completed_at, due_at)
  select d.run_id, d.tenant_id, d.bucket, d.key, d.completed_at, d.due_at
  from retention.list_due(p_tenant_id, p_run_ids, p_older_than, p_early, p_limit) d;
  if p_early then
    perform retention._confirm_early(p_expected, v_asked);
    insert into retention.cutoff (flagged_at, until)
    values (now(), now() + interval '15 minutes')
    on conflict (flagged_at) do update
    set until = excluded.until;
  end if;

  select * into strict v_guarded
  from retention._guard_selection(case when not p_early then p_expected end, 'reconcile', v_asked);

  return query
  select g.batch_ids, g.newly_flagged, g.selected, g.leased, v_guarded.set_aside, v_guarded.surge_id
  from retention._regroup(
    coalesce(p_batch_size, v_setting.batch_size),
    case when p_early then p_older_than end,
    (select range_agg(tstzrange(s.completed_at, s.completed_at, '[]')) from retention.selection s)
  ) g;
end
$$;

-- Revives dead results, and brings forward failed results that wait for their next attempt. Their attempts
-- count from 0 again. It needs one of p_run_ids, p_tenant_id, p_bucket and p_code (of the error), which narrow it
-- together, or p_all => true, which says all of them. An empty list of runs revives nothing. A batch with a valid
-- lease is left as it is. Returns how many results.
-- For operators.
-- Locks the row of retention.pass_lock (it waits for a flagging pass, for a minute at most) and the batches that it
-- changes.
-- Raises invalid_parameter_value for a call that says neither what nor p_all, or both, for an empty text, and for a text
-- that cannot be a run id or a tenant id.
create or replace function retention.retry(
  p_run_ids text[] default null,
  p_tenant_id text default null,
  p_bucket text default null,
  p_code text default null,
  p_all boolean default false
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
set lock_timeout = '60s'
as $$
declare
  v_run_ids retention.run_id[];
  v_batch_ids bigint[];
  v_revived bigint;
begin
  perform retention._check_narrowing(p_run_ids, p_tenant_id, p_bucket, p_code);
  perform retention._check_scope(
    'retry', num_nonnulls(p_run_ids, p_tenant_id, p_bucket, p_code) > 0, p_all, 'one of p_run_ids, p_tenant_id, p_bucket and p_code'
  );
  v_run_ids := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  p_tenant_id := retention._read_tenant_id(p_tenant_id)::text;
  perform retention._take_pass_lock();
  if p_run_ids is null and p_tenant_id is null then
    v_batch_ids := array(
      select b.batch_id
      from retention.batch b
      where b.failed_at is not null
        and b.settled_at is null
        and (b.lease is null or b.visible_at <= clock_timestamp())
        and (p_bucket is null or b.bucket = p_bucket)
        and (p_code is null or b.code = p_code)
      order by b.batch_id
      for update
    );
    -- Such a lease has run out. Its holder may still be asking S3.
    perform retention._note_unanswered(b, null, b.visible_at), retention._note_attempt(b, b.visible_at)
    from retention.batch b
    where b.batch_id = any (v_batch_ids)
      and b.lease is not null;
    perform retention._note_failure(b) from retention.batch b where b.batch_id = any (v_batch_ids);
    with revived as (
      update retention.batch b
      set attempts = 0,
        code = null,
        error = null,
        failed_at = null,
        dead_at = null,
        -- What S3 has deleted went as it went.
        early = case when b.deleted_at is not null then b.early end,
        why = case when b.deleted_at is not null then b.why end,
        asked_by = case when b.deleted_at is not null then b.asked_by else session_user end,
        lease = null,
        visible_at = now()
      where b.batch_id = any (v_batch_ids)
      returning b.results
    )
    select coalesce(sum(r.results), 0) into v_revived from revived r;
    return v_revived;
  end if;
  delete from retention.selection;
  insert into retention.selection (run_id, tenant_id, bucket, key, completed_at, due_at)
  select distinct on (u.run_id) u.run_id, u.tenant_id, b.bucket, u.key,
    -- As it is by now; what has no row any more is spared by the claim.
    coalesce((select r.completed_at from retention.result r where r.run_id = u.run_id limit 1), b.oldest),
    b.due_since
  from retention.batch b
  cross join lateral retention._results(b) as u
  where b.failed_at is not null
    and b.settled_at is null
    and (p_bucket is null or b.bucket = p_bucket)
    and (p_code is null or b.code = p_code)
    and (p_run_ids is null or u.run_id in (select unnest(v_run_ids)))
    and (p_tenant_id is null or u.tenant_id = p_tenant_id);
  select g.selected
  into v_revived
  from retention._regroup((select s.batch_size from retention.setting s), null) g;
  -- What S3 has deleted stays in its batches, which are stamped again whole.
  with chosen as (
    select b.batch_id, count(*) as results
    from retention.batch b
    cross join unnest(b.run_ids, b.tenants) as u (run_id, tenant_id)
    where b.deleted_at is not null
      and b.settled_at is null
      and b.failed_at is not null
      and (p_bucket is null or b.bucket = p_bucket)
      and (p_code is null or b.code = p_code)
      and (p_run_ids is null or u.run_id in (select unnest(v_run_ids)))
      and (p_tenant_id is null or u.tenant_id = p_tenant_id)
    group by b.batch_id
  ),
  revived as (
    update retention.batch b
    set attempts = 0,
      code = null,
      error = null,
      failed_at = null,
      dead_at = null,
      visible_at = now()
    from chosen c
    where b.batch_id = c.batch_id
    returning c.results
  )
  select v_revived + coalesce(sum(r.results), 0) into v_revived from revived r;
  return v_revived;
end
$$;
