/*
Ceilings of a bucket, kept by all listeners and commands together: how many of its results go a second, and how many of its
batches are leased at once.

A claim takes its turn under the lock of the bucket's row in retention.pace. A request of n results moves the next turn on
by n / (0.975 * ceiling) seconds. Nothing is saved up while no request goes: a turn that is late by up to an eighth of a second is
made up for, as timers are late, and no more. A request has at most the results of an eighth of a second. So in any ten seconds
at most 0.975 * (10 + 0.125) + 0.125 = 9.997 times the ceiling goes, and while there is work at least 9.6 times.
*/

-- How many results of a bucket one request may have under its ceiling; null: as many as a batch has.
create or replace function retention._paced_keys(p_max_per_second integer)
returns integer
language sql
immutable
as $$
  select case when p_max_per_second is not null then greatest(p_max_per_second / 8, 1) end
$$;

-- The time that so many results take under a ceiling.
create or replace function retention._paced_for(p_results bigint, p_max_per_second integer)
returns interval
language sql
immutable
as $$
  select make_interval(secs => p_results / (0.975 * p_max_per_second)::double precision)
$$;

-- When the next request of a bucket may go under its ceiling of results a second; null: now. A time that lies further ahead than
-- one request can move it is of a clock that was set back since.
create or replace function retention._paced_until(p_bucket text)
returns timestamptz
language sql
volatile
as $$
  select p.next_at
  from retention.pace p
  where p.bucket = p_bucket
    and p.next_at > clock_timestamp()
    and p.next_at < clock_timestamp() + interval '2 seconds'
$$;

-- How many batches of a bucket are leased at this moment.
create or replace function retention._in_flight(p_bucket text)
returns bigint
language sql
volatile
set enable_seqscan = off
as $$
  select count(*)
  from retention.batch b
  where b.bucket = p_bucket
    and b.lease is not null
    and b.visible_at > clock_timestamp()
$$;

-- When a bucket with a ceiling is worth a claim again; null: now. Those who wait come at different moments, and a little late, so
-- that small batches go several at a time. What is in flight ends at no known time.
create or replace function retention._ceiling_until(p_bucket retention.bucket)
returns timestamptz
language sql
volatile
as $$
  select greatest(
    case
      when p_bucket.max_per_second is not null
      then retention._paced_until(p_bucket.bucket) + random() * interval '50 milliseconds'
    end,
    case
      when p_bucket.max_in_flight <= retention._in_flight(p_bucket.bucket)
      then clock_timestamp() + interval '1 second'
    end
  )
$$;

-- Takes the turn of a bucket that has a ceiling: go, and its row in retention.pace stays locked until the transaction ends; wait,
-- when it is at its ceiling; busy, when another claim has the turn at this moment. p_waits: for that one.
create or replace function retention._take_pace(p_bucket retention.bucket, p_waits boolean default false)
returns text
language plpgsql
as $$
begin
  -- First without the lock: most claims that come too early find that here.
  if p_bucket.max_per_second is not null and retention._paced_until(p_bucket.bucket) is not null then
    return 'wait';
  end if;
  insert into retention.pace (bucket)
  select p_bucket.bucket
  where not exists (select from retention.pace p where p.bucket = p_bucket.bucket)
  on conflict do nothing;
  if p_waits then
    begin
      perform from retention.pace p where p.bucket = p_bucket.bucket for update;
    exception
      when lock_not_available then
        return 'wait';
    end;
  else
    perform from retention.pace p where p.bucket = p_bucket.bucket for update skip locked;
    if not found then
      return 'busy';
    end if;
  end if;
  if p_bucket.max_per_second is not null and retention._paced_until(p_bucket.bucket) is not null
    or p_bucket.max_in_flight <= retention._in_flight(p_bucket.bucket)
  then
    return 'wait';
  end if;
  return 'go';
end
$$;

-- Notes that a request of so many results goes now; negative: that one did not go. Locks the bucket's row in retention.pace.
create or replace function retention._note_pace(p_bucket text, p_max_per_second integer, p_results bigint)
returns void
language sql
as $$
  update retention.pace p
  set next_at = case
      when p_results < 0 then p.next_at
      else greatest(
        case when p.next_at < clock_timestamp() + interval '2 seconds' then p.next_at end,
        clock_timestamp() - interval '125 milliseconds'
      )
    end + retention._paced_for(p_results, p_max_per_second)
  where p.bucket = p_bucket
$$;

-- Sets the ceilings of a bucket, which all listeners and commands keep together from their next batch on. p_ceilings:
-- {"max_per_second": 2000, "max_in_flight": 4}, one or both; a null value takes a ceiling away. max_per_second: so many results
-- go a second at most; max_in_flight: so many batches are leased at once at most. p_by: who sets it; by default the session's
-- user. p_new: the bucket need not be known yet.
-- For operators.
-- Locks the bucket's row.
-- Raises invalid_parameter_value for what is no ceiling, and no_data_found for a bucket that is not known.
create or replace function retention.set_ceilings(
  p_bucket text,
  p_ceilings jsonb,
  p_by text default null,
  p_new boolean default false
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ceiling record;
begin
  if jsonb_typeof(p_ceilings) is distinct from 'object' or p_ceilings = '{}' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected ceilings as a JSON object, given: %s', coalesce(left(p_ceilings::text, 100), 'null')),
      hint = 'For example {"max_per_second": 2000}.';
  end if;
  for v_ceiling in
    select c.key as name, c.value, c.value #>> '{}' as text from jsonb_each(p_ceilings) c
  loop
    if v_ceiling.name not in ('max_per_second', 'max_in_flight') then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format('expected max_per_second or max_in_flight, given: %s', left(v_ceiling.name, 100));
    end if;
    if jsonb_typeof(v_ceiling.value) <> 'null'
      and (jsonb_typeof(v_ceiling.value) = 'number' and v_ceiling.text ~ '^[1-9]\d{0,8}$') is not true
    then
      raise exception using
        errcode = 'invalid_parameter_value',
        message = format(
          'expected %s as a whole number from 1 to 999999999, or null for no ceiling, given: %s',
          v_ceiling.name, left(v_ceiling.text, 100)
        );
    end if;
  end loop;
  if p_new and btrim(coalesce(p_bucket, '')) <> '' then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
  end if;
  perform retention._known_bucket(p_bucket);
  update retention.bucket k
  set max_per_second = case
      when p_ceilings ? 'max_per_second' then (p_ceilings ->> 'max_per_second')::integer
      else k.max_per_second
    end,
    max_in_flight = case
      when p_ceilings ? 'max_in_flight' then (p_ceilings ->> 'max_in_flight')::integer
      else k.max_in_flight
    end,
    set_at = clock_timestamp(),
    set_by = coalesce(p_by, session_user)
  where k.bucket = p_bucket;
end
$$;

-- The ceilings of a bucket in words; null: it has none.
create or replace function retention._ceiling_words(p_bucket retention.bucket)
returns text
language sql
immutable
as $$
  select nullif(
    concat_ws(
      ' and ',
      'at most ' || p_bucket.max_per_second || ' results a second',
      'at most ' || p_bucket.max_in_flight || ' batches at once'
    ),
    ''
  )
$$;
