/*
Scope: what is meant by an argument that narrows. No empty or missing one ever means everything.
*/

-- Raises invalid_parameter_value for an argument that narrows and is empty: it was meant to say something. An empty
-- list of runs is different: it names none, so nothing is selected, and a notice says so. Null: not given.
create or replace function retention._check_narrowing(
  p_run_ids text[],
  p_tenant_id text,
  p_bucket text default null,
  p_code text default null
)
returns void
language plpgsql
stable
as $$
declare
  v_name text;
begin
  select a.name
  into v_name
  from (
    values ('p_tenant_id', p_tenant_id), ('p_bucket', p_bucket), ('p_code', p_code)
  ) as a (name, value)
  where btrim(a.value, E' \t\r\n') = ''
  limit 1;
  if found then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s: expected what to narrow to, given: an empty text', v_name),
      hint = 'An empty text never means everything. Where everything is meant, leave it out and say so.';
  end if;
  if exists (select from unnest(p_run_ids) as i (id) where btrim(coalesce(i.id, ''), E' \t\r\n') = '') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'p_run_ids: expected the ids of runs, given: a list with a null or an empty text in it',
      hint = 'Take it out of the list.';
  end if;
  if p_run_ids = '{}' then
    raise notice 'p_run_ids is an empty list: no run is selected';
  end if;
end
$$;

-- Raises invalid_parameter_value for a call that names neither a selection nor everything, or both. p_narrowed: whether it names a
-- selection. p_what: what the selection may be, in words.
create or replace function retention._check_scope(p_function text, p_narrowed boolean, p_all boolean, p_what text)
returns void
language plpgsql
stable
as $$
begin
  if p_narrowed and p_all then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s: expected %s, or p_all => true, given: both', p_function, p_what),
      hint = 'Leave out one of them.';
  end if;
  if not p_narrowed and p_all is not true then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s: expected %s, or p_all => true, given: neither', p_function, p_what),
      hint = 'An argument that is null or left out never means everything. Where everything is meant: p_all => true.';
  end if;
end
$$;

-- What the deletion of a selection asks two people for: the selection, and the number that they have seen. More than a
-- hundred runs are named by their number, the first of them and a digest of all: a request is read by a person.
create or replace function retention._selection_asked(
  p_tenant_id text,
  p_run_ids text[],
  p_older_than interval,
  p_limit bigint,
  p_expected bigint
)
returns jsonb
language sql
stable
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'all', case when p_tenant_id is null and p_run_ids is null then true end,
    'tenant_id', p_tenant_id,
    'run_ids', case when r.runs <= 100 then r.run_ids end,
    'runs', case when r.runs > 100 then r.runs end,
    'first_run_id', case when r.runs > 100 then r.run_ids -> 0 end,
    'runs_sha256', case when r.runs > 100 then encode(sha256(convert_to(r.run_ids::text, 'UTF8')), 'hex') end,
    'older_than_seconds', extract(epoch from p_older_than)::bigint,
    'limit', p_limit,
    'expected', p_expected
  ))
  from (
    select jsonb_agg(i.id order by i.id collate "C") as run_ids, count(*) as runs
    from (select distinct u.id from unnest(p_run_ids) as u (id)) i
  ) r
$$;

-- Lets results of retention.selection go that are not due by their policy, if a person has seen their number. The caller
-- has put them there, and has changed nothing else. Raises RR003 where more of them are selected than p_expected, or
-- none was expected.
create or replace function retention._confirm_early(p_expected bigint, p_asked jsonb)
returns void
language plpgsql
as $$
declare
  v_early bigint := (select count(*) from retention.selection s where s.due_at >= now());
begin
  if v_early > coalesce(p_expected, 0) then
    raise exception using
      errcode = 'RR003',
      message = format(
        '%s of the selected results are not due by their policy, %s; nothing was changed', v_early,
        case when p_expected is null then 'and no number was expected' else format('and %s were expected', p_expected) end
      ),
      hint = format('See them with retention.list_due(..., p_early => true); to delete them early: p_expected => %s.', v_early);
  end if;
  if v_early > 0 then
    perform retention._two_people('early', p_asked);
  end if;
end
$$;
