/*
What waits: its causes, each with how many results wait for it, until when, and what a person can do.
*/

-- Why results that are due or flagged do not go at this moment: what closes the gate, what keeps the next pass from
-- coming, buckets that pause, failed and dead results by bucket and code, surges, policies that wait for a confirmation,
-- holds, what keepers have, objects that have changed, and rows that name no object. results is null where nothing was
-- counted. ends_at: when it ends by itself;
-- null: it waits for a person. At most p_limit rows of each kind. Cheap at any size. For observers.
create or replace function retention.wait_causes(p_limit integer default 10)
returns table (what text, results bigint, because text, ends_at timestamptz, remedy text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set jit = off
as $$
  select 'everything', null::bigint, g.because || coalesce(', since ' || retention._iso(g.since), ''),
    null::timestamptz, g.remedy
  from retention.gate() g
  union all
  select 'the next pass', null, n.because, null, null
  from retention.next_pass() n
  where n.comes_at is null
    and not exists (select from retention.gate())
  union all
  select 'the tick', null, 'the last one ran into this, and went on: ' || concat_ws('; ', h.pass_problem, h.clean_up_problem, 'sealing: ' || s.problem),
    null, 'fix what the message names; the next tick tries again'
  from retention.heartbeat h
  cross join retention.seal_head s
  where num_nonnulls(h.pass_problem, h.clean_up_problem, s.problem) > 0
  union all
  select 'seals in bucket ' || c.bucket, null,
    format('those from %s on are not written there: %s', c.written_to + 1, c.problem), null,
    'fix what the message names; a listener tries again'
  from retention.seal_copy c
  where c.problem is not null
    and c.looked_at > now() - interval '1 day'
  union all
  (
    select format('bucket %s', k.bucket), w.results, 'pauses after ' || retention._said(k.pause_code, k.pause_error),
      k.paused_until, null
    from retention.bucket k
    cross join lateral (
      select coalesce(sum(b.results), 0)::bigint as results
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
    ) w
    where k.paused_until > now()
    order by w.results desc, k.bucket
    limit p_limit
  )
  union all
  (
    select format('bucket %s', k.bucket), w.results, 'its ceiling lets ' || retention._ceiling_words(k) || ' go', null,
      'retention bucket set'
    from retention.bucket k
    cross join lateral (
      select sum(b.results)::bigint as results
      from retention.batch b
      where b.bucket = k.bucket
        and b.settled_at is null
        and b.dead_at is null
        and b.deleted_at is null
        and b.lease is null
        and b.visible_at <= now()
    ) w
    where num_nonnulls(k.max_per_second, k.max_in_flight) > 0
      and w.results > 0
    order by w.results desc, k.bucket
    limit p_limit
  )
  union all
  select 'the cool-off', c.results, 'the first of them may go then', c.first_at, null
  from retention.cooling() c
  where c.results > 0
  union all
  (
    select format('%s in bucket %s', t.state, t.bucket), t.results, retention._said(t.code, t.error),
      t.next_attempt_at,
      case when t.state = 'dead' then 'fix the cause, then: retention retry --all' end
    from retention.troubles(p_limit) t
  )
  union all
  (
    select coalesce(format('surge %s', g.surge_id), 'late results'), g.results, g.because, null, g.remedy
    from retention.list_surges() g
    order by g.surge_id
    limit p_limit
  )
  union all
  (
    select format('the policy of tenant %s', p.tenant_id), p.pending_results,
      format('%s instead of %s would make them due at once; asked for by %s', p.pending_retain, p.retain, p.pending_by),
      null, 'retention policy confirm'
    from retention.policy p
    where p.pending_retain is not null
    order by p.pending_at, p.tenant_id
    limit p_limit
  )
  union all
  select 'holds', null, format('%s in force, on runs and on tenants', h.holds), nullif(h.first_end, 'infinity'),
    'retention hold list'
  from (
    select count(*) as holds, min(retention._hold_end(o.released_at, o.expires_at)) as first_end
    from retention.hold o
    where retention._hold_end(o.released_at, o.expires_at) > now()
  ) h
  where h.holds > 0
  union all
  (
    select format('keeper %s', n.kept_by), count(*), 'its rows need the objects', nullif(min(n.until), 'infinity'),
      'retention keeper list'
    from retention.spared_object n
    where n.kept_by is not null
      and n.until > now()
    group by n.kept_by
    order by count(*) desc, n.kept_by
    limit p_limit
  )
  union all
  (
    select format('changed objects in bucket %s', n.bucket), count(*),
      format('S3 holds another version than the etag of the row names, for example of %s', min(n.key)), min(n.until),
      'correct the etags of the rows; where the runs are to keep the new objects, their date'
    from retention.spared_object n
    where n.kept_by is null
      and n.until > now()
    group by n.bucket
    order by count(*) desc, n.bucket
    limit p_limit
  )
  union all
  (
    select 'rows without an object', s.without_place::bigint,
      format('due, but no bucket or key is named, as a pass of %s saw it: %s', retention._iso(s.started_at),
        array_to_string(s.without_place_run_ids, ', ')),
      null, 'set bucket and key in the rows'
    from retention.scan s
    where s.started_at > now() - interval '1 day'
      and s.without_place > 0
    order by s.started_at desc
    limit 1
  )
$$;
