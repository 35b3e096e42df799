/*
Waiting results whose rows went on: no listener claims their batches (no listener may delete from that bucket, or its store has
been away for long), and as long as they are in one, no pass takes them up where they point now.
*/

-- Takes results out of batches that have waited for an hour where their rows point at another object, or at none, by
-- now. Late or not, passes find them again. Of many batches it looks at a share, so that each has its turn about once a
-- day. Called by the hourly cleaning up. Passes by a batch that is being claimed.
create or replace function retention._forget_moved()
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_batch retention.batch;
  v_gone retention.run_id[];
begin
  if to_regclass('retention._live') is null then
    return;
  end if;
  for v_batch in
    select b.*
    from retention.batch b
    where b.settled_at is null
      and b.dead_at is null
      and b.deleted_at is null
      and b.lease is null
      and b.visible_at < now() - interval '1 hour'
      and (
        b.batch_id % 24 = extract(hour from now())
        or (select count(*) from retention.batch x where x.settled_at is null and x.dead_at is null) <= 100
      )
    for update skip locked
  loop
    select array_agg(u.run_id)
    into v_gone
    from retention._results(v_batch) as u
    where not exists (
      select
      from retention._live r
      where r.run_id = u.run_id
        and r.key = u.key
        and r.bucket = v_batch.bucket
    );
    if v_gone is not null then
      perform retention._take_out(v_batch.batch_id, v_gone);
    end if;
  end loop;
end
$$;
