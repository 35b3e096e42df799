/*
Certificates: what of one tenant fell due in a period, by the rule in force now, and what became of each result. All
of it is read in one snapshot (repeatable read), so that its counts agree. See 32_certificate_proof for
what proves it.
*/

-- How long results of a tenant are kept by the policy in force now, in seconds; null: there is no policy for everybody, and
-- nothing falls due. p_tenant_id: null: of results without a tenant.
create or replace function retention._retain_of(p_tenant_id text)
returns interval
language sql
stable
as $$
  select retention._in_seconds(coalesce(p.retain, d.retain))
  from retention.policy d
  left join retention.policy p on p.tenant_id = p_tenant_id
    and p.tenant_id <> '*'
  where d.tenant_id = '*'
$$;

-- The population of a certificate as a query that anybody can run who may read retention.result: the completed runs
-- of a tenant that fell due from p_from on and before p_to. No sum is made of a date of a row before it is compared, for a date may lie
-- so far off that the sum raises.
create or replace function retention._population(p_tenant_id text, p_from timestamptz, p_to timestamptz)
returns text
language sql
stable
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
as $$
  select format(
    $query$select r.run_id, r.completed_at, r.bucket, r.key, r.cleared_at,
  greatest(r.completed_at + %1$s, r.retain_until) as due_at
from retention.result r
where %2$s
  and r.status = %3$L
  and (r.key is not null or r.cleared_at is not null)
  and r.completed_at > '-infinity'
  and r.completed_at < timestamptz %5$L - %1$s
  and (r.retain_until is null or r.retain_until < timestamptz %5$L)
  and (r.completed_at >= timestamptz %4$L - %1$s or r.retain_until >= timestamptz %4$L)$query$,
    coalesce(
      'interval ''' || trim_scale(extract(epoch from retention._retain_of(p_tenant_id))) || ' seconds''',
      -- Without a policy for everybody nothing falls due.
      'null::interval'
    ),
    case when p_tenant_id is null then 'r.tenant_id is null' else format('r.tenant_id = %L', p_tenant_id) end,
    coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED'),
    p_from,
    p_to
  )
  from retention.adapter a
$$;

-- Looks at the tenant and the period of a certificate, and returns the tenant as its column compares it.
-- Raises invalid_parameter_value for what cannot be one and for a period that is none or is not over yet, and
-- object_not_in_prerequisite_state while nothing is known of the table.
create or replace function retention._check_certificate(p_tenant_id text, p_from timestamptz, p_to timestamptz)
returns text
language plpgsql
stable
as $$
begin
  if p_from is null or p_to is null or not isfinite(p_from) or not isfinite(p_to)
    or p_from < timestamptz '0001-01-01 00:00Z'
  then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected when the period begins and when it is over, given: %s and %s', coalesce(p_from::text, 'null'), coalesce(p_to::text, 'null'));
  end if;
  if p_from >= p_to then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a period that begins before it is over, given: from %s to %s', retention._iso(p_from), retention._iso(p_to)),
      hint = 'The end is the first moment that is no longer in it: of one day it is the next day.';
  end if;
  if p_to > now() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a period that is over, given: until %s, and it is %s', retention._iso(p_to), retention._iso(now())),
      hint = format('The latest whole day ends at %s.', retention._iso(date_trunc('day', now(), 'UTC')));
  end if;
  if to_regclass('retention.result') is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the application''s table is detached, so nothing is known of its runs',
      hint = 'Run: retention migrate up.';
  end if;
  return retention._read_tenant_id(p_tenant_id)::text;
end
$$;

-- Says that what a certificate counts cannot be read, and why; raises it under its own code.
create or replace function retention._refuse_unreadable(p_sqlstate text, p_message text)
returns void
language plpgsql
as $$
begin
  raise exception using
    errcode = p_sqlstate,
    message = format('the rows of this tenant cannot all be read, so they cannot be counted: %s', left(p_message, 500)),
    hint = 'Correct the value that the message names. retention explain RUN says whether a run can be read.';
end
$$;

-- Where the result of a live run stands that is due: category is one of held, shared, surge, kept, spared,
-- without_place, dead, unreadable and not_yet, in the order in which explain judges; state says more of not_yet. p_work: how a batch has it; null: none has. p_is_parked: it is set aside. Probes by index alone.
create or replace function retention._standing(
  p_run_id retention.run_id,
  p_completed_at timestamptz,
  p_work text,
  p_is_parked boolean,
  out category text,
  out state text
)
language plpgsql
stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_live record;
begin
  select l.* into v_live from retention._live l where l.run_id = p_run_id and l.completed_at = p_completed_at limit 1;
  state := null;
  if not found or not v_live.is_candidate or not v_live.has_place and v_live.bucket is not null then
    category := 'without_place';
  elsif p_work in ('dead', 'in flight') then
    category := case p_work when 'dead' then 'dead' else 'not_yet' end;
    state := p_work;
  elsif v_live.bucket is null then
    category := 'without_place';
  elsif v_live.held or exists (select from retention.held_object) and retention._is_held_object(v_live.bucket, v_live.key) then
    category := 'held';
  elsif (select s.check_shared_objects from retention.setting s) and exists (
    select
    from retention._live o
    where o.key_hash = v_live.key_hash
      and o.key = v_live.key collate "C"
      and o.bucket = v_live.bucket
      and o.run_id <> p_run_id
      and not o.is_due
  ) then
    category := 'shared';
  elsif p_is_parked then
    category := 'surge';
  else
    if exists (select from retention.keeper) or exists (select from retention.spared_object) then
      select case w.state when 'kept' then 'kept' when 'object changed' then 'spared' end
      into category
      from retention._why_spared(p_run_id, v_live.bucket, v_live.key, null) w;
    end if;
    if category is null then
      category := 'not_yet';
      state := coalesce(p_work, 'due');
    end if;
  end if;
exception
  when others then
    if retention._is_passing(sqlstate) or sqlstate in ('42P01', '42703', '42883') then
      raise;
    end if;
    category := 'unreadable';
    state := null;
end
$$;
