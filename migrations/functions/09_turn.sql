/*
A claim that ends its own session: by a crash, by the memory that its check wants, by an administrator who ends it each time.
It leaves nothing behind, so that the same batch would be the first one again. Who has lost a session in a claim therefore
writes down whose turn it is, in a statement of its own, before the next one.
*/

-- Takes a batch apart whose check has ended a session twice, in parts that wait and are each suspect alone. A result that is
-- alone is dead at once: what may end a server is tried again by a person only. The caller has locked the batch.
create or replace function retention._take_apart(p_batch retention.batch)
returns void
language plpgsql
as $$
declare
  -- In eighths and not in halves: each try costs a session, if not the server.
  v_part integer := ceil(p_batch.results / 8.0);
  v_first integer := 1;
begin
  if p_batch.results = 1 then
    p_batch.attempts := (select s.max_attempts - 1 from retention.setting s);
  end if;
  while v_first <= p_batch.results loop
    perform retention._set_apart(
      p_batch,
      array(select generate_series(v_first, least(v_first + v_part - 1, p_batch.results))),
      case when p_batch.results = 1 then 'ClaimLost' else 'ClaimSuspect' end,
      'each session that checked it was lost' || case when p_batch.results > 1 then ', with others' else '' end,
      p_batch.results = 1
    );
    v_first := v_first + v_part;
  end loop;
  delete from retention.batch b where b.batch_id = p_batch.batch_id;
end
$$;

-- Writes down that the batch which a claim would take next is about to be checked, and returns it: it goes to the end of
-- the line, and claim is to be asked for it. One that was written down before, and came to nothing, is taken apart instead.
-- Null: nothing is visible, or the gate is closed. For a process whose last claim was lost with its session. The
-- parameters are those of claim.
-- For the listener.
-- Locks the batch.
create or replace function retention.take_turn(
  p_batch_ids bigint[] default null,
  p_client text default null,
  p_buckets text[] default null
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
  v_batch_id bigint;
  v_batch retention.batch;
begin
  if not retention._is_open(p_client) then
    return null;
  end if;
  loop
    v_batch_id := retention._next_batch(p_batch_ids, p_buckets);
    if v_batch_id is null then
      return null;
    end if;
    select * into strict v_batch from retention.batch b where b.batch_id = v_batch_id;
    if v_batch.lease is not null then
      -- Its lease has run out, and its last holder may still be asking S3.
      perform retention._note_unanswered(v_batch, null, v_batch.visible_at);
      perform retention._note_attempt(v_batch, v_batch.visible_at);
    end if;
    exit when v_batch.code is distinct from 'ClaimLost';
    perform retention._take_apart(v_batch);
  end loop;
  update retention.batch b
  set code = 'ClaimLost',
    error = 'the session that checked it was lost',
    failed_at = clock_timestamp(),
    lease = null,
    visible_at = clock_timestamp()
  where b.batch_id = v_batch_id;
  return v_batch_id;
end
$$;
