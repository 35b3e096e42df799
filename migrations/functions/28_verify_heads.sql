/*
Verifying beyond the seals themselves: that none is missing at the end, that nothing was added, that no result has two
receipts, and that the seals are those of which heads were kept outside.
*/

-- What is wrong beyond the seals themselves: the end was cut off, a receipt names a seal that is not there, or one that
-- is not sealed says it was settled when everything had been sealed, or the cycle cannot have written it. No row: nothing.
-- For observers.
create or replace function retention.verify_end()
returns table (kind text, seal_id bigint, member text, message text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with last as materialized (
    select s.seal_id, s.digest, s.complete_to from retention.seal s order by s.seal_id desc limit 1
  ),
  strangers as (
    select 'receipt batch-' || b.batch_id as name, b.seal_id, b.settled_at
    from retention.batch b
    where b.settled_at is not null
      and b.cleared > 0
      and (
        b.seal_id > (select coalesce(max(l.seal_id), 0) from last l)
        or b.seal_id < 1
        or b.seal_id is null and b.settled_at <= (select l.complete_to from last l)
      )
    union all
    select 'receipt receipt-' || r.receipt_id, r.seal_id, r.settled_at
    from retention.receipt r
    where r.seal_id > (select coalesce(max(l.seal_id), 0) from last l)
      or r.seal_id < 1
      or r.seal_id is null and r.settled_at <= (select l.complete_to from last l)
    union all
    select 'change ' || c.change_id, c.seal_id, c.at
    from retention.change c
    where c.seal_id > (select coalesce(max(l.seal_id), 0) from last l)
      or c.seal_id < 1
      or c.seal_id is null and c.at <= (select l.complete_to from last l)
  )
  select 'cut',
    h.seal_id,
    null,
    case
      when l.seal_id is null then format('the seals were cut off: there is none, and seal %s was the latest', h.seal_id)
      when h.seal_id > l.seal_id then
        format('the end was cut off: seal %s is the last one here, and seal %s was the latest', l.seal_id, h.seal_id)
      else format('seal %s was rewritten, or added: the latest was seal %s with another digest', l.seal_id, h.seal_id)
    end
  from retention.seal_head h
  full join last l on true
  where (h.seal_id, h.digest) is distinct from (coalesce(l.seal_id, 0), l.digest)
  union all
  select case when s.seal_id is null then 'added' else 'removed' end,
    s.seal_id,
    s.name,
    case
      when s.seal_id is null then format(
        '%s was added: it says %s, and all that was settled until %s had been sealed',
        s.name, retention._iso(s.settled_at), retention._iso((select l.complete_to from last l))
      )
      else format('%s belongs to seal %s, which is not here', s.name, s.seal_id)
    end
  from strangers s
  union all
  select 'added', i.seal_id, i.name, format('%s was added: %s', i.name, i.because)
  from retention._invented() i
  limit 10000
$$;

-- The latest seal that was made before p_at (0: there is none), and of those after it how many there are, with how many
-- results.
-- For observers.
create or replace function retention.seals_since(p_at timestamptz, out after bigint, out seals bigint, out results bigint)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select f.after, count(s.seal_id), coalesce(sum(s.results), 0)
  from (
    select coalesce(max(b.seal_id), 0) as after from retention.seal b where b.sealed_at < p_at
  ) f
  left join retention.seal s on s.seal_id > f.after
  group by f.after
$$;

-- Receipts that name the same result of the same bucket twice. was_known: it was flagged before the other was settled,
-- which the cycle does not do, so the later one was added; else the result was deleted again: its run was restored, or
-- written once more. At most 1,000 results. Hashes every receipt.
-- For observers.
create or replace function retention.verify_repeats()
returns table (run_id text, bucket text, key text, first_receipt text, later_receipt text, was_known boolean)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set max_parallel_workers_per_gather = 0
as $$
declare
  v_hashes bigint[];
begin
  select coalesce(array_agg(h.hash), '{}')
  into strict v_hashes
  from (
    select hashtextextended(u.run_id::text || ' ' || retention._known_key(u.key, u.run_id, b.salt, u.n), hashtext(b.bucket))
        as hash
    from retention.batch b
    cross join lateral unnest(b.run_ids, retention._kept_keys(b.keys, b.key_digests)) with ordinality as u (run_id, key, n)
    where b.settled_at is not null
      and b.cleared > 0
    group by 1
    having count(*) > 1
    limit 1000
  ) h;
  if v_hashes = '{}' then
    return;
  end if;
  return query
  select w.run_id, w.bucket, w.key, 'batch-' || w.before_id, 'batch-' || w.batch_id,
    w.flagged_at < w.before_at
  from (
    select u.run_id, b.bucket, u.key, b.batch_id, b.flagged_at,
      lag(b.batch_id) over same as before_id,
      lag(b.settled_at) over same as before_at
    from retention.batch b
    cross join lateral (
      select e.run_id::text as run_id, retention._known_key(e.key, e.run_id, b.salt, e.n) as key
      from unnest(b.run_ids, retention._kept_keys(b.keys, b.key_digests)) with ordinality as e (run_id, key, n)
      offset 0
    ) u
    where b.settled_at is not null
      and b.cleared > 0
      and hashtextextended(u.run_id || ' ' || u.key, hashtext(b.bucket)) in (select unnest(v_hashes))
    window same as (partition by u.run_id, b.bucket, u.key order by b.settled_at, b.batch_id)
  ) w
  where w.before_id is not null
  limit 1000;
end
$$;

-- What a head that was kept outside says of the seals here. p_seal_id null: only its digest is known. standing: holds;
-- rewritten (that seal has another digest here); later (the database ends before it); recovered (the seal here was made
-- after the database was accepted in place of another); gone (it was taken out); other (it is of another database); or
-- unknown (no seal has that digest). p_sealed_at: when its seal was made, for the words alone.
-- For observers.
create or replace function retention.verify_head(
  p_digest bytea,
  p_seal_id bigint default null,
  p_database uuid default null,
  p_sealed_at timestamptz default null
)
returns table (standing text, seal_id bigint, message text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select w.standing,
    w.seal_id,
    case w.standing
      when 'other' then format(
        'the head is of the database %s, and this is %s', p_database,
        coalesce(i.fence::text, 'one that does not know where it was adopted')
      )
      when 'holds' then format('seal %s is as %s has it', w.seal_id, w.head)
      when 'rewritten' then format('seal %s was rewritten: %s names another digest', w.seal_id, w.head)
      when 'gone' then format('seal %s was removed: %s names it, and later ones are here', w.seal_id, w.head)
      when 'later' then format(
        'this database does not know the seals from %s on: it ends before %s, that is of seal %s',
        coalesce(l.seal_id, 0) + 1, w.head, w.seal_id
      )
      when 'recovered' then format(
        'this database does not know the seals from %s on that %s stands for: it was accepted at %s in place of the one that '
          'made them, and its own seals from there on are others',
        (select min(n.seal_id) from retention.seal n where n.sealed_at >= i.accepted_at), w.head, retention._iso(i.accepted_at)
      )
      else format('no seal has the digest of %s: what it stands for was rewritten or cut off, or it is of another database', w.head)
    end
  from (select max(m.seal_id) as seal_id from retention.seal m) l
  left join retention.identity i on true
  cross join lateral (
    select coalesce(p_seal_id, (select d.seal_id from retention.seal d where d.digest = p_digest limit 1)) as seal_id
  ) n
  left join retention.seal s on s.seal_id = n.seal_id
  cross join lateral (
    select n.seal_id,
      coalesce('the head of ' || retention._iso(p_sealed_at), 'the head ' || left(encode(p_digest, 'hex'), 12)) as head,
      case
        when p_database <> i.fence then 'other'
        when n.seal_id is null then 'unknown'
        when s.digest = p_digest then 'holds'
        when s.sealed_at >= i.accepted_at then 'recovered'
        when s.seal_id is not null then 'rewritten'
        when n.seal_id <= l.seal_id then 'gone'
        else 'later'
      end as standing
  ) w
$$;
