/*
The trial: before anything is deleted, the stamp of a live row is tried in a subtransaction that is rolled back. It
alone closes and opens the gate's reason "stamps fail": a batch that cannot be stamped asks it too, because a bad
row, or all the rows of one tenant, say nothing of the others.
*/

-- Live results for a trial: the first of three batches, and of all results those at both ends of the tenants. What
-- alone is known to be bad is no evidence against the others. A few probes of indexes.
create or replace function retention._trial_rows()
returns table (run_id retention.run_id, bucket text, key text, completed_at timestamptz)
language plpgsql
stable
rows 5
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with known as materialized (
    select unnest(b.run_ids) as run_id
    from retention.batch b
    where b.deleted_at is not null
      and b.settled_at is null
      and b.attempts > 0
  )
  select distinct t.run_id, t.bucket, t.key, t.completed_at
  from (
    select r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, r.is_candidate and r.has_place as fits
    from (
      select b.run_ids[1] as run_id
      from retention.batch b
      where b.settled_at is null
        and b.dead_at is null
        and (b.deleted_at is null or b.attempts = 0)
      order by b.oldest
      limit 3
    ) f
    cross join lateral (
      select l.*
      from retention._live l
      where l.run_id = f.run_id
      limit 1
    ) r
    union all
    (
      select r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, true
      from (
        select l.*
        from retention._live l
        where l.is_candidate
        order by l.tenant_id, l.completed_at, l.run_id
        limit 100
      ) r
      where r.has_place
        and r.completed_at is not null
        and r.run_id not in (select k.run_id from known k)
      limit 1
    )
    union all
    (
      select r.run_id::retention.run_id, r.bucket::text, r.key::text, r.completed_at, true
      from (
        select l.*
        from retention._live l
        where l.is_candidate
        order by l.tenant_id desc, l.completed_at desc, l.run_id desc
        limit 100
      ) r
      where r.has_place
        and r.completed_at is not null
        and r.run_id not in (select k.run_id from known k)
      limit 1
    )
  ) t
  where t.fits
    and t.run_id is not null
    and t.completed_at is not null;
end
$$;

-- What a trial is good for: another view over the table, and another installation, want another.
create or replace function retention._trial_mark()
returns text
language plpgsql
stable
as $$
begin
  return (
    select format('%s of %s', to_regclass('retention.result')::oid, extract(epoch from i.at))
    from retention.installed i
  );
end
$$;

-- Makes the trial, and closes or opens the gate by what it shows: closed where every row that was tried fails for
-- good, open where one works or there is none to try. Returns whether stamps work as far as is known; a row that
-- another session has locked says nothing. Locks the row of retention.stamping where something changes.
create or replace function retention._try_stamp()
returns boolean
language plpgsql
set enable_seqscan = off
set enable_mergejoin = off
as $$
declare
  v_mark text := retention._trial_mark();
  v_before retention.stamping;
  v_row record;
  v_started_at timestamptz;
  v_taken interval;
  v_stamped bigint;
  v_code text;
  v_message text;
  v_constraint text;
  v_context text;
  v_first record;
  v_failed integer := 0;
  v_unknown integer := 0;
begin
  for v_row in select * from retention._trial_rows() loop
    v_code := null;
    v_stamped := 0;
    v_started_at := clock_timestamp();
    begin
      v_stamped := retention._stamp(
        v_row.bucket, array[v_row.run_id], array[retention._pack_key(v_row.key, v_row.run_id::text)],
        v_row.completed_at, v_row.completed_at
      );
      v_taken := clock_timestamp() - v_started_at;
      if v_stamped = 0 then
        v_code := case
          when exists (
            select
            from retention._still_live(
              v_row.bucket, array[v_row.run_id], array[retention._pack_key(v_row.key, v_row.run_id::text)],
              v_row.completed_at, v_row.completed_at
            )
          )
          then 'StampSwallowed'
          else 'StampLater'
        end;
        v_message := 'a trigger, a rule or a row-level security policy of the table swallows the stamp';
        v_context := null;
      end if;
      raise exception using errcode = 'RR001', message = 'the trial is over';
    exception
      when sqlstate 'RR001' then
        null;
      when query_canceled or assert_failure or others then
        get stacked diagnostics v_code = returned_sqlstate,
          v_message = message_text,
          v_constraint = constraint_name,
          v_context = pg_exception_context;
        v_context := coalesce(
          'constraint ' || nullif(v_constraint, ''),
          -- "PL/pgSQL function audit() line 3 at SQL statement", in whatever language.
          substring(v_context from '([\w."]+\([^()]*\)),?\s+\S+\s+\d+')
        );
    end;
    exit when v_code is null;
    if retention._stamp_passes(v_code) then
      v_unknown := v_unknown + 1;
    else
      v_failed := v_failed + 1;
      if v_failed = 1 then
        select v_code as code, v_message as message, v_context as context into v_first;
      end if;
    end if;
  end loop;

  select * into strict v_before from retention.stamping;
  if v_stamped > 0 or v_failed = 0 and v_unknown = 0 then
    update retention.stamping s
    set tried_for = case when v_stamped > 0 then v_mark end,
      failed_since = null,
      code = null,
      message = null,
      context = null,
      tries = 0,
      try_at = null,
      -- Planning and reading for the first time take a while too.
      most = case
        when s.most is null and v_taken > interval '20 ms'
        then greatest(1, 5 / extract(epoch from v_taken))::integer
        else s.most
      end
    where s.tried_for is distinct from case when v_stamped > 0 then v_mark end
      or s.failed_since is not null;
    if v_before.failed_since is not null then
      update retention.batch b
      set visible_at = clock_timestamp()
      where b.deleted_at is not null
        and b.settled_at is null
        and b.dead_at is null
        and b.visible_at > clock_timestamp();
      perform retention._note_gate();
    end if;
    return true;
  end if;
  if v_failed = 0 then
    update retention.stamping s
    set try_at = case when s.failed_since is not null then clock_timestamp() + interval '5 seconds' end,
      unknown_for = v_mark,
      unknown_at = clock_timestamp();
    return v_before.failed_since is null;
  end if;
  update retention.stamping s
  set tried_for = v_mark,
    failed_since = coalesce(s.failed_since, clock_timestamp()),
    code = v_first.code,
    message = left(v_first.message, 500),
    context = left(v_first.context, 200),
    tries = s.tries + 1,
    try_at = clock_timestamp() + retention._backoff(interval '4 seconds', interval '5 minutes', s.tries)
  -- Of batches that fail at the same time, the first counts.
  where s.failed_since is null
    or s.try_at <= clock_timestamp();
  if v_before.failed_since is null then
    perform retention._note_gate();
  end if;
  return false;
end
$$;

-- Whether claiming may hand out work, as far as stamps go: makes the trial that an installation or an attached table
-- waits for, and hands out nothing while stamps that are slow wait for their time. Called by claim.
create or replace function retention._may_stamp()
returns boolean
language plpgsql
as $$
declare
  v_stamping retention.stamping;
  v_mark text := retention._trial_mark();
begin
  select * into strict v_stamping from retention.stamping;
  if v_stamping.tried_for is distinct from v_mark
    -- Otherwise each claim would wait for the same locks.
    and (v_stamping.unknown_for = v_mark and v_stamping.unknown_at > clock_timestamp() - interval '10 seconds') is not true
  then
    return retention._try_stamp();
  end if;
  return v_stamping.most is null or not exists (
    select
    from retention.batch b
    where b.deleted_at is not null
      and b.settled_at is null
      and b.dead_at is null
      and b.code = 'StampLater'
  );
end
$$;

-- Tries to stamp one live row and rolls that back, and opens or closes the gate by what it shows. Nothing of the
-- application's table is changed; what its triggers do outside of the database cannot be taken back. works: null
-- where there is no row to try, or all of them are locked. code, message, context: what failed, with the constraint
-- or the trigger's function where that is known.
-- For the listener.
-- Locks a few rows of the application's table for the time of the trial; it waits half a second for each at most.
create or replace function retention.try_stamp()
returns table (works boolean, code text, message text, context text, remedy text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
#variable_conflict use_column
begin
  if not exists (select from retention.gate() g where g.reason in ('detached', 'table replaced', 'index missing')) then
    perform retention._try_stamp();
  end if;
  return query
  select case
      when s.failed_since is not null then false
      when s.tried_for = retention._trial_mark() then true
    end,
    s.code,
    s.message,
    s.context,
    retention._stamp_remedy(s)
  from retention.stamping s;
end
$$;

-- What a person can do where stamps fail; null: they do not.
create or replace function retention._stamp_remedy(p_stamping retention.stamping)
returns text
language sql
stable
as $$
  select case
    when p_stamping.code is null then null
    when left(p_stamping.code, 2) in ('42', '3F') and p_stamping.code <> '42501'
    then format(
      'name the schema in the application''s trigger, or let it look where the application does: update retention.adapter set application_path = ''...'' (now: %s)',
      a.application_path
    )
    when p_stamping.code = '42501'
    then format('grant what the message names to %I, who owns the schema retention', o.nspowner::regrole::text)
    when p_stamping.code = 'StampSwallowed'
    then 'let the trigger, rule or policy of the table pass an update that writes the cleared-at column alone'
    else 'let the table''s triggers and constraints take an update that writes the cleared-at column alone'
  end || '; it is tried again by itself, and nothing is deleted meanwhile'
  from retention.adapter a
  cross join pg_namespace o
  where o.nspname = 'retention'
$$;
