/*
Which batch a claim takes: whose turn it is among the buckets, and within one.
*/

-- The first visible batch of a bucket that no other claim has, locked; null: there is none. The others: see _next_batch.
create or replace function retention._first_batch(p_bucket text, p_batch_ids bigint[])
returns bigint
language plpgsql
as $$
declare
  v_batch_id bigint;
begin
  if p_batch_ids is null then
    select b.batch_id
    into v_batch_id
    from retention.batch b
    where b.bucket = p_bucket
      and b.settled_at is null
      and b.dead_at is null
      and b.deleted_at is null
      and b.visible_at <= clock_timestamp()
      and (b.early is null or b.flagged_at not in (select c.flagged_at from retention.cutoff c where c.until > now()))
    order by b.visible_at, b.batch_id
    limit 1
    for update skip locked;
    return v_batch_id;
  end if;
  select b.batch_id
  into v_batch_id
  from retention.batch b
  where b.batch_id = any (p_batch_ids)
    and b.bucket = p_bucket
    and b.settled_at is null
    and b.dead_at is null
    and b.deleted_at is null
    and b.visible_at <= clock_timestamp()
  order by b.visible_at, b.batch_id
  limit 1
  for update skip locked;
  if not found then
    -- What was split off keeps the moment of flagging, which no other command has.
    select b.batch_id
    into v_batch_id
    from retention.batch b
    where b.bucket = p_bucket
      and b.flagged_at = (select f.flagged_at from retention.batch f where f.batch_id = p_batch_ids[1])
      and b.settled_at is null
      and b.dead_at is null
      and b.visible_at <= clock_timestamp()
    order by b.visible_at, b.batch_id
    limit 1
    for update skip locked;
  end if;
  return v_batch_id;
end
$$;

-- Picks the batch to work on next and locks its row, or returns null. The bucket with the fewest
-- batches in flight goes first, so that no bucket waits behind another's backlog. A bucket that is
-- paused or at its ceiling is passed by; one that was paused, and has not yet succeeded, gets one batch at a time.
-- p_batch_ids: of these only, and of what was split off them. p_buckets: of these only. Null does not narrow.
create or replace function retention._next_batch(p_batch_ids bigint[], p_buckets text[])
returns bigint
language plpgsql
as $$
declare
  v_bucket record;
  v_batch_id bigint;
  v_turn text;
  v_busy text;
  v_has_turn boolean := false;
begin
  for v_bucket in
    select k.bucket,
      k.pauses > 0 as is_on_trial,
      num_nonnulls(k.max_per_second, k.max_in_flight) > 0 as has_ceiling
    from retention.bucket k
    cross join lateral (
      select b.visible_at
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.deleted_at is null
        and b.visible_at <= clock_timestamp()
        and (b.early is null or p_batch_ids is not null or b.flagged_at not in (select c.flagged_at from retention.cutoff c where c.until > now()))
      order by b.visible_at
      limit 1
    ) first
    cross join lateral (
      select count(*) as batches
      from retention.batch b
      where b.bucket = k.bucket
        and b.lease is not null
    ) leased
    where (k.paused_until is null or k.paused_until <= clock_timestamp())
      and (p_buckets is null or k.bucket = any (p_buckets))
    order by leased.batches, first.visible_at
  loop
    if v_bucket.is_on_trial then
      perform
      from retention.bucket k
      where k.bucket = v_bucket.bucket
      for update skip locked;
      continue when not found or exists (
        select
        from retention.batch b
        where b.bucket = v_bucket.bucket
          and b.lease is not null
          and b.visible_at > clock_timestamp()
      );
    end if;
    if v_bucket.has_ceiling then
      v_turn := (select retention._take_pace(k) from retention.bucket k where k.bucket = v_bucket.bucket);
      v_has_turn := v_has_turn or v_turn = 'go';
      if v_turn = 'busy' and not v_bucket.is_on_trial then
        v_busy := coalesce(v_busy, v_bucket.bucket);
      end if;
      continue when v_turn <> 'go';
    end if;
    v_batch_id := retention._first_batch(v_bucket.bucket, p_batch_ids);
    if v_batch_id is not null then
      return v_batch_id;
    end if;
  end loop;
  -- With nothing else to do it waits for the claim that has the turn, which is done in milliseconds. Never with a turn of its
  -- own, which that one may wait for.
  if v_busy is not null
    and not v_has_turn
    and (select retention._take_pace(k, true) = 'go' from retention.bucket k where k.bucket = v_busy)
  then
    return retention._first_batch(v_busy, p_batch_ids);
  end if;
  return null;
end
$$;
