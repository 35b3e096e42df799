/*
Settings: what a process writes when it starts, and a person may write in SQL.
*/

-- Writes the settings that a process gets as variables. p_settings: an object with any of enabled, retain,
-- loop_interval, batch_size and default_bucket. A key that is absent changes nothing. retain is the default
-- policy, and is guarded as in set_policy. Returns one line for each change, for the log: "batch_size: 1000
-- -> 500".
-- For the listener.
-- Locks the row of retention.setting, and the default policy where that changes.
-- Raises invalid_parameter_value for an unknown setting. Raises check_violation for a value out of range.
create or replace function retention.configure(p_settings jsonb)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_key text;
  v_old jsonb;
  v_new jsonb;
  v_retain interval;
  v_due bigint;
begin
  for v_key in select jsonb_object_keys(p_settings) loop
    if v_key not in ('enabled', 'retain', 'loop_interval', 'batch_size', 'default_bucket') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('configure knows no setting %s', v_key),
        hint = 'It takes enabled, retain, loop_interval, batch_size and default_bucket.';
    end if;
  end loop;
  if p_settings ? 'retain' then
    select retain into v_retain from retention.policy where tenant_id = '*';
    if v_retain <> retention._in_days((p_settings ->> 'retain')::interval) then
      v_due := retention.set_policy('*', (p_settings ->> 'retain')::interval);
      if exists (select from retention.policy where tenant_id = '*' and pending_retain is not null) then
        return next format(
          'default policy: stays %s, because %s would make %s results due at once; confirm it with retention policy confirm',
          v_retain, p_settings ->> 'retain', v_due
        );
      else
        return next format('default policy: %s -> %s, which makes %s results due at once', v_retain, p_settings ->> 'retain', v_due);
      end if;
    end if;
  end if;
  select to_jsonb(s) into v_old from retention.setting s for update;
  update retention.setting s
  set enabled = coalesce((p_settings ->> 'enabled')::boolean, s.enabled),
    loop_interval = coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval),
    batch_size = coalesce((p_settings ->> 'batch_size')::integer, s.batch_size),
    default_bucket = case when p_settings ? 'default_bucket' then p_settings ->> 'default_bucket' else s.default_bucket end
  where s.enabled is distinct from coalesce((p_settings ->> 'enabled')::boolean, s.enabled)
    or s.loop_interval is distinct from coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval)
    or s.batch_size is distinct from coalesce((p_settings ->> 'batch_size')::integer, s.batch_size)
    or p_settings ? 'default_bucket' and s.default_bucket is distinct from p_settings ->> 'default_bucket'
  returning to_jsonb(s) into v_new;
  perform retention._note_gate();
  return query
  select format('%s: %s -> %s', n.key, coalesce(v_old ->> n.key, 'none'), coalesce(n.value, 'none'))
  from jsonb_each_text(v_new) n
  where n.value is distinct from v_old ->> n.key;
end
$$;
