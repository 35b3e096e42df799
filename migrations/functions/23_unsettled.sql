/*
What is flagged and not settled: why, and until when.
*/

-- What is flagged and waits, by bucket, reason and until when (null: nothing says when). kind is one of: dead,
-- unstamped, leased, not allowed, paused, ceiling, failed, cooling, later, visible. reason says it in words. Without
-- arguments, everything. p_batch_ids: what flag_selected returned, and what was split off it. p_tenant_id and
-- p_run_ids: results of this tenant and of these runs, in whatever batch they are. p_buckets: the buckets that the
-- asking process may delete from; by default any. Leased batches are among them: a listener works on them. It reads
-- the batches that are not settled.
-- For observers.
-- Raises invalid_parameter_value for an empty text, and for a text that cannot be a run id.
create or replace function retention.unsettled(
  p_batch_ids bigint[] default null,
  p_tenant_id text default null,
  p_run_ids text[] default null,
  p_buckets text[] default null
)
returns table (bucket text, kind text, reason text, until timestamptz, results bigint)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
#variable_conflict use_column
declare
  v_run_ids retention.run_id[] := array(select retention._read_run_id(i) from unnest(p_run_ids) i);
  v_flagged_at timestamptz := (select b.flagged_at from retention.batch b where b.batch_id = p_batch_ids[1]);
begin
  perform retention._check_narrowing(p_run_ids, p_tenant_id);
  return query
  with known as materialized (
    select o.bucket, o.pause_code, o.pause_error, o.paused_until,
      retention._ceiling_words(o) as ceiling,
      case when retention._ceiling_words(o) is not null then retention._ceiling_until(o) end as ceiling_until
    from retention.bucket o
  )
  select w.bucket,
    w.kind,
    case w.kind
      when 'dead' then 'dead: ' || retention._said(w.code, w.error)
      when 'unstamped' then 'deleted, and not stamped yet: ' || retention._said(w.code, w.error)
      when 'leased' then format('%s works on it', coalesce(w.leased_by, 'a listener'))
      when 'not allowed' then 'bucket not allowed: S3_RESULT_BUCKET, as it is set here, does not list it'
      when 'paused' then 'the bucket pauses: ' || retention._said(w.pause_code, w.pause_error)
      when 'ceiling' then 'the bucket is at its ceiling: ' || w.ceiling
      when 'failed' then 'failed: ' || retention._said(w.code, w.error)
      when 'cooling' then 'it waits for its cool-off'
      when 'later' then 'it waits for its next attempt'
      else case
        when exists (select from retention.gate()) then (select string_agg(g.because, '; ') from retention.gate() g)
        when min(w.visible_at) < clock_timestamp() - interval '5 minutes'
        then 'no listener has taken it up: is the bucket in the S3_RESULT_BUCKET of one?'
        else 'it waits for a listener'
      end
    end,
    case
      when w.kind = 'paused' then greatest(w.paused_until, min(w.visible_at))
      when w.kind = 'ceiling' then w.ceiling_until
      when w.kind in ('unstamped', 'leased', 'failed', 'cooling', 'later') then min(w.visible_at)
    end,
    sum(w.results)::bigint
  from (
    select b.bucket,
      case
        when b.dead_at is not null then 'dead'
        when b.deleted_at is not null then 'unstamped'
        when b.lease is not null and b.visible_at > clock_timestamp() then 'leased'
        when p_buckets is not null and b.bucket <> all (p_buckets) then 'not allowed'
        when k.paused_until > clock_timestamp() then 'paused'
        when b.visible_at <= clock_timestamp() and k.ceiling_until > clock_timestamp() then 'ceiling'
        when b.visible_at <= clock_timestamp() then 'visible'
        when b.failed_at is not null then 'failed'
        when retention._is_cooling(b.flagged_at, b.visible_at, b.failed_at, b.early) then 'cooling'
        else 'later'
      end as kind,
      case when b.dead_at is not null or b.deleted_at is not null or b.visible_at > clock_timestamp() and b.lease is null then b.code end as code,
      case when b.dead_at is not null or b.deleted_at is not null or b.visible_at > clock_timestamp() and b.lease is null then b.error end as error,
      case when b.visible_at > clock_timestamp() then b.leased_by end as leased_by,
      k.pause_code,
      k.pause_error,
      k.paused_until,
      k.ceiling,
      k.ceiling_until,
      b.visible_at,
      case
        when p_tenant_id is null and p_run_ids is null then b.results
        else (
          select count(*)
          from unnest(b.run_ids, b.tenants) as u (run_id, tenant_id)
          where (p_tenant_id is null or u.tenant_id = p_tenant_id)
            and (p_run_ids is null or u.run_id in (select unnest(v_run_ids)))
        )
      end as results
    from retention.batch b
    left join known k on k.bucket = b.bucket
    where b.settled_at is null
      and (p_batch_ids is null or b.batch_id = any (p_batch_ids) or b.flagged_at = v_flagged_at)
  ) w
  where w.results > 0
  group by w.bucket, w.kind, w.code, w.error, w.leased_by, w.pause_code, w.pause_error, w.paused_until, w.ceiling, w.ceiling_until
  order by w.bucket, w.kind, 4, 3;
end
$$;
