/*
Guards: the settings that stop a slip, and what makes them or a hold weaker. With four eyes, that needs two people,
however it is written.
*/

-- Before an update of retention.setting: what weakens a guard needs two people. Also notes who halts.
create or replace function retention._guard_setting()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
declare
  v_weaker jsonb;
begin
  if tg_op = 'DELETE' then
    perform retention._two_people('setting', '{"deleted": true}');
    return old;
  end if;
  if new.halted_at is distinct from old.halted_at then
    new.halted_session := case when new.halted_at is not null then session_user end;
  end if;
  select coalesce(jsonb_object_agg(w.name, w.value), '{}')
  into v_weaker
  from (
    values ('four_eyes', old.four_eyes and not new.four_eyes, to_jsonb(new.four_eyes)),
      ('policy_guard', new.policy_guard > old.policy_guard, to_jsonb(new.policy_guard)),
      (
        'surge_guard',
        old.surge_guard is not null and coalesce(new.surge_guard > old.surge_guard, true),
        to_jsonb(new.surge_guard)
      ),
      ('surge_guard_all', new.surge_guard_all > old.surge_guard_all, to_jsonb(new.surge_guard_all)),
      (
        'cool_off',
        coalesce(new.cool_off, '0') < coalesce(old.cool_off, '0'),
        to_jsonb(retention._in_days(new.cool_off)::text)
      ),
      (
        'release_spread',
        new.release_spread < old.release_spread,
        to_jsonb(retention._in_days(new.release_spread)::text)
      ),
      (
        'unanswered_for',
        new.unanswered_for < old.unanswered_for,
        to_jsonb(retention._in_days(new.unanswered_for)::text)
      ),
      ('receipts_kept', new.receipts_kept < old.receipts_kept, to_jsonb(retention._in_days(new.receipts_kept)::text)),
      ('receipt_keys', old.receipt_keys = 'plain' and new.receipt_keys <> 'plain', to_jsonb(new.receipt_keys)),
      ('check_shared_objects', old.check_shared_objects and not new.check_shared_objects, 'false'),
      -- Rows that name no bucket mean other objects then.
      (
        'default_bucket',
        old.default_bucket is not null and new.default_bucket is distinct from old.default_bucket,
        to_jsonb(new.default_bucket)
      )
  ) as w (name, is_weaker, value)
  where w.is_weaker;
  if v_weaker <> '{}' then
    perform retention._two_people('setting', v_weaker);
  end if;
  return new;
end
$$;

create or replace trigger guard_setting
before update or delete on retention.setting
for each row
execute function retention._guard_setting();

-- Before an update or deletion of a hold: its end, or an earlier one, needs two people. Also notes whose session
-- releases it.
create or replace function retention._guard_hold()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_what jsonb := jsonb_build_object('hold_ids', jsonb_build_array(old.hold_id));
begin
  if tg_op = 'UPDATE' then
    if new.released_at is distinct from old.released_at then
      new.released_session := case when new.released_at is not null then session_user end;
    end if;
    if new.run_id is not distinct from old.run_id
      and new.tenant_id is not distinct from old.tenant_id
      and (old.key is null or (new.bucket, new.key) is not distinct from (old.bucket, old.key))
      and (
        retention._hold_end(new.released_at, new.expires_at) >= retention._hold_end(old.released_at, old.expires_at)
        or retention._hold_end(old.released_at, old.expires_at) <= clock_timestamp()
      )
    then
      return new;
    end if;
    if new.released_at is null then
      v_what := v_what || jsonb_build_object('expires_at', retention._iso(new.expires_at));
    end if;
  elsif retention._hold_end(old.released_at, old.expires_at) <= clock_timestamp() then
    return old;
  end if;
  -- Of several holds that are released together, all were asked for at once.
  if not exists (
    select
    from retention.approval a
    where a.kind = 'hold'
      and a.asked_by = session_user
      and a.used_in = pg_current_xact_id_if_assigned()
      and (a.what -> 'hold_ids') @> (v_what -> 'hold_ids')
      and (a.what - 'hold_ids') = (v_what - 'hold_ids')
  ) then
    perform retention._two_people('hold', v_what);
  end if;
  return case tg_op when 'UPDATE' then new else old end;
end
$$;

create or replace trigger guard_hold
before update or delete on retention.hold
for each row
execute function retention._guard_hold();

-- Before all holds are taken away at once.
create or replace function retention._guard_holds()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from retention.hold) then
    perform retention._two_people('hold', '{"truncate": true}');
  end if;
  return null;
end
$$;

create or replace trigger guard_holds
before truncate on retention.hold
for each statement
execute function retention._guard_holds();

-- Before a bucket is to be purged of every version.
create or replace function retention._guard_purge()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._two_people('purge', jsonb_build_object('bucket', new.bucket, 'on_versioned', 'purge'));
  return new;
end
$$;

create or replace trigger guard_purge
before update of on_versioned on retention.bucket
for each row
when (new.on_versioned = 'purge' and old.on_versioned is distinct from new.on_versioned)
execute function retention._guard_purge();

create or replace trigger guard_new_purge
before insert on retention.bucket
for each row
when (new.on_versioned = 'purge')
execute function retention._guard_purge();

-- Says what a deletion does in a versioned bucket: marker adds a delete marker, purge takes every version. p_new: the
-- bucket need not be known yet. With four eyes, purge needs two people. Returns what it was before.
-- For operators.
-- Locks the bucket's row.
-- Raises invalid_parameter_value for another word, no_data_found for a bucket that is not known, and RR004 where another
-- person must approve it.
create or replace function retention.set_on_versioned(p_bucket text, p_on_versioned text, p_new boolean default false)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before text;
begin
  if p_on_versioned is null or p_on_versioned not in ('marker', 'purge') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected marker or purge, given: %s', coalesce(left(p_on_versioned, 100), 'null'));
  end if;
  if p_new and btrim(coalesce(p_bucket, '')) <> '' then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
  end if;
  perform retention._known_bucket(p_bucket);
  select k.on_versioned into v_before from retention.bucket k where k.bucket = p_bucket for update;
  update retention.bucket set on_versioned = p_on_versioned where bucket = p_bucket;
  return v_before;
end
$$;

-- Notes whose session sets a habit by hand, or says that missing objects are gone.
create or replace function retention._note_session()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.set_at is distinct from old.set_at then
    new.set_session := case when new.set_at is not null then session_user end;
  end if;
  if new.missing_confirmed_at is distinct from old.missing_confirmed_at then
    new.missing_confirmed_session := case when new.missing_confirmed_at is not null then session_user end;
  end if;
  return new;
end
$$;

create or replace trigger note_session
before update of set_at, missing_confirmed_at on retention.bucket
for each row
execute function retention._note_session();

-- The settings that stop a slip: each with its value as text (none: there is no guard) and what it does.
-- For observers.
create or replace function retention.list_guards()
returns table (name text, value text, meaning text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
  select g.name,
    coalesce(g.value, 'none'),
    col_description('retention.setting'::regclass, a.attnum)
  from retention.setting s
  cross join lateral (
    values (1, 'policy_guard', s.policy_guard::text),
      (2, 'surge_guard', s.surge_guard::text),
      (3, 'surge_guard_all', s.surge_guard_all::text),
      (4, 'cool_off', retention._in_days(s.cool_off)::text),
      (5, 'release_spread', retention._in_days(s.release_spread)::text),
      (6, 'four_eyes', case when s.four_eyes then 'on' else 'off' end)
  ) as g (place, name, value)
  join pg_attribute a on a.attrelid = 'retention.setting'::regclass
    and a.attname = g.name
  order by g.place
$$;

-- Sets one of the settings of list_guards. p_value: a whole number, a duration such as '36 hours', on or off; none
-- takes surge_guard or cool_off away. A cool-off counts from then on also for what is flagged and waits. With four
-- eyes, a weaker guard needs two people. Returns what it was before, as list_guards shows it.
-- For operators.
-- Locks the row of retention.setting; for a cool-off also that of retention.pass_lock.
-- Raises invalid_parameter_value for a guard that is none and for a value that it cannot have, and RR004 where another
-- person must approve it.
create or replace function retention.set_guard(p_name text, p_value text)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
declare
  v_before text := (select g.value from retention.list_guards() g where g.name = p_name);
  v_value text := lower(btrim(p_value));
  v_expected text;
begin
  if v_before is null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format(
        'expected one of %s, given: %s',
        (select string_agg(g.name, ', ') from retention.list_guards() g),
        coalesce(left(p_name, 100), 'null')
      );
  end if;
  v_expected := case
    when p_name = 'four_eyes' then 'on or off'
    when p_name = 'cool_off' then 'a duration from 0 seconds to 10 years, such as ''36 hours'', or none'
    when p_name = 'release_spread' then 'a duration from 0 seconds to 10 years, such as ''2 hours'''
    when p_name = 'surge_guard' then 'a whole number from 0 to 2000000000, or none'
    else 'a whole number from 0 to 2000000000'
  end;
  begin
    if p_name = 'four_eyes' then
      if v_value not in ('on', 'off', 'true', 'false') then
        raise data_exception;
      end if;
    elsif p_name in ('cool_off', 'release_spread') then
      if v_value = 'none' and p_name = 'cool_off' then
        v_value := null;
      elsif v_value is null
        or not retention._in_days(v_value::interval) between '0' and '3653 days'
        -- A bare number is taken for seconds, and more is meant.
        or v_value ~ '^[0-9.]+$' and v_value::numeric > 0
      then
        raise data_exception;
      end if;
    elsif v_value = 'none' and p_name = 'surge_guard' then
      v_value := null;
    elsif v_value is null or v_value !~ '^\d{1,10}$' or v_value::bigint > 2000000000 then
      raise data_exception;
    end if;
    if p_value is null then
      raise data_exception;
    end if;
  exception
    when data_exception then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('expected %s as %s, given: %s', p_name, v_expected, coalesce(left(p_value, 100), 'null'));
  end;
  execute format('update retention.setting set %I = %L', p_name, v_value);
  return v_before;
end
$$;
