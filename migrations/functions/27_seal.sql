/*
Sealing: what has settled becomes a member of a seal, which is chained to the one before. Nothing is chained when a batch
is settled: a seal takes what has committed by then, by name, and what commits later is a member of a later one.
*/

-- What the next seal would take, at most so many: batches by the time they were settled, then what happened outside a
-- batch, then changes. is_all: nothing is left over.
create or replace function retention._unsealed(
  p_most integer,
  out batches bigint[],
  out receipts bigint[],
  out changes bigint[],
  out is_all boolean
)
language plpgsql
stable
as $$
declare
  -- So many results are hashed within a second.
  v_most_results constant bigint := 100000;
  v_most_receipts integer;
  v_looked_at bigint;
begin
  select coalesce(array_agg(w.batch_id) filter (where w.before < v_most_results), '{}'), count(*)
  into strict batches, v_looked_at
  from (
    select b.batch_id, sum(b.results) over (order by b.settled_at, b.batch_id rows unbounded preceding) - b.results as before
    from (
      select u.batch_id, u.settled_at, u.cleared as results
      from retention.batch u
      where u.seal_id is null
        and u.settled_at is not null
        and u.cleared > 0
      order by u.settled_at
      limit p_most
    ) b
  ) w;
  v_most_receipts := greatest(least(p_most - cardinality(batches), v_most_results / 1000), 1);
  receipts := array(
    select r.receipt_id
    from retention.receipt r
    where r.seal_id is null
    order by r.settled_at
    limit v_most_receipts
  );
  changes := array(
    select c.change_id
    from retention.change c
    where c.seal_id is null
    order by c.change_id
    limit p_most
  );
  is_all := v_looked_at < p_most
    and cardinality(batches) = v_looked_at
    and cardinality(receipts) < v_most_receipts
    and cardinality(changes) < p_most;
end
$$;

-- Up to when everything that was settled is covered, if a seal is made with this snapshot. A transaction that is open
-- may have settled before and commit later; so it is the time of this seal where none is, else that of the latest seal
-- of which every such transaction has ended. One second less: a clock that is set back a little adds nothing.
create or replace function retention._complete_to(p_sealed_at timestamptz, p_snapshot pg_snapshot, p_system text)
returns timestamptz
language sql
stable
as $$
  select case
    when not exists (
      select from pg_snapshot_xip(p_snapshot) x where x is distinct from pg_current_xact_id_if_assigned()
    ) then p_sealed_at
    else (
      select s.sealed_at
      from retention.seal s
      where s.snapshot_xmax <= pg_snapshot_xmin(p_snapshot)
        and s.system_identifier is not distinct from p_system
        and s.sealed_at <= p_sealed_at
      order by s.seal_id desc
      limit 1
    )
  end - interval '1 second'
$$;

-- Makes one seal of what has settled, of at most so many receipts, and announces it. False: there is nothing to seal, or
-- this may be a copy of another database: its seals would have the numbers of those that go on there.
-- The caller has locked the row of retention.seal_head.
create or replace function retention._seal_once(p_most integer default 500)
returns boolean
language plpgsql
set timezone = 'UTC'
set jit = off
set max_parallel_workers_per_gather = 0
as $$
declare
  -- Before the snapshot is taken: what is settled later is not claimed to be covered.
  v_sealed_at timestamptz := case
    when current_setting('transaction_isolation') = 'read committed' then clock_timestamp()
    else transaction_timestamp()
  end;
  v_snapshot pg_snapshot := pg_current_snapshot();
  v_system text := (select n.system_identifier from retention._identity_now() n);
  v_head retention.seal_head;
  v_before retention.seal;
  v_new record;
  v_made record;
  v_seal_id bigint;
  v_complete_to timestamptz;
  v_digest bytea;
begin
  select * into v_new from retention._unsealed(p_most);
  if cardinality(v_new.batches || v_new.receipts || v_new.changes) = 0 or exists (select from retention._copy_reason()) then
    return false;
  end if;
  select * into strict v_head from retention.seal_head;
  select * into v_before from retention.seal s where s.seal_id = v_head.seal_id;
  v_seal_id := v_head.seal_id + 1;
  v_complete_to := case when v_new.is_all then retention._complete_to(v_sealed_at, v_snapshot, v_system) end;
  -- It grows, unless the clock was set back.
  if v_before.complete_to < v_sealed_at then
    v_complete_to := greatest(v_before.complete_to, v_complete_to);
  end if;

  if (select s.receipt_keys = 'hashed' from retention.setting s) then
    perform retention._hash_keys(v_new.batches, v_new.receipts);
  end if;
  with batches as (
    update retention.batch b
    set salt = coalesce(b.salt, uuid_send(gen_random_uuid())),
      seal_id = v_seal_id
    where b.batch_id = any (v_new.batches)
    returning 'batch' as source, b.batch_id as id, coalesce(b.why, 'policy') as kind, b.bucket, b.cleared as results,
      b.settled_at, b.request_ids, b.asked_by, b.revision, b.settled_session, b.product, b.salt, b.run_ids,
      retention._kept_keys(b.keys, b.key_digests) as keys,
      b.tenants, b.ends, b.versions, b.policies
  ),
  receipts as (
    update retention.receipt r
    set salt = coalesce(r.salt, uuid_send(gen_random_uuid())),
      seal_id = v_seal_id
    where r.receipt_id = any (v_new.receipts)
    returning 'receipt' as source, r.receipt_id as id, r.kind, r.bucket, r.results, r.settled_at, r.request_ids,
      r.asked_by, r.revision, r.settled_session, r.product, r.salt, r.run_ids,
      retention._kept_keys(r.keys, r.key_digests), r.tenants, r.ends, r.versions, null::jsonb
  ),
  changes as (
    update retention.change c
    set seal_id = v_seal_id
    where c.change_id = any (v_new.changes)
    returning c.change_id as id, retention._change_digest(c.salt, retention._change_text(c)) as digest
  ),
  members as (
    select case r.source when 'batch' then 1 else 2 end as part, r.id, r.results,
      retention._receipt_digest(
        retention._receipt_header(
          r.source, r.id, r.kind, r.bucket, r.settled_at, r.request_ids, r.asked_by, r.revision, r.settled_session,
          r.product
        ),
        g.groups
      ) as digest
    from (select * from batches union all select * from receipts) r
    cross join lateral (
      select string_agg(x.digest, null order by x.digest) as groups
      from retention._groups(r.salt, r.run_ids, r.keys, r.tenants, r.ends, r.versions, r.policies) x
    ) g
    union all
    select 3, c.id, 0, c.digest
    from changes c
  )
  select coalesce(array_agg(m.id order by m.id) filter (where m.part = 1), '{}') as batches,
    coalesce(array_agg(m.id order by m.id) filter (where m.part = 2), '{}') as receipts,
    coalesce(array_agg(m.id order by m.id) filter (where m.part = 3), '{}') as changes,
    sum(m.results) as results,
    string_agg(m.digest, null order by m.part, m.id) as digests
  into strict v_made
  from members m;

  v_digest := retention._seal_digest(
    v_head.digest, retention._seal_header(v_seal_id, v_sealed_at, v_complete_to), v_made.digests
  );
  insert into retention.seal (
    seal_id, sealed_at, complete_to, snapshot_xmin, snapshot_xmax, system_identifier, batches, receipts, changes, results,
    digests, previous, digest
  )
  values (
    v_seal_id, v_sealed_at, v_complete_to, pg_snapshot_xmin(v_snapshot), pg_snapshot_xmax(v_snapshot), v_system,
    v_made.batches, v_made.receipts, v_made.changes, v_made.results, v_made.digests, v_head.digest, v_digest
  );
  update retention.seal_head
  set seal_id = v_seal_id,
    digest = v_digest,
    sealed_at = v_sealed_at;
  perform retention._tell('sealed', retention._head(v_seal_id));
  return true;
end
$$;

-- One seal as what leaves the database.
create or replace function retention._head(p_seal_id bigint)
returns json
language sql
stable
as $$
  select row_to_json(h)
  from (
    select s.seal_id as seal,
      encode(s.digest, 'hex') as digest,
      encode(s.previous, 'hex') as previous,
      retention._iso_exactly(s.sealed_at) as sealed_at,
      (select i.fence from retention.identity i) as database
    from retention.seal s
    where s.seal_id = p_seal_id
  ) h
$$;

-- Seals for a few seconds at most. What fails is a warning, and written down in retention.seal_head. Does nothing while
-- another session seals. Called by tick alone.
create or replace function retention._seal_in_tick()
returns void
language plpgsql
as $$
declare
  v_until timestamptz := clock_timestamp() + interval '3 seconds';
  v_problem text;
begin
  -- On most ticks of a quiet database there is nothing: three looks at the end of an index.
  if cardinality((select u.batches || u.receipts || u.changes from retention._unsealed(1) u)) = 0 then
    return;
  end if;
  perform from retention.seal_head for update skip locked;
  if not found then
    return;
  end if;
  begin
    while retention._seal_once() loop
      exit when clock_timestamp() >= v_until;
    end loop;
  exception
    when query_canceled or assert_failure or others then
      v_problem := format('%s %s', sqlstate, left(sqlerrm, 500));
  end;
  update retention.seal_head
  set problem = v_problem,
    problem_at = case when v_problem is not null then clock_timestamp() end
  where problem is distinct from v_problem
    or v_problem is not null;
  if v_problem is not null then
    raise warning 'sealing failed: %', v_problem;
  end if;
end
$$;

-- Seals what has settled, some 100,000 results at a time, and does not wait for the next tick. seal_id: the latest seal
-- afterwards; 0: there is none. more: something is left, so call it again.
-- For the listener.
-- Locks the row of retention.seal_head, and waits for who seals.
create or replace function retention.seal_now(out seal_id bigint, out more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  perform from retention.seal_head for update;
  more := retention._seal_once();
  if more then
    update retention.seal_head h set problem = null, problem_at = null where h.problem is not null;
    more := cardinality((select u.batches || u.receipts || u.changes from retention._unsealed(1) u)) > 0;
  end if;
  seal_id := (select h.seal_id from retention.seal_head h);
end
$$;

-- The heads of the seals after p_after, oldest first, at most p_limit of them; p_after null: the latest alone. As what
-- leaves the database: {"seal", "digest", "previous", "sealed_at", "database"}.
-- For observers.
create or replace function retention.list_heads(p_after bigint default null, p_limit integer default 100)
returns setof json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select retention._head(s.seal_id)
  from (
    select s.seal_id
    from retention.seal s
    where case when p_after is null then s.seal_id = (select h.seal_id from retention.seal_head h) else s.seal_id > p_after end
    order by s.seal_id
    limit greatest(p_limit, 0)
  ) s
$$;
