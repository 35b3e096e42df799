/*
Surges: late results that are set aside until a person who has seen their number releases them.
*/

-- Looks again at results that are set aside, and takes out of the part what is not there any more, names another
-- object, or falls due only after the surge was found: it will fall due in its time. A held result stays. Returns how
-- many results left.
create or replace function retention._review_part(p_part_id bigint, p_found_at timestamptz)
returns bigint
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_left record;
  v_before bigint;
begin
  select count(*) as results,
    array_agg(u.run_id order by u.n) as run_ids,
    array_agg(u.key order by u.n) as keys,
    array_agg(u.tenant_id order by u.n) as tenants,
    max(p.results) as before
  into v_left
  from retention.surge_part p
  cross join lateral unnest(p.run_ids, p.keys, p.tenants) with ordinality as u (run_id, key, tenant_id, n)
  where p.part_id = p_part_id
    and (
      -- The aggregate keeps this a probe by run id.
      select bool_or(
        coalesce(r.key, '') = retention._unpack_key(u.key, u.run_id::text) collate "C"
        and r.bucket = p.bucket
        and coalesce(r.due_at < p_found_at, false)
      )
      from retention._live r
      where r.run_id = u.run_id
    );
  select p.results into v_before from retention.surge_part p where p.part_id = p_part_id;
  if v_left.results < v_before then
    insert into retention.past_work (batch_id, state, since, until, oldest, newest, run_ids)
    select p.surge_id, 'set aside', p_found_at, clock_timestamp(), p.oldest, p.newest,
      array(select u.run_id from unnest(p.run_ids) as u (run_id) where u.run_id not in (select unnest(v_left.run_ids)))
    from retention.surge_part p
    where p.part_id = p_part_id
      and p.surge_id is not null;
  end if;
  if v_left.results = v_before then
    update retention.surge_part p set looked_at = clock_timestamp() where p.part_id = p_part_id;
  elsif v_left.results = 0 then
    delete from retention.surge_part p where p.part_id = p_part_id;
  else
    update retention.surge_part p
    set results = v_left.results,
      run_ids = v_left.run_ids,
      keys = v_left.keys,
      tenants = v_left.tenants,
      looked_at = clock_timestamp()
    where p.part_id = p_part_id;
  end if;
  return v_before - v_left.results;
end
$$;

-- Closes a surge of which nothing is left.
create or replace function retention._close_surge(p_surge_id bigint)
returns void
language sql
as $$
  update retention.surge s
  set closed_at = clock_timestamp()
  where s.surge_id = p_surge_id
    and s.closed_at is null
    and not exists (select from retention.surge_part p where p.surge_id = s.surge_id)
$$;

-- Looks again at all of a surge. It locks the surge, so that no release and no other look comes between.
create or replace function retention._review_surge(p_surge_id bigint)
returns bigint
language plpgsql
as $$
declare
  v_surge retention.surge;
  v_part_id bigint;
  v_part_ids bigint[];
  v_gone bigint := 0;
begin
  select * into v_surge from retention.surge s where s.surge_id = p_surge_id for update;
  if to_regclass('retention._live') is null then
    return 0;
  end if;
  if retention._is_large_surge(p_surge_id) then
    v_part_ids := retention._changed_parts(p_surge_id, v_surge.found_at);
    update retention.surge_part p
    set looked_at = clock_timestamp()
    where p.surge_id = p_surge_id
      and p.part_id not in (select unnest(v_part_ids));
  end if;
  for v_part_id in
    select p.part_id
    from retention.surge_part p
    where p.surge_id = p_surge_id
      and (v_part_ids is null or p.part_id = any (v_part_ids))
    order by p.part_id
  loop
    v_gone := v_gone + retention._review_part(v_part_id, v_surge.found_at);
  end loop;
  if v_gone > 0 then
    -- What falls due in its time may lie behind the progress.
    delete from retention.progress;
    perform retention._close_surge(p_surge_id);
  end if;
  return v_gone;
end
$$;

-- Looks again at a share of what is set aside, so that each part has its turn once a day. Called by the hourly
-- cleaning up. Passes by a surge that is being released.
create or replace function retention._review_some()
returns void
language plpgsql
as $$
declare
  v_part record;
  v_gone bigint := 0;
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  for v_part in
    select p.part_id, s.surge_id, s.found_at
    from retention.surge_part p
    join retention.surge s on s.surge_id = p.surge_id
    where p.looked_at < now() - interval '1 hour'
    order by p.looked_at
    limit (select 10 + count(*) / 20 from retention.surge_part)
  loop
    perform from retention.surge s where s.surge_id = v_part.surge_id for update skip locked;
    continue when not found;
    v_gone := v_gone + coalesce(retention._review_part(v_part.part_id, v_part.found_at), 0);
    perform retention._close_surge(v_part.surge_id);
  end loop;
  if v_gone > 0 then
    delete from retention.progress;
  end if;
end
$$;

-- How many results a surge has, of one tenant or (null) of all.
create or replace function retention._count_set_aside(p_surge_id bigint, p_tenant_id text)
returns bigint
language sql
stable
as $$
  select case
    when p_tenant_id is null then coalesce(sum(p.results), 0)
    else (
      select count(*)
      from retention.surge_part x
      cross join lateral unnest(x.tenants) as u (tenant_id)
      where x.surge_id = p_surge_id
        and u.tenant_id = p_tenant_id
    )
  end::bigint
  from retention.surge_part p
  where p.surge_id = p_surge_id
$$;

-- Releases a surge, or the results of one tenant in it: exactly those that are recorded become batches, and each is
-- checked again when it is claimed. p_expected: how many results that is, as show_surge says it. Who changed a row
-- back meanwhile has taken it out. Returns how many results.
-- For operators.
-- Locks the surge.
-- Raises no_data_found for a surge or tenant that is not there. Raises invalid_parameter_value without p_expected.
-- Raises check_violation where the number is another, and changes nothing.
create or replace function retention.release_surge(
  p_surge_id bigint,
  p_expected bigint,
  p_tenant_id text default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
declare
  v_surge retention.surge;
  v_tenant_id text := retention._read_tenant_id(p_tenant_id)::text;
  v_but text[] := '{}';
  v_found bigint;
begin
  if p_expected is null then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'the release of a surge needs the number of results that is expected to go',
      hint = format('See it with: retention surge show %s', p_surge_id);
  end if;
  select * into v_surge from retention.surge s where s.surge_id = p_surge_id for update;
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = format('there is no surge %s', p_surge_id),
      hint = 'See them with: retention surge list';
  end if;
  perform retention._review_surge(p_surge_id);
  v_found := retention._count_set_aside(p_surge_id, v_tenant_id);
  if v_found = 0 then
    raise exception using
      errcode = 'no_data_found',
      message = format('nothing of surge %s%s is set aside any more', p_surge_id, ' and tenant ' || v_tenant_id),
      hint = 'See what is with: retention surge list';
  end if;
  if v_found <> p_expected then
    raise exception using
      errcode = 'check_violation',
      message = format(
        'surge %s%s has %s, and %s were expected; nothing was released',
        p_surge_id, coalesce(' of tenant ' || v_tenant_id, ''), retention._counted(v_found, 'result'), p_expected
      ),
      hint = format('Look at it with: retention surge show %s', p_surge_id);
  end if;
  perform retention._two_people(
    'surge', jsonb_strip_nulls(jsonb_build_object('surge_id', p_surge_id, 'expected', p_expected, 'tenant_id', v_tenant_id))
  );
  if v_tenant_id is not null then
    select coalesce(array_agg(distinct retention._tenant_key(u.tenant_id)), '{}')
    into v_but
    from retention.surge_part p
    cross join lateral unnest(p.tenants) as u (tenant_id)
    where p.surge_id = p_surge_id
      and u.tenant_id is distinct from v_tenant_id;
  end if;
  perform retention._put_to_work(p_surge_id, v_but, coalesce(v_surge.seen_at, 'infinity'));
  -- The moment that its batches were flagged at: by that, a batch is known to come out of this surge.
  insert into retention.surge_release (surge_id, tenant_id, results, released_at)
  values (p_surge_id, v_tenant_id, v_found, now());
  perform retention._close_surge(p_surge_id);
  return v_found;
end
$$;
