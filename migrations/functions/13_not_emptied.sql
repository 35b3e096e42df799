/*
Tables that are not emptied at once, nor lose their one row: TRUNCATE passes by every guard of a row. This is the one
place that refuses it. What DELETE takes row by row, the guards of each table judge.
*/

-- Before a table is emptied at once: of one that is never empty it raises check_violation, of one with anything sealed in
-- it RR060, and of what keepers or holds need it takes two people. Before the one row of a table is deleted: check_violation.
create or replace function retention._refuse_emptying()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_needed boolean;
begin
  if tg_op = 'TRUNCATE' and tg_table_name in ('batch', 'receipt', 'change', 'seal', 'keeper', 'held_object') then
    execute format(
      'select exists (select from retention.%I where %s)',
      tg_table_name,
      case when tg_table_name in ('batch', 'receipt') then 'seal_id is not null' else 'true' end
    )
    into v_is_needed;
    if not v_is_needed then
      return null;
    elsif tg_table_name in ('keeper', 'held_object') then
      perform retention._two_people(
        case tg_table_name when 'keeper' then 'keeper' else 'hold' end, jsonb_build_object('truncate', tg_table_name)
      );
      return null;
    end if;
    raise exception using
      errcode = 'RR060',
      message = format('retention.%I is not emptied: what is sealed stays as it is', tg_table_name);
  end if;
  raise exception using
    errcode = 'check_violation',
    message = format('retention.%s cannot be emptied: without its rows nothing is flagged or claimed any more', tg_table_name),
    hint = case tg_table_name
      when 'policy' then 'End the policy of a tenant with: retention policy unset TENANT; change the default with: retention policy set ''*'' DURATION.'
      else 'To stop the reactor: retention halt. To take the schema away: retention migrate down.'
    end;
end
$$;

do $$
declare
  v_one_row text[] := array[
    'setting', 'adapter', 'identity', 'fence', 'heartbeat', 'pass_lock', 'stamping', 'gate_state', 'installed', 'seal_head'
  ];
  v_table text;
begin
  foreach v_table in array v_one_row || array['policy', 'batch', 'receipt', 'change', 'seal', 'keeper', 'held_object'] loop
    execute format(
      'create or replace trigger refuse_emptying before truncate on retention.%I
      for each statement execute function retention._refuse_emptying()',
      v_table
    );
  end loop;
  foreach v_table in array v_one_row loop
    execute format(
      'create or replace trigger refuse_deleting before delete on retention.%I
      for each row execute function retention._refuse_emptying()',
      v_table
    );
  end loop;
end
$$;
