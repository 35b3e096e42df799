/*
Tables that are never empty: the one row of each, or the default policy, says how everything works. DELETE may take
other rows of them one by one, under their guards; TRUNCATE would pass those by, and nothing would be due any more.
*/

-- Before one of them is emptied at once. Raises check_violation.
create or replace function retention._refuse_emptying()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
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
  v_table text;
begin
  foreach v_table in array array[
    'policy', 'setting', 'adapter', 'identity', 'heartbeat', 'pass_lock', 'stamping', 'gate_state', 'installed'
  ] loop
    execute format(
      'create or replace trigger refuse_emptying before truncate on retention.%I
      for each statement execute function retention._refuse_emptying()',
      v_table
    );
  end loop;
end
$$;
