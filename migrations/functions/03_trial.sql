/*
What a proposed mapping finds when it is tried, for `retention init`: beside 03_proposal, and temporary like it.
*/

-- The buckets that the first 1,000 rows name, at most ten.
create or replace function retention._buckets_named(p_table text, p_columns text)
returns setof text
language plpgsql
stable
as $$
declare
  v_bucket jsonb := retention._parse_columns(p_columns) -> 'bucket';
begin
  if v_bucket ? 'fixed' then
    return next v_bucket ->> 'fixed';
  elsif v_bucket ->> 'name' is not null then
    return query execute format(
      'select distinct r.bucket from (select %I::text as bucket from %s limit 1000) r where r.bucket <> '''' order by 1 limit 10',
      v_bucket ->> 'name', retention._find_table(p_table)
    );
  end if;
end
$$;

-- Tries a mapping: what it finds among the first 10,000 rows, and the stamp of one live row. The caller rolls back; the
-- stamp itself is undone here, and waits a second for locks at most. A table whose triggers run at a stamp is spared that:
-- what they do to a sequence or outside of the database no rollback takes back.
-- Raises what _find_columns raises.
create or replace function retention._try_mapping(p_table text, p_columns text, p_retain interval)
returns table (name text, state text, found text, remedy text)
language plpgsql
as $$
#variable_conflict use_column
declare
  v_found jsonb := retention._find_columns(p_table, p_columns);
  v_table regclass := retention._find_table(p_table);
  v_cleared_at text := case when v_found -> 'cleared_at' ->> 'type' is not null then quote_ident(v_found -> 'cleared_at' ->> 'name') end;
  v_seen record;
  v_written text;
  v_stamped bigint;
begin
  execute format(
    'select count(*) as looked_at,
      count(*) filter (where %1$s) as completed,
      count(*) filter (where (%1$s) and %2$s is null) as live,
      count(*) filter (where (%1$s) and %2$s is null and %3$s < now() - $1) as due
    from (select * from %4$s limit 10000) r',
    retention._candidate(v_found, false), coalesce(v_cleared_at, 'null'), retention._instant(v_found -> 'completed_at'), v_table
  ) into v_seen using p_retain;
  return query
  select 'trial: reading', case when v_seen.looked_at > 0 and v_seen.completed = 0 then 'warning' else 'ok' end,
    format('of the first %s rows %s are completed and have a key, %s of those have their object still, and %s of those are older than %s days',
      v_seen.looked_at, v_seen.completed, v_seen.live, v_seen.due, extract(day from p_retain)),
    case when v_seen.looked_at > 0 and v_seen.completed = 0 then 'Look at the mapping of status and key: nothing would ever fall due.' end;
  v_written := concat_ws(', ', v_cleared_at || ' = now()', quote_ident(v_found -> 'updated_at' ->> 'name') || ' = now()');
  if v_written = '' or v_seen.live = 0 then
    return query select 'trial: stamping', 'ok',
      case when v_written = '' then 'there is no column to write yet' else 'there is no row to try it with' end || '; `retention doctor` tries it', null;
    return;
  end if;
  if exists (
    select
    from pg_class c
    where (c.oid = v_table or c.oid in (select p.relid from pg_partition_tree(v_table) p))
      and (
        c.relkind = 'f'
        or exists (select from pg_rewrite w where w.ev_class = c.oid and w.ev_type = '2')
        or exists (select from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 16 = 16)
      )
  ) then
    return query select 'trial: stamping', 'ok', 'not tried here, since triggers or rules of the table run then; `retention doctor` tries it', null;
    return;
  end if;
  begin
    perform set_config('lock_timeout', '1s', true);
    execute format(
      'update %1$s set %2$s where (tableoid, ctid) = (
        select r.tableoid, r.ctid from (select tableoid, ctid from %1$s where %3$s limit 1) r
      )',
      v_table, v_written, concat_ws(' and ', retention._candidate(v_found, false), v_cleared_at || ' is null')
    );
    get diagnostics v_stamped = row_count;
    raise exception using errcode = 'RR001', message = 'the trial is over';
  exception
    when sqlstate 'RR001' then
      return query select 'trial: stamping', 'ok',
        case v_stamped when 1 then 'one row took it; it was rolled back' else 'no row to try it with; `retention doctor` tries it' end, null;
    when lock_not_available then
      return query select 'trial: stamping', 'ok', 'not tried, since another session has the row or the table locked; `retention doctor` tries it', null;
    when others then
      return query select 'trial: stamping', 'failed', format('a row refuses it: %s', sqlerrm),
        'Let the table take an update that writes the cleared-at column alone.';
  end;
end
$$;
