/*
Stamps are accounted for: each stamp has a receipt, and each receipt a stamp. What has only one of the two is counted by
what it is. Nothing of this breaks a seal: rows are the application's, and receipts say what was deleted.
*/

-- What a kind of account_stamps means, and what a person can do.
create or replace function retention._account_words(p_kind text, out because text, out remedy text)
language sql
stable
as $$
  select case p_kind
      when 'accounted' then 'stamped, and a receipt says that the object went'
      when 'no_receipt' then 'stamped, and no receipt says that the object which the row names went: stamped by hand or by another program, or the row names another object since'
      when 'before_adoption' then format('stamped before %s, when this schema was adopted; it has no receipts of that time', retention._iso(i.adopted_at))
      when 'receipt_pruned' then format('stamped longer ago than receipts are kept (%s)', s.receipts_kept)
      when 'no_stamp' then 'a receipt says that the object went, and the row is as it was then, without a stamp: it was taken away by hand, or the row was put back from a backup'
      when 'no_row' then 'a receipt says that the object went, and the application has deleted the row since'
      when 'another_result' then 'a receipt says that the object went, and the row has another result since'
      when 'returned' then 'a receipt says that the object went, and a later one that it is back: restored, found by a verify, or the stamp was taken away by retention.unstamp'
    end,
    case p_kind
      when 'no_receipt' then 'retention verify --dry-run says whether the objects are there'
      when 'no_stamp' then 'nothing, where they fall due again: they are then deleted once more and stamped. retention verify stamps those whose object is gone'
    end
  from retention.identity i
  cross join retention.setting s
$$;

-- Holds stamps against receipts, and counts by kind: accounted; no_receipt, before_adoption and receipt_pruned (a stamp
-- without a receipt); no_stamp, no_row, another_result and returned (a receipt without a stamp). because says each in
-- words, remedy what a person can do, and run_ids names up to ten runs of what is not as usual. p_from and p_to: only
-- stamps and receipts from p_from on and before p_to, so that consecutive stretches add up but for results that were deleted
-- twice; by default all, which is what status shows afterwards. It reads the whole table once for each stretch, and keeps no more in memory for more rows.
-- For observers.
-- Raises object_not_in_prerequisite_state while the table is detached, and invalid_parameter_value where p_to is not after
-- p_from.
create or replace function retention.account_stamps(p_from timestamptz default null, p_to timestamptz default null)
returns table (kind text, results bigint, run_ids text[], because text, remedy text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
-- What does not fit goes to temporary files.
set work_mem = '32MB'
set enable_sort = off
as $$
#variable_conflict use_column
declare
  v_kinds text[] := array[
    'accounted', 'no_receipt', 'before_adoption', 'receipt_pruned', 'no_stamp', 'no_row', 'another_result', 'returned'
  ];
  v_counts bigint[] := array_fill(0::bigint, array[8]);
  v_runs jsonb := '{}';
  v_found record;
  v_place integer;
  v_counted_at timestamptz := clock_timestamp();
begin
  if to_regclass('retention.result') is null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'stamps cannot be counted while the table is detached',
      hint = 'Attach it first: select retention.attach(), or retention migrate up';
  end if;
  if p_to <= p_from then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('expected an end after the beginning, given: from %s to %s', p_from, p_to);
  end if;
  for v_found in
    -- Two runs of each of many heaps: the first ten of millions without keeping millions.
    select j.kind,
      count(*) as results,
      case when j.kind <> 'accounted' then array[min(j.run_id::text), max(j.run_id::text)] end as run_ids
    from retention._judge_stamps(p_from, p_to) j
    group by j.kind, case when j.kind <> 'accounted' then hashtext(j.run_id::text) & 4095 end
  loop
    v_place := array_position(v_kinds, v_found.kind);
    v_counts[v_place] := v_counts[v_place] + v_found.results;
    if jsonb_array_length(coalesce(v_runs -> v_found.kind, '[]')) < 10 and v_found.run_ids[1] is not null then
      v_runs := jsonb_set(
        v_runs, array[v_found.kind],
        coalesce(v_runs -> v_found.kind, '[]') || to_jsonb(v_found.run_ids[1:least(v_found.results, 2)])
      );
    end if;
  end loop;
  if p_from is null and p_to is null and not current_setting('transaction_read_only')::boolean then
    insert into retention.stamp_account as a (kind, results, run_ids, counted_at)
    select v_kinds[n], v_counts[n], array(select jsonb_array_elements_text(v_runs -> v_kinds[n])), v_counted_at
    from generate_series(1, cardinality(v_kinds)) n
    on conflict (kind) do update
    set results = excluded.results,
      run_ids = excluded.run_ids,
      counted_at = excluded.counted_at,
      counted_by = excluded.counted_by;
  end if;
  return query
  select v_kinds[n], v_counts[n], array(select jsonb_array_elements_text(v_runs -> v_kinds[n]) order by 1), w.because, w.remedy
  from generate_series(1, cardinality(v_kinds)) n
  cross join lateral retention._account_words(v_kinds[n]) w
  order by n;
end
$$;

-- Every result that is stamped or has a receipt, with its kind: see account_stamps. A result is a run and its key; a row
-- that names no bucket counts for any, since the default may have changed.
create or replace function retention._judge_stamps(p_from timestamptz, p_to timestamptz)
returns table (run_id retention.run_id, kind text)
language sql
stable
as $$
  with event as (
    -- A stamp has the time at which its transaction began, and its receipt the time of the statement: a day lies between
    -- at most.
    select u.run_id,
      hashtextextended(retention._unpack_key(u.key, u.run_id::text), 0) as key,
      hashtext(b.bucket) as bucket,
      b.settled_at as gone_at,
      b.newest,
      null::timestamptz as back_at,
      null::timestamptz as stamped_at
    from retention.batch b
    cross join unnest(b.run_ids, b.keys) as u (run_id, key)
    where b.settled_at is not null
      and b.cleared > 0
      and (p_from is null or b.settled_at >= p_from - interval '1 day')
      and (p_to is null or b.settled_at < p_to + interval '1 day')
    union all
    select u.run_id,
      hashtextextended(retention._unpack_key(u.key, u.run_id::text), 0),
      hashtext(r.bucket),
      case when r.kind = 'found_gone' then r.settled_at end,
      r.settled_at,
      case when r.kind <> 'found_gone' then r.settled_at end,
      null
    from retention.receipt r
    cross join unnest(r.run_ids, r.keys) as u (run_id, key)
    where r.kind not in ('orphan', 'canary')
    union all
    select s.run_id, hashtextextended(s.key::text, 0), hashtext(nullif(s.bucket, '')), null, null, null, s.cleared_at
    from retention.result s
    where s.cleared_at is not null
      and (p_from is null or s.cleared_at >= p_from - interval '1 day')
      and (p_to is null or s.cleared_at < p_to + interval '1 day')
  ),
  result as (
    select e.run_id,
      e.key,
      max(e.gone_at) as gone_at,
      max(e.newest) as newest,
      max(e.back_at) as back_at,
      max(e.stamped_at) as stamped_at,
      max(e.bucket) filter (where e.stamped_at is not null) as bucket,
      min(e.bucket) filter (where e.gone_at is not null) as first_bucket,
      max(e.bucket) filter (where e.gone_at is not null) as last_bucket
    from event e
    group by e.run_id, e.key
  )
  select x.run_id,
    case
      when x.stamped_at is not null and x.gone_at > coalesce(x.back_at, '-infinity')
        and (x.bucket is null or x.bucket in (x.first_bucket, x.last_bucket))
      then 'accounted'
      when x.stamped_at < i.adopted_at then 'before_adoption'
      when x.stamped_at < now() - s.receipts_kept then 'receipt_pruned'
      when x.stamped_at is not null then 'no_receipt'
      when x.back_at >= coalesce(x.gone_at, '-infinity') then 'returned'
      else (
        select case
          when count(*) = 0 then 'no_row'
          -- Its stamp was given another time.
          when bool_or(hashtextextended(r.key::text, 0) = x.key and r.cleared_at is not null) then 'accounted'
          when bool_or(
            hashtextextended(r.key::text, 0) = x.key
            and coalesce(hashtext(nullif(r.bucket, '')) in (x.first_bucket, x.last_bucket), true)
            and r.status::text = coalesce(a.columns -> 'status' ->> 'completed', 'COMPLETED')
            and r.completed_at <= x.newest
          )
          then 'no_stamp'
          else 'another_result'
        end
        from retention.result r
        where r.run_id = x.run_id
      )
    end
  from result x
  cross join retention.identity i
  cross join retention.setting s
  cross join retention.adapter a
  where (p_from is null or coalesce(x.stamped_at, greatest(x.gone_at, x.back_at)) >= p_from)
    and (p_to is null or coalesce(x.stamped_at, greatest(x.gone_at, x.back_at)) < p_to)
$$;
