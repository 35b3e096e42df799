/*
The fence: an object in S3 that only one database can renew. It tells a copy that looks identical from within, and
it carries what a copy that is accepted may lack. The object is written by the listener, on a condition; each token
is written here first, so that a crash between the two is known as ours.
*/

-- Whether a key of a bucket is the product's own, and so no orphan and no result.
create or replace function retention._is_own_key(p_key text)
returns boolean
language sql
immutable
as $$
  select p_key like '.retention/%'
$$;

-- A time or a number from an object in S3, which other programs may have written; null: it is no such value.
create or replace function retention._read_time(p_text text)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_text::timestamptz;
exception
  when others then
    return null;
end
$$;

-- What this database was accepted as, what it is now, and how its fence stands: one row. is_copy: the gate is
-- closed for it, and because says why. fence_in_use: a listener renews an object in S3.
-- For observers.
create or replace function retention.fence()
returns table (
  is_copy boolean,
  because text,
  accepted_system_identifier text,
  accepted_database text,
  accepted_timeline integer,
  system_identifier text,
  database text,
  timeline integer,
  adopted_at timestamptz,
  accepted_at timestamptz,
  accepted_by text,
  accepted_reason text,
  fence uuid,
  fence_in_use boolean,
  bucket text,
  renewed_at timestamptz,
  renewed_by text,
  lost_at timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select c.because is not null,
    c.because,
    i.system_identifier,
    i.database_name,
    i.timeline,
    n.system_identifier,
    n.database_name,
    n.timeline,
    i.adopted_at,
    i.accepted_at,
    i.accepted_by,
    i.accepted_reason,
    i.fence,
    f.renewed_at is not null,
    f.bucket,
    f.renewed_at,
    f.renewed_by,
    f.lost_at
  from retention._identity_now() n
  cross join retention.fence f
  left join retention.identity i on true
  left join retention._copy_reason() c on true
$$;

-- What the object in S3 carries for a copy of this database: the newest of its holds, policies and receipts, at most
-- 50 holds and 100 policies, so that it stays small.
create or replace function retention._fence_head()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
as $$
  select jsonb_build_object(
    'seen_at', retention._iso(clock_timestamp()),
    'highest_hold', (select max(h.hold_id) from retention.hold h),
    'holds', (
      select coalesce(jsonb_agg(jsonb_build_object('id', h.hold_id, 'on', h.on_what, 'by', left(h.placed_by, 60)) order by h.hold_id), '[]')
      from (
        select n.*,
          case when n.run_id is not null then format('run %s', left(n.run_id::text, 100)) else format('tenant %s', left(n.tenant_id, 100)) end as on_what
        from (select * from retention.hold order by hold_id desc limit 50) n
        where coalesce(least(n.released_at, n.expires_at), 'infinity') > now()
      ) h
    ),
    'policies', (
      select coalesce(jsonb_object_agg(left(p.tenant_id, 100), p.retain::text), '{}')
      from (
        select * from retention.policy where tenant_id = '*'
        union
        (select * from retention.policy order by set_at desc limit 100)
      ) p
      where octet_length(p.tenant_id) <= 100
    ),
    'receipt', (
      select jsonb_build_object('batch', b.batch_id, 'settled_at', retention._iso(b.settled_at))
      from retention.batch b
      where b.settled_at is not null
      order by b.settled_at desc
      limit 1
    )
  )
$$;

-- Notes that another database has the fence, or that the fence is gone: the gate is closed.
create or replace function retention._note_lost_fence(p_because text)
returns void
language plpgsql
as $$
begin
  update retention.fence
  set lost_at = clock_timestamp(),
    lost_because = p_because
  where lost_at is null;
  perform retention._note_gate();
end
$$;

-- Judges the object of the fence as a listener has just read it in S3. p_object: its content; null: there is none.
-- p_bucket: where it was looked for. p_remembered: the last tokens that this process saw as this database's or wrote
-- itself, of the last three minutes: a standby that was promoted may have lost those seconds. standing is one of:
-- copy: this database must not renew it, because says why. absent: it was never written. take: a person has accepted this
-- database, it is to be taken. known: its token is of this database. place: the number of its token, newest: of the last one here. renewed, tried: seconds
-- since it was last renewed from here, and since that was last tried. moved: another timeline waits to be accepted.
-- For the listener.
-- Locks the row of retention.fence where it writes: an unknown token closes the gate.
create or replace function retention.judge_fence(p_object jsonb, p_bucket text, p_remembered uuid[] default '{}')
returns table (
  standing text,
  because text,
  place bigint,
  newest bigint,
  renewed double precision,
  tried double precision,
  moved boolean
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_differs record;
  v_fence retention.fence;
  v_text text := p_object ->> 'token';
  v_token uuid;
  v_at integer;
begin
  select * into v_differs from retention._identity_differs();
  select * into v_fence from retention.fence;
  moved := v_differs.timeline is not null;
  because := concat_ws('; ', v_differs.server, v_differs.database, v_fence.lost_because);
  if because <> '' then
    standing := 'copy';
    return next;
    return;
  end if;
  if v_text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    v_token := v_text::uuid;
    v_at := array_position(v_fence.tokens, v_token);
  end if;
  if v_at is null
    and v_token = any (p_remembered)
    and v_fence.tokens[1] = any (p_remembered)
  then
    -- The same process wrote both: what this database lacks are the seconds that a failover has lost.
    update retention.fence f
    set tokens = (array[v_token] || f.tokens)[1:20],
      newest = f.newest + 1
    where f.tokens[1] = v_fence.tokens[1]
    returning * into v_fence;
    v_at := array_position(v_fence.tokens, v_token);
  end if;
  newest := v_fence.newest;
  renewed := extract(epoch from clock_timestamp() - v_fence.renewed_at);
  tried := extract(epoch from clock_timestamp() - v_fence.tried_at);
  if v_fence.taking then
    standing := 'take';
  elsif p_object is null and v_fence.renewed_at is null then
    standing := 'absent';
  elsif v_at is not null then
    standing := 'known';
    place := v_fence.newest - v_at + 1;
  else
    standing := 'copy';
    because := case
      when p_object is null then format(
        'its fence in bucket %s, last renewed at %s, is not in bucket %s any more',
        v_fence.bucket, retention._iso(v_fence.renewed_at), p_bucket
      )
      else format(
        'another database renewed the fence in bucket %s%s%s',
        p_bucket,
        coalesce(' at ' || retention._iso(retention._read_time(p_object ->> 'renewed_at')), ''),
        coalesce(', from ' || left(regexp_replace(p_object ->> 'renewed_by', '[^[:print:]]', '', 'g'), 100), '')
      )
    end;
    perform retention._note_lost_fence(because);
  end if;
  return next;
end
$$;

-- Writes the next token down before it is written to S3, and returns what is to be written there. No row: this
-- database must not renew the fence (any more). p_token: the next token. p_by: who renews it. p_released: the one who renews it
-- stops, so that the next need not wait.
-- For the listener.
-- Locks the row of retention.fence.
create or replace function retention.renew_fence(p_token uuid, p_by text default null, p_released boolean default false)
returns setof jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  if exists (select from retention._identity_differs() d where num_nonnulls(d.server, d.database) > 0) then
    return;
  end if;
  update retention.fence
  set tokens = (array[p_token] || tokens)[1:20],
    newest = newest + 1,
    tried_at = clock_timestamp()
  where lost_at is null;
  if not found then
    return;
  end if;
  return query
  select jsonb_build_object(
    'fence', i.fence,
    'token', p_token,
    'renewed_at', retention._iso(clock_timestamp()),
    'renewed_by', left(p_by, 100),
    'released', p_released,
    'database', n.database_name,
    'system_identifier', n.system_identifier,
    'timeline', n.timeline,
    'head', retention._fence_head()
  )
  from retention.identity i
  cross join retention._identity_now() n;
end
$$;

-- Notes that S3 has taken a token, p_seconds_ago at the earliest. Another timeline is accepted by it: who renews the
-- fence with a token that this database knows is no copy. Returns true when that was so.
-- For the listener.
-- Locks the row of retention.fence, and of retention.identity where the timeline is another one.
create or replace function retention.confirm_fence(
  p_token uuid,
  p_bucket text,
  p_by text default null,
  p_seconds_ago double precision default 0
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_differs record;
begin
  update retention.fence
  set renewed_at = clock_timestamp() - make_interval(secs => greatest(p_seconds_ago, 0)),
    renewed_by = p_by,
    bucket = p_bucket,
    taking = false
  where p_token = any (tokens)
    and lost_at is null;
  if not found then
    return false;
  end if;
  select * into v_differs from retention._identity_differs();
  if v_differs.timeline is null or num_nonnulls(v_differs.server, v_differs.database) > 0 then
    return false;
  end if;
  update retention.identity
  set timeline = (select n.timeline from retention._identity_now() n),
    accepted_at = clock_timestamp(),
    accepted_by = session_user,
    accepted_reason = 'the fence in S3 was as this database had left it';
  perform retention._note_gate();
  return true;
end
$$;

-- What the object of a fence knows and this database does not: holds, policies and receipts; at least these.
-- p_object: its content. kind is one of: hold, policy, receipts, unknown.
-- For operators.
create or replace function retention.fence_losses(p_object jsonb)
returns table (kind text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
as $$
declare
  v_head jsonb := p_object -> 'head';
  v_here timestamptz := (select max(b.settled_at) from retention.batch b where b.settled_at is not null);
  v_there timestamptz := retention._read_time(v_head -> 'receipt' ->> 'settled_at');
  v_highest bigint := coalesce((select max(h.hold_id) from retention.hold h), 0);
begin
  if jsonb_typeof(v_head) is distinct from 'object' then
    return query select 'unknown', 'nothing outside this database says what it knew: holds, policies and receipts may be missing';
    return;
  end if;
  return query
  select 'hold', format('hold %s on %s, placed by %s', j.hold ->> 'id', j.hold ->> 'on', j.hold ->> 'by')
  from jsonb_array_elements(v_head -> 'holds') as j (hold)
  where not exists (select from retention.hold h where h.hold_id::text = j.hold ->> 'id');
  if (v_head ->> 'highest_hold')::numeric > v_highest then
    return query select 'hold', format('the ids of holds go up to %s there, and to %s here', v_head ->> 'highest_hold', v_highest);
  end if;
  return query
  select 'policy', format(
    'policy of %s: %s there, %s here', p.tenant_id, p.retain, coalesce(o.retain::text, 'none of its own')
  )
  from jsonb_each_text(v_head -> 'policies') as p (tenant_id, retain)
  left join retention.policy o on o.tenant_id = p.tenant_id
  where o.retain::text is distinct from p.retain
  order by 2;
  if v_there > coalesce(v_here, '-infinity') then
    return query select 'receipts', format(
      'deletions %s to %s: %s there, %s here; their runs have no stamp here. retention reconcile --verify stamps them',
      coalesce('after ' || retention._iso(v_here), 'up'),
      retention._iso(v_there),
      format('batch %s was settled', v_head -> 'receipt' ->> 'batch'),
      coalesce('batch ' || (select max(b.batch_id)::text from retention.batch b where b.settled_at = v_here), 'none')
    );
  end if;
exception
  -- Anybody who may write to the bucket may have written it.
  when data_exception then
    return query select 'unknown', 'the fence in S3 cannot be read: holds, policies and receipts may be missing';
end
$$;

-- Says that this database is the one that deletes from now on: what it is now is accepted, and its fence in S3, if one is
-- in use, is taken by the next look of a listener from the one that has it: the other database halts then. Look at
-- retention.fence() and retention.fence_losses() before. p_reason: why, for those who read it later. Returns false
-- where there was nothing to accept.
-- For operators. Never for the listener's role.
-- Locks the rows of retention.identity and retention.fence.
create or replace function retention.accept_fence(p_reason text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from retention._copy_reason()) then
    return false;
  end if;
  perform retention._two_people('fence', to_jsonb(n)) from retention._identity_now() n;
  insert into retention.identity (system_identifier, database_oid, database_name, timeline, accepted_at, accepted_by, accepted_reason)
  select n.system_identifier, n.database_oid, n.database_name, n.timeline, clock_timestamp(), session_user, nullif(btrim(p_reason), '')
  from retention._identity_now() n
  on conflict (singleton) do update
  set system_identifier = excluded.system_identifier,
    database_oid = excluded.database_oid,
    database_name = excluded.database_name,
    timeline = excluded.timeline,
    accepted_at = excluded.accepted_at,
    accepted_by = excluded.accepted_by,
    accepted_reason = excluded.accepted_reason;
  update retention.fence
  -- It may have been lost before it was ever renewed from here: the copy is older than the first renewal.
  set taking = renewed_at is not null or lost_at is not null,
    lost_at = null,
    lost_because = null;
  perform retention._note_gate();
  return true;
end
$$;
