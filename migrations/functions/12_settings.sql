/*
Settings: what a person sets. What a process brings as variables is in 12_variables.
*/

-- Notes that a person has set a setting: from then on the variable that was there before changes it no more.
create or replace function retention._note_person(p_name text)
returns void
language sql
as $$
  insert into retention.variable (name, set_at, set_by)
  values (p_name, clock_timestamp(), session_user)
  on conflict (name) do update
  set set_at = excluded.set_at,
    set_by = excluded.set_by
$$;

-- However a setting is written, a person did it. apply_variables takes the note back for what it wrote itself.
create or replace function retention._note_setting()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_name = 'policy' then
    perform retention._note_person('retain');
  else
    perform retention._note_person(n.key)
    from jsonb_each(to_jsonb(new)) n
    where n.key in ('enabled', 'loop_interval', 'batch_size', 'default_bucket')
      and n.value is distinct from to_jsonb(old) -> n.key;
  end if;
  return null;
end
$$;

create or replace trigger note_setting
after update of enabled, loop_interval, batch_size, default_bucket on retention.setting
for each row
execute function retention._note_setting();

create or replace trigger note_default_policy
after insert or update of retain on retention.policy
for each row
when (new.tenant_id = '*')
execute function retention._note_setting();

-- Raises invalid_parameter_value for an object with a key that is no setting, or with a value that is null.
create or replace function retention._check_settings(p_function text, p_settings jsonb)
returns void
language plpgsql
immutable
as $$
declare
  v_key text;
begin
  if jsonb_typeof(p_settings) is distinct from 'object' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('%s takes an object such as {"enabled": false}, given: %s', p_function, coalesce(left(p_settings::text, 100), 'null'));
  end if;
  for v_key in select jsonb_object_keys(p_settings) loop
    if v_key not in ('enabled', 'retain', 'loop_interval', 'batch_size', 'default_bucket', 'receipt_keys')
      -- No variable says how receipts keep keys.
      or v_key = 'receipt_keys' and p_function <> 'configure'
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s knows no setting %s', p_function, v_key),
        hint = case p_function
          when 'configure' then 'It takes enabled, retain, loop_interval, batch_size, default_bucket and receipt_keys.'
          else 'It takes enabled, retain, loop_interval, batch_size and default_bucket.'
        end;
    end if;
    -- Of several buckets none is the default, and so a process that names several brings none.
    if coalesce(p_settings ->> v_key, '') = '' and v_key <> 'default_bucket' then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s needs a value for %s, given: %s', p_function, v_key, p_settings -> v_key),
        hint = 'Leave out what is to stay as it is.';
    end if;
    if v_key = 'receipt_keys' and p_settings ->> v_key not in ('plain', 'hashed') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('%s takes plain or hashed as receipt_keys, given: %s', p_function, left(p_settings ->> v_key, 100));
    end if;
  end loop;
end
$$;

-- Sets what a person wants, and what no variable undoes: enabled, retain, loop_interval, batch_size, default_bucket and
-- receipt_keys (plain, or hashed: receipts that are sealed from then on keep salted digests of keys).
-- p_settings: an object with any of them. A key that is absent changes nothing. retain is the default
-- policy, and is guarded as in set_policy. default_bucket is taken where there is none yet: rows without a bucket mean
-- another object with another default, so only set_default_bucket changes one. Returns one line for each change: "batch_size: 1000
-- -> 500". A process that starts later with the same variable as before changes none of it: see apply_variables.
-- For operators.
-- Locks the row of retention.setting, and the default policy where that changes.
-- Raises invalid_parameter_value for an unknown setting, and for a key without a value. Raises check_violation for a
-- value out of range.
create or replace function retention.configure(p_settings jsonb)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_old jsonb;
  v_new jsonb;
  v_retain interval;
  v_due bigint;
begin
  perform retention._check_settings('configure', p_settings);
  -- In this order everywhere: the setting, the policy, the variable.
  select to_jsonb(s) into v_old from retention.setting s for update;
  if p_settings ? 'retain' then
    select retain into v_retain from retention.policy where tenant_id = '*' for update;
    if v_retain <> retention._in_days((p_settings ->> 'retain')::interval) then
      v_due := retention.set_policy('*', (p_settings ->> 'retain')::interval);
      if exists (select from retention.policy where tenant_id = '*' and pending_retain is not null) then
        return next format(
          'default policy: stays %s, because %s would make %s due at once; confirm it with retention policy confirm',
          v_retain, p_settings ->> 'retain', retention._counted(v_due, 'result')
        );
      else
        return next format(
          'default policy: %s -> %s, which makes %s due at once', v_retain, p_settings ->> 'retain',
          retention._counted(v_due, 'result')
        );
      end if;
    end if;
  end if;
  if p_settings ->> 'default_bucket' <> v_old ->> 'default_bucket' then
    return next format(
      'default_bucket: stays %s, and %s is not taken; to change it: select retention.set_default_bucket(%L);',
      v_old ->> 'default_bucket', p_settings ->> 'default_bucket', p_settings ->> 'default_bucket'
    );
  end if;
  update retention.setting s
  set enabled = coalesce((p_settings ->> 'enabled')::boolean, s.enabled),
    loop_interval = coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval),
    batch_size = coalesce((p_settings ->> 'batch_size')::integer, s.batch_size),
    default_bucket = coalesce(s.default_bucket, nullif(p_settings ->> 'default_bucket', '')),
    receipt_keys = coalesce(p_settings ->> 'receipt_keys', s.receipt_keys)
  where s.enabled is distinct from coalesce((p_settings ->> 'enabled')::boolean, s.enabled)
    or s.loop_interval is distinct from coalesce((p_settings ->> 'loop_interval')::interval, s.loop_interval)
    or s.batch_size is distinct from coalesce((p_settings ->> 'batch_size')::integer, s.batch_size)
    or s.default_bucket is null and nullif(p_settings ->> 'default_bucket', '') is not null
    or s.receipt_keys is distinct from coalesce(p_settings ->> 'receipt_keys', s.receipt_keys)
  returning to_jsonb(s) into v_new;
  -- Also where it was so already: the person wants it so.
  perform retention._note_person(k.name)
  from jsonb_object_keys(p_settings) as k (name)
  where p_settings ->> k.name <> ''
    and k.name <> 'receipt_keys';
  perform retention._note_gate();
  return query
  select format('%s: %s -> %s', n.key, coalesce(v_old ->> n.key, 'none'), coalesce(n.value, 'none'))
  from jsonb_each_text(v_new) n
  where n.value is distinct from v_old ->> n.key;
end
$$;

-- Sets the bucket of results whose row names none; null: they have none, are no work, and protect no object. With
-- another one such rows mean other objects. Returns the one before.
-- For operators.
-- Locks the row of retention.setting.
-- Raises invalid_parameter_value for what is no name of a bucket.
create or replace function retention.set_default_bucket(p_bucket text)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text;
begin
  if p_bucket !~ '^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('a bucket has a name of 3 to 255 letters, digits, dots, hyphens or underscores, given: %s', p_bucket);
  end if;
  select s.default_bucket into strict v_before from retention.setting s for update;
  update retention.setting set default_bucket = p_bucket;
  perform retention._note_person('default_bucket');
  if p_bucket is distinct from v_before then
    -- What lies behind the progress means other objects now.
    delete from retention.progress;
  end if;
  return v_before;
end
$$;
