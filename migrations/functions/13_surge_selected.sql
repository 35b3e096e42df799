/*
The guard of a narrowed reconcile: what a person names is not confirmed by being named.
*/

-- Passes the late results in retention.selection by the guard. Those over it leave the selection and are set aside as a
-- surge; set_aside says how many. p_expected: how many results the caller has said that the selection holds; they pass,
-- late or not, and count as accounted for; p_asked is what two people are then asked for. The caller has taken the lock
-- of the pass.
-- Raises RR003 where the selection holds another number, before anything is changed.
create or replace function retention._guard_selection(
  p_expected bigint,
  p_found_by text,
  p_asked jsonb,
  out set_aside bigint,
  out surge_id bigint
)
language plpgsql
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_variable
declare
  v_selected bigint := (select count(*) from retention.selection);
  v_seen_at timestamptz := retention._seen();
  v_keys text[];
  v_results bigint[];
  v_uncovered bigint[];
  v_rules text[];
  v_over text[];
begin
  set_aside := 0;
  if v_selected <> p_expected then
    raise exception using
      errcode = 'RR003',
      message = format(
        '%s would go, and %s were expected; nothing was changed', retention._counted(v_selected, 'result'), p_expected
      ),
      hint = 'Look at them with: retention reconcile --dry-run, narrowed in the same way';
  end if;
  if not exists (select from retention.selection s where s.due_at < v_seen_at) then
    return;
  end if;
  select array_agg(t.tenant_key), array_agg(t.results)
  into v_keys, v_results
  from (
    select retention._tenant_key(s.tenant_id) as tenant_key, count(*) as results
    from retention.selection s
    where s.due_at < v_seen_at
      and s.due_at < now()
      and s.due_at < retention._seen_of(s.tenant_id)
      and retention._is_late(s.run_id, s.bucket, s.key, v_seen_at)
      and s.run_id not in (select unnest(b.run_ids) from retention.batch b where b.settled_at is null)
    group by 1
  ) t;
  if v_keys is null then
    return;
  end if;
  select array_agg(j.tenant_key), array_agg(j.results), array_agg(j.uncovered), array_agg(j.rule),
    coalesce(array_agg(j.tenant_key) filter (where j.rule is not null), '{}'),
    coalesce(sum(j.results) filter (where j.rule is not null), 0)
  into v_keys, v_results, v_uncovered, v_rules, v_over, set_aside
  from retention._judge(v_keys, v_results) j;
  if p_expected is not null then
    if set_aside > 0 then
      perform retention._two_people('surge', p_asked || jsonb_build_object('late', set_aside));
    end if;
    set_aside := 0;
    return;
  end if;
  if set_aside > 0 then
    surge_id := retention._open_surge(
      set_aside, cardinality(v_over), case when 'tenant' = any (v_rules) then 'tenant' else 'all' end, p_found_by
    );
    with taken as (
      delete from retention.selection s
      where retention._tenant_key(s.tenant_id) in (select unnest(v_over))
        and s.due_at < v_seen_at
        and s.due_at < now()
        and s.due_at < retention._seen_of(s.tenant_id)
        and retention._is_late(s.run_id, s.bucket, s.key, v_seen_at)
        and s.run_id not in (select unnest(b.run_ids) from retention.batch b where b.settled_at is null)
      returning s.*
    )
    insert into retention.surge_part (surge_id, bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
    select _guard_selection.surge_id, n.bucket, count(*), min(n.completed_at), max(n.completed_at), min(n.due_at),
      array_agg(n.run_id order by n.place),
      array_agg(retention._pack_key(n.key, n.run_id::text) order by n.place),
      array_agg(n.tenant_id order by n.place)
    from (
      select t.*, row_number() over (partition by t.bucket order by t.completed_at, t.run_id) as place
      from taken t
    ) n
    group by n.bucket, (n.place - 1) / (select x.batch_size from retention.setting x)
    order by n.bucket, min(n.place);
  end if;
  perform retention._note_lateness(v_keys, v_results, v_uncovered, v_rules);
end
$$;
