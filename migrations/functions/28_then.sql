/*
Then: policies, holds and settings as they were at a time that has passed, from retention.change.
*/

-- A row of retention.policy (p_name: its tenant), hold (its number) or setting (null) as it was at a time; null: it was not
-- there. Where nothing is recorded of it, as it is now.
create or replace function retention._row_at(p_subject text, p_name text, p_at timestamptz)
returns jsonb
language plpgsql
stable
as $$
declare
  v_change record;
begin
  select c.after as row
  into v_change
  from retention.change c
  where c.subject = p_subject
    and (p_name is null or c.name = p_name)
    and c.at <= p_at
  order by c.change_id desc
  limit 1;
  if not found then
    select c.before as row
    into v_change
    from retention.change c
    where c.subject = p_subject
      and (p_name is null or c.name = p_name)
      and c.at > p_at
    order by c.change_id
    limit 1;
  end if;
  if found then
    return v_change.row;
  end if;
  return case p_subject
    when 'policy' then (select to_jsonb(p) from retention.policy p where p.tenant_id = p_name and p.set_at <= p_at)
    when 'hold' then (select to_jsonb(h) from retention.hold h where h.hold_id::text = p_name and h.placed_at <= p_at)
    else (select to_jsonb(s) from retention.setting s)
  end;
end
$$;

-- The policy that was in force for a tenant at a time: its length, in words whose it was, and who had set it when.
create or replace function retention._policy_at(
  p_tenant_id text,
  p_at timestamptz,
  out retain interval,
  out policy text,
  out set_by text,
  out set_at timestamptz
)
language plpgsql
stable
as $$
declare
  v_name text := case when p_tenant_id <> '*' then p_tenant_id end;
  v_row jsonb := case when v_name is not null then retention._row_at('policy', v_name, p_at) end;
begin
  policy := 'the policy of tenant ' || v_name;
  if v_row is null then
    v_name := '*';
    v_row := retention._row_at('policy', v_name, p_at);
    policy := 'the default policy';
  end if;
  retain := (v_row ->> 'retain')::interval;
  select c.at, retention._who(c.session_name, c.role_name, c.application)
  into set_at, set_by
  from retention.change c
  where c.subject = 'policy'
    and c.name = v_name
    and c.at <= p_at
    and c.after ->> 'retain' is distinct from c.before ->> 'retain'
  order by c.change_id desc
  limit 1;
  set_at := coalesce(set_at, (v_row ->> 'set_at')::timestamptz);
  set_by := coalesce(set_by, v_row ->> 'set_by');
end
$$;

-- The holds that bore on a run at a time, as _bearing_holds shows them by now. p_spread: setting.release_spread then.
create or replace function retention._holds_at(
  p_run_id retention.run_id,
  p_tenant_id text,
  p_bucket text,
  p_key text,
  p_spread interval,
  p_at timestamptz
)
returns jsonb
language plpgsql
stable
as $$
begin
  return (
    with named as (
      select c.name
      from retention.change c
      where c.subject = 'hold'
        and (c.run_id = p_run_id::text or c.tenant_id = p_tenant_id)
      union
      select h.hold_id::text
      from retention.hold h
      where h.run_id = p_run_id
        or h.tenant_id = p_tenant_id
        or h.bucket = p_bucket and h.key = p_key collate "C"
      union
      select o.hold_id::text
      from retention.held_object o
      where o.bucket = p_bucket
        and o.key = p_key collate "C"
    ), was as (
      select w.row,
        (w.row ->> 'hold_id')::bigint as hold_id,
        case
          when w.row ->> 'run_id' = p_run_id::text then 'run'
          when w.row ->> 'tenant_id' = p_tenant_id then 'tenant'
          else 'object'
        end as on_what,
        retention._hold_end((w.row ->> 'released_at')::timestamptz, (w.row ->> 'expires_at')::timestamptz) as ends
      from named n
      cross join lateral (select retention._row_at('hold', n.name, p_at) as row) w
      where w.row is not null
    )
    select jsonb_agg(
      jsonb_build_object(
        'hold_id', w.hold_id,
        'reason', w.row ->> 'reason',
        'placed_by', w.row ->> 'placed_by',
        'placed_at', retention._iso((w.row ->> 'placed_at')::timestamptz),
        'on', w.on_what,
        'ends', retention._iso(nullif(w.ends, 'infinity'))
      )
      order by w.hold_id
    )
    from was w
    where w.ends + case when w.on_what = 'tenant' then p_spread * retention._place_in_line(p_run_id::text) else interval '0' end > p_at
  );
end
$$;
