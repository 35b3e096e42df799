/*
Announcements: NOTIFY is a hint, and these tables are the truth. The triggers are statement-level, on tables of
this schema only, and silent for zero rows. A full queue would fail the transaction at its commit, and a stamp
matters more than a hint: past half of the queue they fall silent.
*/

-- Announces batches that may be claimed now (retention_expired) and dead ones (retention_attention).
-- Retries keep silent: their time comes without a hint.
create or replace function retention._announce_batches()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention._tell('dead', row_to_json(p))
  from (
    select 'dead' as kind,
      left(m.bucket, 63) as bucket,
      left(m.code, 64) as code,
      sum(m.results) as results
    from made m
    where m.dead_at is not null
    group by m.bucket, m.code
    limit 10
  ) p;
  if pg_notification_queue_usage() > 0.5 then
    return null;
  end if;
  perform pg_notify('retention_expired', row_to_json(p)::text)
  from (
    select count(*) as batches,
      sum(m.results) as results,
      (array_agg(distinct left(m.bucket, 63)))[1:8] as buckets,
      retention._iso(min(m.oldest)) as oldest
    from made m
    where m.visible_at <= now()
      and m.settled_at is null
      and m.dead_at is null
    having count(*) > 0
  ) p;
  return null;
end
$$;

-- Announces what became of batches: claimable again (retention_expired), settled (retention_cleared), failed
-- (retention_failed).
create or replace function retention._announce_change()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_batch record;
begin
  if pg_notification_queue_usage() > 0.5 then
    return null;
  end if;
  for v_batch in
    select a.*,
      a.settled_at is not null and b.settled_at is null as is_settled,
      a.settled_at is null
        and a.dead_at is null
        and a.visible_at <= now()
        and (b.lease is not null or b.dead_at is not null or b.visible_at > now()) as is_back,
      a.problems is not null and a.problems is distinct from b.problems as has_problems
    from after a
    join before b on b.batch_id = a.batch_id
    where a.lease is null
      and a.seal_id is null
  loop
    if v_batch.is_back then
      perform pg_notify('retention_expired', row_to_json(p)::text)
      from (
        select 1 as batches,
          v_batch.results as results,
          array[left(v_batch.bucket, 63)] as buckets,
          retention._iso(v_batch.oldest) as oldest
      ) p;
    end if;
    if v_batch.is_settled and v_batch.cleared + v_batch.spared > 0 then
      perform pg_notify('retention_cleared', row_to_json(p)::text)
      from (
        select v_batch.batch_id as batch,
          left(v_batch.bucket, 63) as bucket,
          v_batch.cleared as cleared,
          v_batch.spared as spared,
          v_batch.failed + v_batch.dead as failed,
          coalesce(v_batch.ms, 0) as ms
      ) p;
    end if;
    if v_batch.has_problems then
      perform pg_notify('retention_failed', row_to_json(p)::text)
      from (
        select v_batch.batch_id as batch,
          left(v_batch.bucket, 63) as bucket,
          left(j.problem ->> 'code', 64) as code,
          (j.problem ->> 'results')::integer as results,
          array(select left(i, 64) from jsonb_array_elements_text(j.problem -> 'run_ids') i) as run_ids,
          j.problem ->> 'retry_at' as retry_at
        from jsonb_array_elements(v_batch.problems) as j (problem)
        limit 10
      ) p;
    end if;
  end loop;
  return null;
end
$$;

create or replace trigger announce_batches
after insert on retention.batch
referencing new table as made
for each statement
execute function retention._announce_batches();

create or replace trigger announce_change
after update on retention.batch
referencing old table as before new table as after
for each statement
execute function retention._announce_change();
