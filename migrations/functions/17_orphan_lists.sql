/*
Lists of orphans: a list is made first and written down here with its digest. Exactly that list is deleted later, and
no larger one than a person has confirmed.
*/

-- Writes down a list of orphans that was just made: what was listed, how many it names, and its digest. Only a list
-- that is written down here is deleted, and only from an hour later on. Returns when it was made.
-- For operators.
-- Raises check_violation for a margin of less than an hour, and for more orphans than listed objects. Raises
-- invalid_parameter_value for a digest that is none.
create or replace function retention.note_orphan_list(
  p_list_id uuid,
  p_bucket text,
  p_prefix text,
  p_margin interval,
  p_listed bigint,
  p_orphans bigint,
  p_bytes bigint,
  p_digest text
)
returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_made_at timestamptz;
begin
  if p_digest is null or p_digest !~ '^[0-9a-f]{64}$' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected a SHA-256 digest in hexadecimal, given: %s', coalesce(left(p_digest, 100), 'null'));
  end if;
  insert into retention.orphan_list (list_id, bucket, prefix, margin, listed, orphans, bytes, digest)
  values (p_list_id, p_bucket, coalesce(p_prefix, ''), p_margin, p_listed, p_orphans, p_bytes, p_digest)
  returning made_at into v_made_at;
  return v_made_at;
end
$$;

-- Raises RR040: orphans are not deleted, because it was not confirmed or because something else speaks against it.
create or replace function retention._refuse_orphans(p_because text, p_hint text)
returns void
language plpgsql
as $$
begin
  raise exception using
    errcode = 'RR040',
    message = 'no orphan was deleted: ' || p_because,
    hint = p_hint;
end
$$;

-- Raises RR040 while the gate is closed.
create or replace function retention._refuse_orphans_while_closed()
returns void
language plpgsql
as $$
declare
  v_gate record;
begin
  select g.because, g.remedy into v_gate from retention.gate() g limit 1;
  if found then
    perform retention._refuse_orphans(v_gate.because, v_gate.remedy);
  end if;
end
$$;

-- Raises RR040 for a list that may not be deleted as it is: too young, of a bucket that no row names, or too large a
-- share without its very number. The other lists of the bucket that were begun or worked on within a day count, so that
-- many small lists are no way past the bound. The caller has locked the bucket.
create or replace function retention._check_orphan_list(p_list retention.orphan_list, p_expected bigint)
returns void
language plpgsql
stable
as $$
declare
  v_recent bigint;
  v_why text;
begin
  if p_list.made_at > clock_timestamp() - interval '1 hour' then
    perform retention._refuse_orphans(
      format('the list was made at %s, and a list is at least an hour old', retention._iso(p_list.made_at)),
      format('Ask again from %s on.', retention._iso(p_list.made_at + interval '1 hour'))
    );
  end if;
  if not exists (
    select
    from retention.result r
    where retention._bucket(r.bucket, (select s.default_bucket from retention.setting s)) = p_list.bucket
  ) then
    perform retention._refuse_orphans(
      format('no row of this database names bucket %s, so nothing says which of its objects belong to runs', p_list.bucket),
      'Check DATABASE_URL, RETENTION_TABLE and the bucket. Delete what really belongs to no run with the tools of the store.'
    );
  end if;
  if p_expected <> p_list.orphans then
    perform retention._refuse_orphans(
      format('%s objects were expected, and the list names %s', p_expected, p_list.orphans),
      'Look at the list again before you say its number.'
    );
  end if;
  select coalesce(sum(case when o.begun_at > now() - interval '1 day' then o.orphans else o.deleted end), 0)
  into v_recent
  from retention.orphan_list o
  where o.bucket = p_list.bucket
    and greatest(o.begun_at, o.worked_at) > now() - interval '1 day'
    and o.list_id <> p_list.list_id;
  v_why := case
    when p_list.orphans > 10000 then 'more than 10000'
    when p_list.orphans + v_recent > 10000 then format('with %s of other lists within a day more than 10000', v_recent)
    when p_list.orphans * 10 > p_list.listed then format('more than a tenth of the %s that were listed', p_list.listed)
  end;
  if v_why is not null and p_expected is null then
    perform retention._refuse_orphans(
      format(
        'the list names %s objects of bucket %s%s, %s', p_list.orphans, p_list.bucket,
        coalesce(' under ' || nullif(p_list.prefix, ''), ''), v_why
      ),
      format('If all of them are to go, say exactly that number: --expect %s', p_list.orphans)
    );
  end if;
end
$$;

-- Begins the deletion of a list of orphans, or goes on with it: what was confirmed when it began is not asked again.
-- p_digest: of the list as it is now. p_expected: exactly how many objects it names; needed where that is more than
-- a tenth of what was listed, or more than 10,000 of a bucket in a day. p_by: who deletes; by default the session's user.
-- For operators.
-- Locks the row of the list, and the bucket's. Reads the application's table until a row names the bucket.
-- Raises RR040 where it is refused: the gate is closed, the list is not known here, was changed, is less than an hour
-- old, is larger than was confirmed, or no row names its bucket.
create or replace function retention.begin_orphans(
  p_list_id uuid,
  p_digest text,
  p_expected bigint default null,
  p_by text default null
)
returns table (bucket text, prefix text, orphans bigint, deleted bigint, is_resumed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_list retention.orphan_list;
begin
  perform retention._refuse_orphans_while_closed();
  select * into v_list from retention.orphan_list o where o.list_id = p_list_id for update;
  if not found then
    perform retention._refuse_orphans(
      format('this database knows no list %s', coalesce(p_list_id::text, 'null')),
      'It was made from another database, or this one was restored since. Check DATABASE_URL, or make a new list.'
    );
  end if;
  if v_list.digest is distinct from p_digest then
    perform retention._refuse_orphans(
      'the list is not as it was made',
      'Exactly the list that was made is deleted. To leave keys out, place a hold, or make a list with a narrower --prefix.'
    );
  end if;
  if v_list.begun_at is null then
    insert into retention.bucket (bucket) values (v_list.bucket) on conflict do nothing;
    perform from retention.bucket k where k.bucket = v_list.bucket for update;
    perform retention._check_orphan_list(v_list, p_expected);
    perform retention._two_people('orphans', jsonb_build_object(
      'bucket', v_list.bucket, 'prefix', v_list.prefix, 'digest', v_list.digest, 'count', v_list.orphans
    ));
    update retention.orphan_list o
    set begun_at = clock_timestamp(),
      begun_by = coalesce(p_by, session_user),
      begun_as = session_user,
      expected = p_expected
    where o.list_id = p_list_id;
  end if;
  return query
  select v_list.bucket, v_list.prefix, v_list.orphans, v_list.deleted, v_list.begun_at is not null;
end
$$;

-- The lists of orphans, newest first: when each was made and by whom, and what was deleted by it. begun_by is the name
-- that was given, and begun_as the session user who deleted. For observers.
create or replace function retention.list_orphan_lists(p_limit integer default 100)
returns table (
  list_id uuid,
  bucket text,
  prefix text,
  margin interval,
  listed bigint,
  orphans bigint,
  bytes bigint,
  digest text,
  made_at timestamptz,
  made_by text,
  begun_at timestamptz,
  begun_by text,
  begun_as text,
  expected bigint,
  worked_at timestamptz,
  deleted bigint,
  spared bigint,
  failed bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select o.list_id, o.bucket, o.prefix, o.margin, o.listed, o.orphans, o.bytes, o.digest, o.made_at, o.made_by,
    o.begun_at, o.begun_by, o.begun_as, o.expected, o.worked_at, o.deleted, o.spared, o.failed
  from retention.orphan_list o
  order by o.made_at desc, o.list_id
  limit p_limit
$$;
