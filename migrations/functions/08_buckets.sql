/*
What the store of a bucket can do, as far as it differs from what S3 does (its habits). A person sets a habit, or
the listener learns it from refusals and timeouts. What a person has set wins and stays. What was learned is
forgotten after a day, and so tried again.

    keys_per_request  the most keys of one request that the store takes
    keys_in_time      the most keys of one request that it deletes before the request times out; only learned
    deletes           together: by DeleteObjects; singly: one request for each key
    checksum          crc32, md5 or none: what a DeleteObjects request carries
    addressing        path: host/bucket/key; virtual: bucket.host/key
    conditional       whether a request may name the version that is to go: honoured, ignored, or refused, which is only
                      learned: then nothing is deleted there. By hand ignored says that any version may go
*/

-- The habits in force for a bucket, by name: {"value", "by": "hand" or "learned", "since", "because"}.
create or replace function retention._habits_of(p_bucket retention.bucket)
returns jsonb
language sql
stable
as $$
  select coalesce(jsonb_object_agg(h.name, h.habit), '{}')
  from (
    select l.key as name,
      jsonb_build_object(
        'value', l.value -> 'value', 'by', 'learned', 'since', l.value -> 'at', 'because', l.value -> 'because'
      ) as habit
    from jsonb_each(p_bucket.learned) l
    where (l.value ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'
      and not (
        l.key in ('keys_per_request', 'keys_in_time') and p_bucket.keys_per_request is not null
        or l.key = 'deletes' and p_bucket.deletes is not null
        or l.key = 'checksum' and p_bucket.checksum is not null
        or l.key = 'addressing' and p_bucket.addressing is not null
        or l.key = 'conditional' and p_bucket.conditional is not null
      )
    union all
    select s.name,
      jsonb_build_object(
        'value', s.value, 'by', 'hand', 'since', p_bucket.set_at, 'because', 'set by ' || p_bucket.set_by
      )
    from (
      values ('keys_per_request', to_jsonb(p_bucket.keys_per_request)),
        ('deletes', to_jsonb(p_bucket.deletes)),
        ('checksum', to_jsonb(p_bucket.checksum)),
        ('addressing', to_jsonb(p_bucket.addressing)),
        ('conditional', to_jsonb(p_bucket.conditional))
    ) as s (name, value)
    where s.value is not null
  ) h
$$;

-- The same as the object store takes them: {"keys_per_request": 100, ...}. Null: as S3 does it.
create or replace function retention._habits(p_bucket retention.bucket)
returns jsonb
language plpgsql
stable
as $$
begin
  -- Most buckets have none, and this is asked at every claim.
  if p_bucket.learned = '{}'
    and num_nonnulls(
      p_bucket.keys_per_request, p_bucket.deletes, p_bucket.checksum, p_bucket.addressing, p_bucket.conditional
    ) = 0
  then
    return null;
  end if;
  return (
    select jsonb_object_agg(h.key, h.value -> 'value')
    from jsonb_each(retention._habits_of(p_bucket)) h
  );
end
$$;

-- How many results of a bucket one claim takes; null: as many as a batch has.
create or replace function retention._max_keys(p_habits jsonb)
returns integer
language sql
immutable
as $$
  select least((p_habits ->> 'keys_per_request')::integer, (p_habits ->> 'keys_in_time')::integer)
$$;

-- Cuts a batch that is not leased, or whose lease has run out, into batches of p_most results. It keeps the first;
-- the others take its place in the queue. The caller has locked it.
create or replace function retention._cut(p_batch_id bigint, p_most integer)
returns void
language plpgsql
as $$
declare
  v_batch retention.batch;
begin
  select * into strict v_batch from retention.batch b where b.batch_id = p_batch_id;
  -- All at once: taken off one by one, the rest would be written again at every claim.
  insert into retention.batch (
    bucket, results, oldest, newest, due_since, late_since, early, flagged_at, visible_at, leased_at, attempts, postponed,
    stuck_since, code, error, failed_at, why, asked_by, request_ids, run_ids, keys, tenants
  )
  select v_batch.bucket, least(p_most, v_batch.results - n), v_batch.oldest, v_batch.newest, v_batch.due_since,
    v_batch.late_since,
    v_batch.early, v_batch.flagged_at, v_batch.visible_at, v_batch.leased_at, v_batch.attempts, v_batch.postponed,
    v_batch.stuck_since, v_batch.code, v_batch.error, v_batch.failed_at, v_batch.why, v_batch.asked_by, v_batch.request_ids,
    v_batch.run_ids[n + 1:n + p_most], v_batch.keys[n + 1:n + p_most], v_batch.tenants[n + 1:n + p_most]
  from generate_series(p_most, v_batch.results - 1, p_most) n;
  update retention.batch b
  set results = p_most,
    run_ids = v_batch.run_ids[:p_most],
    keys = v_batch.keys[:p_most],
    tenants = v_batch.tenants[:p_most],
    -- The next claim reads them again.
    etags = null
  where b.batch_id = p_batch_id;
end
$$;

-- Raises invalid_parameter_value unless p_habits is an object of habits with values that they can have, or null
-- values. p_names: the habits that are allowed.
create or replace function retention._check_habits(p_habits jsonb, p_names text[])
returns void
language plpgsql
immutable
as $$
declare
  v_habit record;
begin
  if jsonb_typeof(p_habits) is distinct from 'object' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected habits as a JSON object, given: %s', coalesce(left(p_habits::text, 100), 'null')),
      hint = 'For example {"keys_per_request": 100}.';
  end if;
  for v_habit in
    select h.key as name, h.value, h.value #>> '{}' as text from jsonb_each(p_habits) h
  loop
    if v_habit.name <> all (p_names) then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('expected one of %s, given: %s', array_to_string(p_names, ', '), left(v_habit.name, 100));
    end if;
    continue when jsonb_typeof(v_habit.value) = 'null';
    if (
      case v_habit.name
        when 'deletes' then v_habit.text in ('together', 'singly')
        when 'checksum' then v_habit.text in ('crc32', 'md5', 'none')
        when 'addressing' then v_habit.text in ('path', 'virtual')
        when 'conditional' then v_habit.text in ('honoured', 'ignored') or v_habit.text = 'refused' and 'keys_in_time' = any (p_names)
        else jsonb_typeof(v_habit.value) = 'number' and v_habit.text ~ '^(1000|[1-9]\d{0,2})$'
      end
    ) is not true then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format(
          'expected %s as %s, given: %s',
          v_habit.name,
          case v_habit.name
            when 'deletes' then 'together or singly'
            when 'checksum' then 'crc32, md5 or none'
            when 'addressing' then 'path or virtual'
            when 'conditional' then 'honoured or ignored'
            else 'a whole number from 1 to 1000'
          end,
          left(v_habit.text, 100)
        );
    end if;
  end loop;
end
$$;

-- Remembers for a day what an attempt showed of the store of a bucket. p_learned: habits by name, as in
-- {"keys_per_request": 62, "checksum": "md5"}; a null value forgets one. p_because: what showed it. Of two limits
-- of keys that were refused the lower one stays. Unknown buckets are passed by. What a person has set stays in
-- force.
-- For the listener.
-- Locks the bucket's row.
-- Raises invalid_parameter_value for what is no habit.
create or replace function retention.learn_habits(p_bucket text, p_learned jsonb, p_because text default null)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_bucket retention.bucket;
begin
  perform retention._check_habits(
    p_learned, '{keys_per_request, keys_in_time, deletes, checksum, addressing, conditional}'
  );
  select * into v_bucket from retention.bucket k where k.bucket = p_bucket for update;
  update retention.bucket k
  set learned = (
      select coalesce(jsonb_object_agg(l.key, l.value), '{}')
      from jsonb_each(v_bucket.learned) l
      where not p_learned ? l.key
        and (l.value ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'
    ) || (
      select coalesce(
        jsonb_object_agg(
          l.key,
          jsonb_build_object('value', l.value, 'at', clock_timestamp(), 'because', left(p_because, 500))
        ),
        '{}'
      )
      from (
        select j.key,
          case
            when j.key = 'keys_per_request'
              and (v_bucket.learned -> j.key ->> 'at')::timestamptz > clock_timestamp() - interval '1 day'
            then least(j.value, v_bucket.learned -> j.key -> 'value')
            else j.value
          end as value
        from jsonb_each(p_learned) j
        where jsonb_typeof(j.value) <> 'null'
      ) l
    )
  where k.bucket = p_bucket;
end
$$;

-- Sets habits of the store of a bucket by hand: they win over what is learned and are not forgotten. p_habits:
-- {"keys_per_request": 100, "deletes": "singly", "checksum": "md5", "addressing": "virtual", "conditional": "ignored"},
-- any of them; a null value leaves a habit to be learned again. p_by: who sets it; by default the session's user. p_new: the bucket
-- need not be known yet.
-- For operators.
-- Locks the bucket's row.
-- Raises invalid_parameter_value for what is no habit, and no_data_found for a bucket that is not known.
create or replace function retention.set_habits(
  p_bucket text,
  p_habits jsonb,
  p_by text default null,
  p_new boolean default false
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._check_habits(p_habits, '{keys_per_request, deletes, checksum, addressing, conditional}');
  if p_new and btrim(coalesce(p_bucket, '')) <> '' then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
  end if;
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set keys_per_request = case
      when p_habits ? 'keys_per_request' then (p_habits ->> 'keys_per_request')::integer
      else k.keys_per_request
    end,
    deletes = case when p_habits ? 'deletes' then p_habits ->> 'deletes' else k.deletes end,
    checksum = case when p_habits ? 'checksum' then p_habits ->> 'checksum' else k.checksum end,
    addressing = case when p_habits ? 'addressing' then p_habits ->> 'addressing' else k.addressing end,
    conditional = case when p_habits ? 'conditional' then p_habits ->> 'conditional' else k.conditional end,
    set_at = clock_timestamp(),
    set_by = coalesce(p_by, session_user)
  where k.bucket = p_bucket;
end
$$;

-- Forgets what was learned of the store of a bucket and where its keys were looked for, so that both are found out
-- again. p_by_hand: also what a person has set.
-- For operators.
-- Locks the bucket's row.
-- Raises no_data_found for a bucket that is not known.
create or replace function retention.forget_habits(p_bucket text, p_by_hand boolean default false)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set learned = '{}',
    looked_in = null,
    looked_at = null,
    looked = 0,
    missing = 0,
    missing_keys = '{}',
    keys_per_request = case when p_by_hand then null else k.keys_per_request end,
    deletes = case when p_by_hand then null else k.deletes end,
    checksum = case when p_by_hand then null else k.checksum end,
    addressing = case when p_by_hand then null else k.addressing end,
    conditional = case when p_by_hand then null else k.conditional end
  where k.bucket = p_bucket;
  perform retention._note_gate();
end
$$;

-- Raises no_data_found for a bucket that is not known, with those that are.
create or replace function retention._known_bucket(p_bucket text)
returns void
language plpgsql
stable
as $$
begin
  if exists (select from retention.bucket k where k.bucket = p_bucket) then
    return;
  end if;
  raise exception using
    errcode = 'no_data_found',
    message = format('expected a bucket that is known, given: %s', coalesce(left(p_bucket, 100), 'null')),
    hint = coalesce(
      (
        select format('Known: %s.', string_agg(k.bucket, ', ' order by k.bucket))
        from (select b.bucket from retention.bucket b order by b.bucket limit 20) k
      ),
      'None is known yet: a bucket is known once a result in it was flagged.'
    );
end
$$;

-- Whether most of the keys of a bucket that were looked for have no object, and no person has confirmed it. A
-- few keys may be gone for other reasons; one that is written as a URL or a path never had an object. As the index
-- bucket_lacks_objects has it.
create or replace function retention._lacks_objects(p_bucket retention.bucket)
returns boolean
language sql
immutable
as $$
  select p_bucket.missing * 2 > p_bucket.looked
    and p_bucket.missing_confirmed_at is null
    and (p_bucket.looked >= 5 or p_bucket.missing_keys[1] ~ '^(/|[a-z0-9]+://)')
$$;

-- Notes how many keys of a bucket were looked for, and which of them had no object, before anything is deleted in
-- p_store (how the store is called). A look in another store begins again. Returns whether deleting may go on: with
-- most objects missing it may not, and the gate closes (objects missing). p_again: forget earlier looks.
-- For the listener.
-- Locks the bucket's row.
create or replace function retention.note_look(
  p_bucket text,
  p_store text,
  p_looked integer,
  p_missing text[],
  p_again boolean default false
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_bucket retention.bucket;
  v_again boolean;
begin
  select * into v_bucket from retention.bucket k where k.bucket = p_bucket for update;
  if not found then
    return true;
  end if;
  v_again := p_again or v_bucket.looked_in is distinct from p_store;
  update retention.bucket k
  set looked_in = p_store,
    looked_at = clock_timestamp(),
    looked = p_looked + case when v_again then 0 else k.looked end,
    missing = cardinality(p_missing) + case when v_again then 0 else k.missing end,
    missing_keys = (p_missing || case when v_again then '{}' else k.missing_keys end)[:3],
    missing_confirmed_at = case
      when k.looked_in is not distinct from p_store then k.missing_confirmed_at
    end,
    missing_confirmed_by = case
      when k.looked_in is not distinct from p_store then k.missing_confirmed_by
    end
  where k.bucket = p_bucket
  returning * into v_bucket;
  perform retention._note_gate();
  return not retention._lacks_objects(v_bucket);
end
$$;

-- Says that the objects of a bucket that were looked for and not found are really gone, which opens the gate again
-- where it was closed for that (objects missing). p_by: who says it; by default the session's user.
-- For operators.
-- Locks the bucket's row.
-- Raises no_data_found for a bucket that is not known.
create or replace function retention.confirm_missing(p_bucket text, p_by text default null)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set missing_confirmed_at = clock_timestamp(),
    missing_confirmed_by = coalesce(p_by, session_user)
  where k.bucket = p_bucket;
  perform retention._note_gate();
end
$$;

-- What is known of each bucket, those with work first; p_bucket: of this one only. pause says why and until when
-- it pauses; null: it does not. max_per_second and max_in_flight: its ceilings (see set_ceilings); null: it has none. habits: what its store does differently, by name: {"value", "by": "hand" or
-- "learned", "since", "because"}. looked, missing: how many of its keys were looked for, and how many of those had
-- no object.
-- For observers.
create or replace function retention.known_buckets(p_bucket text default null, p_limit integer default 100)
returns table (
  bucket text,
  on_versioned text,
  versioning text,
  pause text,
  habits jsonb,
  looked integer,
  missing integer,
  max_per_second integer,
  max_in_flight integer
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select k.bucket,
    k.on_versioned,
    k.versioning,
    case
      when k.paused_until > now()
      then format('%s until %s', retention._said(k.pause_code, k.pause_error), retention._iso(k.paused_until))
    end,
    retention._habits_of(k),
    k.looked,
    k.missing,
    k.max_per_second,
    k.max_in_flight
  from retention.bucket k
  where p_bucket is null
    or k.bucket = p_bucket
  order by (
      exists (
        select
        from retention.batch b
        where b.bucket = k.bucket
          and b.settled_at is null
      )
    ) desc,
    k.bucket
  limit p_limit
$$;
