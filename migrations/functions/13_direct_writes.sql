/*
What is written directly, and not by a function: a plain statement of the owner of the schema passes no guard that the
functions have. Policies, settings, holds and buckets have theirs in 11_policy and 13_guards.
*/

-- Before a keeper is taken away, or names other objects: that needs two people. What it is asked is always made from
-- what it names.
create or replace function retention._guard_keeper()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE'
    or (new.table_name, new.table_oid, new.key_column, new.bucket_column, new.until_column)
      is distinct from (old.table_name, old.table_oid, old.key_column, old.bucket_column, old.until_column)
  then
    perform retention._two_people('keeper', jsonb_build_object('keeper_id', old.keeper_id, 'table', old.table_name));
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  new.question := retention._keeper_question(new);
  return new;
end
$$;

create or replace trigger guard_keeper
before delete or update of table_name, table_oid, key_column, bucket_column, until_column, question on retention.keeper
for each row
execute function retention._guard_keeper();

-- After objects were taken away from holds: of a hold that is in force, that needs two people.
create or replace function retention._guard_held_object()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_holds jsonb;
begin
  if not (select s.four_eyes from retention.setting s) then
    return null;
  end if;
  select jsonb_agg(h.hold_id order by h.hold_id)
  into v_holds
  from retention.hold h
  where retention._hold_end(h.released_at, h.expires_at) > clock_timestamp()
    and h.hold_id in (select g.hold_id from gone g);
  if v_holds is not null then
    perform retention._two_people('hold', jsonb_build_object('objects_of', v_holds));
  end if;
  return null;
end
$$;

create or replace trigger guard_held_object
after delete on retention.held_object
referencing old table as gone
for each statement
execute function retention._guard_held_object();

create or replace trigger guard_changed_held_object
after update on retention.held_object
referencing old table as gone
for each statement
execute function retention._guard_held_object();

-- Before a surge is written: it is closed when nothing of it is set aside. Else what is would be in no list.
create or replace function retention._guard_surge()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.closed_at is not null
    and old.closed_at is null
    and exists (select from retention.surge_part p where p.surge_id = new.surge_id)
  then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'surge %s has %s set aside, and closes by itself when there are none',
        new.surge_id, retention._counted(retention._count_set_aside(new.surge_id, null), 'result that is', 'results that are')
      ),
      hint = format('Release them with: retention surge release %s --expect <number>', new.surge_id);
  end if;
  return new;
end
$$;

create or replace trigger guard_surge
before update of closed_at on retention.surge
for each row
execute function retention._guard_surge();

-- Before a release is written down: by the session's user, and of no more results than have left the surge.
create or replace function retention._guard_surge_release()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_left bigint := (
    select s.found - retention._count_set_aside(s.surge_id, null)
      - (select coalesce(sum(r.results), 0) from retention.surge_release r where r.surge_id = s.surge_id)
    from retention.surge s
    where s.surge_id = new.surge_id
  );
begin
  if new.results > v_left then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'expected a release of at most %s results, which have left surge %s, given: %s', v_left, new.surge_id, new.results
      ),
      hint = 'retention.release_surge releases, and writes this down.';
  end if;
  new.released_by := session_user;
  return new;
end
$$;

create or replace trigger guard_surge_release
before insert on retention.surge_release
for each row
execute function retention._guard_surge_release();

-- Before a request is written: who approves is the session's user, after it was asked for, and what was asked stays as
-- it was. One that is asked for in another's name serves no other person.
create or replace function retention._guard_approval()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    new.asked_at := clock_timestamp();
    new.approved_by := null;
    new.approved_at := null;
    new.used_at := null;
    new.used_in := null;
    return new;
  end if;
  if (new.kind, new.what, new.results, new.asked_by) is distinct from (old.kind, old.what, old.results, old.asked_by)
    or new.asked_at > old.asked_at
    or new.approved_by is distinct from old.approved_by and (old.approved_by is not null or new.approved_by <> session_user)
    or old.used_at is not null and (new.used_at is null or new.used_in is distinct from old.used_in)
    or old.withdrawn_at is not null and new.withdrawn_at is null
  then
    raise exception using
      errcode = 'check_violation',
      message = format('request %s is approved by the session of another person, and stays as it was asked for', old.approval_id),
      hint = format('Approve it with: retention approval approve %s', old.approval_id);
  end if;
  return new;
end
$$;

create or replace trigger guard_approval
before insert or update on retention.approval
for each row
execute function retention._guard_approval();
