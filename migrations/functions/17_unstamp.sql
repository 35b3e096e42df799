/*
Stamps that are taken away, since the object is back: by a verify that has found it, by a restore, or by a person. Each
leaves a receipt, and the next deletion of the result says that it is another one.
*/

-- Takes the stamp from runs that were cleared before p_before. Returns how many. The application's triggers find what
-- they find when the application writes: see 10_stamp. Raises whatever they raise.
create or replace function retention._clear_stamps(p_run_ids retention.run_id[], p_before timestamptz)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
set enable_seqscan = off
as $$
declare
  v_path text := (select retention._application_path(a.application_path) from retention.adapter a);
  v_changed bigint;
begin
  perform set_config('search_path', v_path, true);
  update retention.result r
  set cleared_at = null
  where r.run_id operator(pg_catalog.=) any (p_run_ids)
    and r.cleared_at operator(pg_catalog.<) p_before;
  get diagnostics v_changed = row_count;
  set constraints all immediate;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  return v_changed;
end
$$;

-- Takes the stamp from runs that were cleared before p_before, writes their receipts, and notes that they have been back
-- (09_returned). p_kind: of the receipts. p_why: of their next deletion. p_version: what is in sight again; null: nothing
-- says. Returns how many. A row that another session has locked is waited for half a second at most. Raises whatever the
-- application's triggers raise.
create or replace function retention._unstamp(
  p_run_ids retention.run_id[],
  p_before timestamptz,
  p_kind text,
  p_why text,
  p_version text,
  p_client text
)
returns bigint
language plpgsql
set lock_timeout = '500ms'
set enable_seqscan = off
set enable_hashjoin = on
as $$
declare
  v_default_bucket text := (select s.default_bucket from retention.setting s);
  v_before retention.run_id[] := array(
    select r.run_id
    from retention.result r
    where r.run_id = any (p_run_ids)
      and r.cleared_at < p_before
    for no key update
  );
  v_part record;
  v_unstamped bigint := 0;
begin
  if v_before = '{}' then
    return 0;
  end if;
  perform retention._clear_stamps(v_before, p_before);
  for v_part in
    -- What a trigger has put back is no deed.
    select retention._bucket(r.bucket, v_default_bucket) as bucket,
      array_agg(r.run_id::retention.run_id order by r.run_id) as run_ids,
      array_agg(coalesce(r.key::text, '') order by r.run_id) as keys,
      array_agg(r.tenant_id::text order by r.run_id) as tenants
    from retention.result r
    where r.run_id = any (v_before)
      and r.cleared_at is null
    group by 1
  loop
    v_unstamped := v_unstamped + cardinality(v_part.run_ids);
    perform retention._write_receipts(
      p_kind, coalesce(v_part.bucket, ''), v_part.run_ids, v_part.keys, v_part.tenants, p_client,
      p_versions => case when p_version is not null then array_fill(p_version, array[cardinality(v_part.run_ids)]) end
    );
    insert into retention.returned_result (run_id, bucket, key, why)
    select distinct u.run_id, coalesce(v_part.bucket, ''), u.key, p_why
    from unnest(v_part.run_ids, v_part.keys) as u (run_id, key)
    on conflict (run_id, bucket, key) do update
    set why = excluded.why,
      noted_at = now();
  end loop;
  return v_unstamped;
end
$$;

-- Takes the stamp from rows that were cleared before p_started_at and whose object is back, so that they fall
-- due again. A row whose stamp cannot be taken is left out: the next verify finds it again. It reads the whole table
-- once. Each has a receipt (unstamped). p_client: the client's version. Returns how many rows.
-- For operators.
-- Locks the rows that it changes.
create or replace function retention.requeue_returned(
  p_verify_id uuid,
  p_started_at timestamptz,
  p_client text default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
-- One pass over the table. Whatever the statistics say of the strays, key by key it would be one for each.
set enable_nestloop = off
as $$
declare
  v_run_ids retention.run_id[] := array(
    select r.run_id
    from retention.stray s
    cross join retention.setting t
    join retention.result r on r.key = s.key collate "default"
      and retention._bucket(r.bucket, t.default_bucket) = s.bucket
    where s.verify_id = p_verify_id
      and s.kind = 'returned'
      and r.cleared_at < p_started_at
      and r.run_id is not null
  );
  v_some retention.run_id[];
  v_run_id retention.run_id;
  v_requeued bigint := 0;
begin
  for v_first in 1..cardinality(v_run_ids) by 1000 loop
    v_some := v_run_ids[v_first:v_first + 999];
    begin
      v_requeued := v_requeued + retention._unstamp(v_some, p_started_at, 'unstamped', 'verify', null, p_client);
    exception
      when others then
        foreach v_run_id in array v_some loop
          begin
            v_requeued := v_requeued + retention._unstamp(
              array[v_run_id], p_started_at, 'unstamped', 'verify', null, p_client
            );
          exception
            when others then
              raise warning 'the stamp of run % cannot be taken: %', v_run_id, sqlerrm;
          end;
        end loop;
    end;
  end loop;
  if v_requeued > 0 then
    delete from retention.progress;
    -- What the standing verify has found of it is repaired.
    update retention.standing_verify s
    set returned = greatest(s.returned - v_requeued, 0)
    where s.bucket in (select t.bucket from retention.stray t where t.verify_id = p_verify_id and t.kind = 'returned');
  end if;
  return v_requeued;
end
$$;

-- Takes the stamp from a run whose object was brought back. It has a receipt: restored where p_restored says that it was
-- brought back just now, with p_version in sight, and unstamped otherwise. p_client: the client's version. Returns false
-- when the run was not stamped.
-- For operators.
-- Locks the row of the run.
-- Raises invalid_parameter_value for what cannot be a run id.
create or replace function retention.unstamp(
  p_run_id text,
  p_restored boolean default false,
  p_version text default null,
  p_client text default null
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  return retention._unstamp(
    array[retention._read_run_id(p_run_id)],
    'infinity',
    case when p_restored then 'restored' else 'unstamped' end,
    'after_restore',
    p_version,
    p_client
  ) > 0;
end
$$;
