/*
Seals outside: each is written once as an object, by whichever listener comes first, and those that an outage has kept
from it are written later.
*/

-- The seals that are not yet an object in p_bucket, oldest first: as what leaves the database, and until when receipts of
-- that age are kept.
-- For the listener.
-- Once an hour it writes down that it was asked.
create or replace function retention.seals_to_write(p_bucket text, p_limit integer default 100)
returns table (head json, kept_until timestamptz)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  insert into retention.seal_copy as c (bucket)
  values (p_bucket)
  on conflict (bucket) do update
  set looked_at = excluded.looked_at
  where c.looked_at < now() - interval '1 hour';
  return query
  select retention._head(s.seal_id), s.sealed_at + t.receipts_kept
  from retention.seal s
  cross join retention.setting t
  where s.seal_id > (select c.written_to from retention.seal_copy c where c.bucket = p_bucket)
  order by s.seal_id
  limit greatest(p_limit, 0);
end
$$;

-- Notes that each seal up to p_to is an object in p_bucket, or why the one after it could not be written.
-- For the listener.
-- Locks the row of retention.seal_copy.
create or replace function retention.note_seals_written(p_bucket text, p_to bigint, p_problem text default null)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into retention.seal_copy as c (bucket, written_to, written_at, problem, problem_at)
  values (
    p_bucket, p_to, case when p_to > 0 then clock_timestamp() end, left(p_problem, 500),
    case when p_problem is not null then clock_timestamp() end
  )
  on conflict (bucket) do update
  set written_to = greatest(c.written_to, excluded.written_to),
    written_at = case when excluded.written_to > c.written_to then excluded.written_at else c.written_at end,
    looked_at = now(),
    problem = case when c.written_to <= excluded.written_to then excluded.problem else c.problem end,
    problem_at = case when c.written_to <= excluded.written_to then excluded.problem_at else c.problem_at end
$$;
