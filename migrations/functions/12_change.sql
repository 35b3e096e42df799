/*
Changes: who changed what, and when. Triggers write a row of retention.change for each change of what people decide:
policies, holds, settings, keepers, buckets, surges and their releases, allowances, approvals. However it is written
(a function, a command, an update in psql, a variable), it is recorded, in the same transaction.

What the cycle itself writes into these tables is no change: see the triggers for which columns count.
*/

-- Writes down one change. The tenant, the run and the name are what history finds it by.
create or replace function retention._note_change(p_subject text, p_action text, p_before jsonb, p_after jsonb)
returns void
language sql
as $$
  insert into retention.change (subject, action, tenant_id, run_id, name, before, after, role_name, application)
  select p_subject,
    p_action,
    -- A request says what it likes, and an index takes no text of any length.
    left(
      case p_subject
        when 'allowance' then case when r.it ->> 'tenant_key' like '=%' then substr(r.it ->> 'tenant_key', 2) end
        when 'approval' then r.it -> 'what' ->> 'tenant_id'
        else r.it ->> 'tenant_id'
      end,
      1024
    ),
    r.it ->> 'run_id',
    case p_subject
      when 'policy' then left(r.it ->> 'tenant_id', 1024)
      when 'hold' then r.it ->> 'hold_id'
      when 'keeper' then r.it ->> 'table_name'
      when 'bucket' then r.it ->> 'bucket'
      when 'surge' then r.it ->> 'surge_id'
      when 'surge_release' then r.it ->> 'surge_id'
      when 'allowance' then r.it ->> 'allowance_id'
      when 'approval' then r.it ->> 'approval_id'
      when 'setting' then (
        select string_agg(a.key, ', ' order by a.key)
        from jsonb_each(p_after) a
        where p_before is not null
          and a.value is distinct from p_before -> a.key
      )
    end,
    p_before,
    p_after,
    nullif(current_setting('role'), 'none'),
    nullif(current_setting('application_name'), '')
  from (select coalesce(p_after, p_before) as it) r
$$;

-- After a row of one of these tables was written. A row that goes over to another tenant or run is a deletion for the
-- one and an insertion for the other: the history of each shows it.
create or replace function retention._record_change()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
as $$
declare
  v_before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  if tg_op = 'UPDATE'
    and tg_table_name in ('policy', 'hold')
    and (v_before ->> 'tenant_id', v_before ->> 'run_id') is distinct from (v_after ->> 'tenant_id', v_after ->> 'run_id')
  then
    perform retention._note_change(tg_table_name, 'delete', v_before, null);
    perform retention._note_change(tg_table_name, 'insert', null, v_after);
  else
    perform retention._note_change(tg_table_name, lower(tg_op), v_before, v_after);
  end if;
  return null;
end
$$;

-- Before all rows of one of these tables are taken away at once: each is recorded as deleted.
create or replace function retention._record_truncate()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
as $$
begin
  execute format(
    'select retention._note_change(%L, ''delete'', to_jsonb(t), null) from %s t', tg_table_name, tg_relid::regclass
  );
  return null;
end
$$;

create or replace trigger record_change
after insert or delete on retention.policy
for each row
execute function retention._record_change();

create or replace trigger record_update
after update on retention.policy
for each row
when (old.* is distinct from new.*)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.policy
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.hold
for each row
execute function retention._record_change();

-- The hourly look at what held runs name counts objects, and notes the first object of a run that had none.
create or replace trigger record_update
after update on retention.hold
for each row
when (
  to_jsonb(old) - '{bucket, key, objects}'::text[] is distinct from to_jsonb(new) - '{bucket, key, objects}'::text[]
  or old.key is not null and (old.bucket, old.key) is distinct from (new.bucket, new.key)
)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.hold
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.setting
for each row
execute function retention._record_change();

create or replace trigger record_update
after update on retention.setting
for each row
when (old.* is distinct from new.*)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.setting
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.keeper
for each row
execute function retention._record_change();

-- How its table is asked is made again by the tick where the table has changed.
create or replace trigger record_update
after update on retention.keeper
for each row
when (to_jsonb(old) - '{question, seen}'::text[] is distinct from to_jsonb(new) - '{question, seen}'::text[])
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.keeper
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.bucket
for each row
execute function retention._record_change();

-- What a person sets or says of a bucket, and that a person has what was learned of it forgotten. Pauses, refusals,
-- what is learned and what was looked for are the cycle's, which writes them by the second.
create or replace trigger record_update
after update on retention.bucket
for each row
when (
  (
    old.bucket, old.on_versioned, old.keys_per_request, old.deletes, old.checksum, old.addressing, old.conditional,
    old.max_per_second, old.max_in_flight,
    old.set_at, old.set_by, old.set_session, old.missing_confirmed_at, old.missing_confirmed_by, old.missing_confirmed_session
  ) is distinct from (
    new.bucket, new.on_versioned, new.keys_per_request, new.deletes, new.checksum, new.addressing, new.conditional,
    new.max_per_second, new.max_in_flight,
    new.set_at, new.set_by, new.set_session, new.missing_confirmed_at, new.missing_confirmed_by, new.missing_confirmed_session
  )
  or new.learned = '{}' and old.learned <> '{}'
  or new.looked_in is null and old.looked_in is not null
)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.bucket
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.surge
for each row
execute function retention._record_change();

create or replace trigger record_update
after update on retention.surge
for each row
when (old.* is distinct from new.*)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.surge
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.surge_release
for each row
execute function retention._record_change();

create or replace trigger record_update
after update on retention.surge_release
for each row
when (old.* is distinct from new.*)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.surge_release
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert on retention.allowance
for each row
execute function retention._record_change();

-- Walks use allowances up, drop them, and forget those that were dropped.
create or replace trigger record_deletion
after delete on retention.allowance
for each row
when (old.dropped_at is null)
execute function retention._record_change();

create or replace trigger record_update
after update on retention.allowance
for each row
when (
  to_jsonb(old) - '{results, walk_at, dropped_at}'::text[] is distinct from to_jsonb(new) - '{results, walk_at, dropped_at}'::text[]
  or new.results > old.results
  or new.dropped_at is null and old.dropped_at is not null
)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.allowance
for each statement
execute function retention._record_truncate();

create or replace trigger record_change
after insert or delete on retention.approval
for each row
execute function retention._record_change();

create or replace trigger record_update
after update on retention.approval
for each row
when (old.* is distinct from new.*)
execute function retention._record_change();

create or replace trigger record_truncate
before truncate on retention.approval
for each statement
execute function retention._record_truncate();

-- What was there when recording began: the default policy and the settings of a new schema.
do $$
declare
  v_table text;
begin
  perform set_config('timezone', 'UTC', true), set_config('intervalstyle', 'postgres', true);
  foreach v_table in array '{policy, hold, setting, keeper, bucket, surge, surge_release, allowance, approval}'::text[] loop
    if not exists (select from retention.change c where c.subject = v_table) then
      execute format('select retention._note_change(%1$L, ''insert'', null, to_jsonb(t)) from retention.%1$I t', v_table);
    end if;
  end loop;
end
$$;
