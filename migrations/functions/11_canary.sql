/*
The canary: an object of our own under .retention/canary/ that goes the whole way, once in a while and once for all
listeners: written to the bucket, flagged as a batch of kind canary, claimed, deleted, settled, with a receipt, and looked
for after that. No row of the application is part of it: its batch has no results, so nothing that counts results sees it.
*/

-- What the canary of a bucket wants done now, for the first that asks: put (write the object), look (see whether it is
-- gone), or no row: nothing. p_every: how long after one canary began the next one begins; the first begins so long after
-- a listener first asked. None begins while the gate is closed. p_client: the client's version. What a listener
-- has begun and not come back to is anybody's after a minute.
-- For the listener.
-- Locks the row of the bucket's canary.
create or replace function retention.begin_canary(p_bucket text, p_every interval, p_client text default null)
returns table (step text, key text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_canary retention.canary;
begin
  select * into v_canary from retention.canary c where c.bucket = p_bucket for update skip locked;
  if not found then
    insert into retention.canary (bucket, every) values (p_bucket, p_every) on conflict do nothing;
    return;
  end if;
  if v_canary.every <> p_every then
    update retention.canary c set every = p_every where c.bucket = p_bucket;
  end if;
  if v_canary.asked_at > clock_timestamp() - interval '1 minute' then
    return;
  end if;
  if v_canary.key is not null and v_canary.batch_id is not null and v_canary.settled_at is null then
    -- It is on its way. One that was lost on it makes room for the next.
    if not exists (select from retention.batch b where b.batch_id = v_canary.batch_id and b.settled_at is null) then
      perform retention._end_canary(p_bucket, 'Lost', 'its batch has gone without having been settled');
    elsif v_canary.began_at < clock_timestamp() - p_every and v_canary.code is distinct from 'NotDeleted' then
      perform retention._note_canary_problem(
        p_bucket, 'NotDeleted', 'no listener has deleted it in the time after which the next one begins'
      );
    end if;
    return;
  end if;
  if v_canary.key is null then
    if v_canary.began_at > clock_timestamp() - p_every or not retention._is_open(p_client) then
      return;
    end if;
    v_canary.key := '.retention/canary/' || gen_random_uuid();
    v_canary.began_at := clock_timestamp();
  end if;
  update retention.canary c
  set key = v_canary.key,
    began_at = v_canary.began_at,
    asked_at = clock_timestamp()
  where c.bucket = p_bucket;
  return query select case when v_canary.settled_at is null then 'put' else 'look' end, v_canary.key;
end
$$;

-- Writes down why a canary fails, and announces it on retention_attention, once for each reason.
create or replace function retention._note_canary_problem(p_bucket text, p_code text, p_problem text)
returns void
language plpgsql
as $$
declare
  v_before text := (select c.code from retention.canary c where c.bucket = p_bucket);
begin
  update retention.canary c
  set code = left(p_code, 64),
    problem = left(p_problem, 500),
    problem_at = clock_timestamp()
  where c.bucket = p_bucket;
  if v_before is distinct from left(p_code, 64) then
    perform retention._tell(
      'canary',
      json_build_object('kind', 'canary', 'bucket', left(p_bucket, 63), 'code', left(p_code, 64))
    );
  end if;
end
$$;

-- Ends a canary that has failed; the next one begins in its time.
create or replace function retention._end_canary(p_bucket text, p_code text, p_problem text)
returns void
language plpgsql
as $$
begin
  update retention.canary c
  set key = null,
    batch_id = null,
    settled_at = null,
    asked_at = null
  where c.bucket = p_bucket;
  perform retention._note_canary_problem(p_bucket, p_code, p_problem);
end
$$;

-- Writes down what became of the step that begin_canary gave. p_what: put (the object is there: it is flagged), gone (it
-- was looked for after its deletion, and is not there), there (it still is), or failed. p_code, p_problem: why. Of
-- another key than the canary has by now nothing is written.
-- For the listener.
-- Locks the row of the bucket's canary.
-- Raises invalid_parameter_value for any other word.
create or replace function retention.note_canary(
  p_bucket text,
  p_key text,
  p_what text,
  p_code text default null,
  p_problem text default null
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_canary retention.canary;
  v_batch_id bigint;
begin
  if p_what is null or p_what not in ('put', 'gone', 'there', 'failed') then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected put, gone, there or failed of a canary, given: %s', coalesce(left(p_what, 100), 'null'));
  end if;
  select * into v_canary from retention.canary c where c.bucket = p_bucket and c.key = p_key for update;
  if not found then
    return;
  end if;
  if p_what = 'put' and v_canary.batch_id is null then
    insert into retention.bucket (bucket) values (p_bucket) on conflict do nothing;
    -- In front of the queue: it shows whether objects are deleted, not how many wait.
    insert into retention.batch (bucket, kind, results, oldest, newest, visible_at, run_ids, keys, tenants)
    values (p_bucket, 'canary', 0, now(), now(), timestamptz '1970-01-01Z', '{}', '{}', '{}')
    returning batch_id into v_batch_id;
    update retention.canary c set batch_id = v_batch_id, asked_at = null where c.bucket = p_bucket;
  elsif p_what = 'gone' and v_canary.settled_at is not null then
    update retention.canary c
    set key = null,
      batch_id = null,
      settled_at = null,
      asked_at = null,
      confirmed_at = clock_timestamp(),
      code = null,
      problem = null,
      problem_at = null
    where c.bucket = p_bucket;
  elsif p_what = 'there' then
    perform retention._end_canary(p_bucket, 'StillThere', 'the store named it as deleted, and it is still there');
  elsif p_what = 'failed' then
    perform retention._end_canary(p_bucket, coalesce(p_code, 'Unknown'), coalesce(p_problem, ''));
  end if;
end
$$;

-- What claim returns of a canary: its key, and nothing of the application.
create or replace function retention._claim_canary(p_batch retention.batch, p_bucket retention.bucket)
returns table (
  batch_id bigint,
  bucket text,
  keys text[],
  spared integer,
  attempts integer,
  leased_until timestamptz,
  purge boolean,
  failed integer,
  dead integer,
  problems jsonb,
  habits jsonb,
  looked_in text,
  etags text[]
)
language sql
stable
as $$
  select p_batch.batch_id, p_batch.bucket,
    array(select c.key from retention.canary c where c.batch_id = p_batch.batch_id and c.key is not null),
    0, p_batch.attempts, p_batch.visible_at, p_bucket.on_versioned is not distinct from 'purge', 0, 0, '[]'::jsonb,
    retention._habits(p_bucket), null::text, null::text[]
$$;

-- What settle does with a canary: it has a receipt (of kind canary), or a problem. Its bucket is judged by results alone.
create or replace function retention._settle_canary(
  p_batch retention.batch,
  p_cleared text[],
  p_all boolean,
  p_failed jsonb,
  p_ends jsonb,
  p_request_ids text[],
  p_client text
)
returns void
language plpgsql
as $$
declare
  v_key text := (select c.key from retention.canary c where c.batch_id = p_batch.batch_id);
  v_failed record;
begin
  if v_key is not null and (p_all or v_key = any (p_cleared)) then
    perform retention._write_receipts(
      'canary', p_batch.bucket, '{}', array[v_key], '{}', p_client, e.ends, e.versions, p_request_ids
    )
    from retention._ends('{}', array[E'\x02' || v_key], p_ends) e;
    update retention.canary c
    set settled_at = clock_timestamp(),
      asked_at = null
    where c.batch_id = p_batch.batch_id;
  elsif v_key is not null then
    select f.code, f.reason into v_failed from jsonb_to_recordset(p_failed) as f (code text, reason text) limit 1;
    perform retention._end_canary(
      p_batch.bucket, coalesce(v_failed.code, 'Unanswered'), coalesce(v_failed.reason, 'the store did not name it')
    );
  end if;
  update retention.batch b
  set lease = null,
    given_back = p_batch.lease,
    ms = extract(epoch from clock_timestamp() - b.leased_at) * 1000,
    settled_at = clock_timestamp(),
    product = left(p_client, 100),
    settled_session = session_user
  where b.batch_id = p_batch.batch_id;
end
$$;

-- How the canaries are, by bucket: {"bucket", "every_seconds", "age_seconds" (since one last went the whole way, or since
-- listeners first asked), "confirmed_at", "code", "problem"}. is_off: the store has refused to write it, so there is none.
-- Buckets of which no listener has asked for a day and for twice the interval are left out. Null: there is none.
-- For observers.
create or replace function retention.canary_state()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select jsonb_agg(
    jsonb_build_object(
      'bucket', c.bucket,
      'every_seconds', extract(epoch from c.every),
      'age_seconds', extract(epoch from greatest(clock_timestamp() - coalesce(c.confirmed_at, c.first_at), '0')),
      'confirmed_at', retention._iso(c.confirmed_at),
      'is_off', coalesce(c.code = 'AccessDenied' and c.confirmed_at is null, false),
      'code', c.code,
      'problem', c.problem
    )
    order by c.bucket
  )
  from (
    select *
    from retention.canary c
    where c.began_at > clock_timestamp() - greatest(c.every * 2, interval '1 day')
    order by c.bucket
    limit 50
  ) c
$$;
