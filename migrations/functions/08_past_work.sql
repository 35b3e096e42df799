/*
Past work: what a batch was before. A batch keeps its last attempt alone, and what leaves it uncleared leaves no trace in it.
*/

-- Notes how a batch failed that goes on, or is tried again: from then until now.
create or replace function retention._note_failure(p_batch retention.batch)
returns void
language sql
as $$
  insert into retention.past_work (batch_id, state, since, until, because)
  select p_batch.batch_id,
    case when p_batch.dead_at is null then 'failed' else 'dead' end,
    coalesce(p_batch.dead_at, p_batch.failed_at),
    clock_timestamp(),
    retention._said(p_batch.code, p_batch.error)
  where coalesce(p_batch.dead_at, p_batch.failed_at) is not null
$$;

-- Notes an attempt that did not clear the whole batch, and how the batch had failed before it. p_until: when it ended.
create or replace function retention._note_attempt(p_batch retention.batch, p_until timestamptz)
returns void
language sql
as $$
  insert into retention.past_work (batch_id, state, since, until, because)
  select p_batch.batch_id, w.state, w.since, w.until, w.because
  from (
    values ('in flight', p_batch.leased_at, least(p_batch.visible_at, p_until, clock_timestamp()), coalesce(p_batch.leased_by, 'a listener')),
      ('failed', p_batch.failed_at, p_batch.leased_at, retention._said(p_batch.code, p_batch.error))
  ) as w (state, since, until, because)
  where w.since < w.until
$$;

-- Notes that results leave a batch uncleared, and how it had failed.
create or replace function retention._note_left(p_batch retention.batch, p_run_ids retention.run_id[])
returns void
language sql
as $$
  insert into retention.past_work (batch_id, state, since, until, oldest, newest, run_ids)
  select p_batch.batch_id, 'flagged', p_batch.flagged_at, clock_timestamp(), p_batch.oldest, p_batch.newest, p_run_ids
  where cardinality(p_run_ids) > 0;
  select retention._note_failure(p_batch) where cardinality(p_run_ids) > 0
$$;
