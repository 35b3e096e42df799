/*
Receipts that the cycle cannot have written, whatever time they name.
*/

-- Receipts with what shows that they were invented: a number that was never given out, no claim behind them, no session
-- that wrote them down, or times in an order that no batch has. An invented receipt that imitates all of these shows in
-- the account of stamps alone, unless it names a result that has another one. Reads every batch, but none of its arrays.
create or replace function retention._invented()
returns table (name text, seal_id bigint, because text)
language sql
stable
as $$
  with given as materialized (
    select coalesce(pg_sequence_last_value(pg_get_serial_sequence('retention.batch', 'batch_id')::regclass), 0) as batches,
      coalesce(pg_sequence_last_value(pg_get_serial_sequence('retention.receipt', 'receipt_id')::regclass), 0) as receipts
  )
  select 'receipt batch-' || b.batch_id, b.seal_id, w.because
  from retention.batch b
  cross join given g
  cross join lateral (
    select case
      when b.batch_id not between 1 and g.batches then format('its number was never given out: the last one is %s', g.batches)
      when b.leased_at is null and b.deleted_at is null then 'no listener has ever claimed it'
      when b.settled_session is null then 'it does not say whose session wrote it down'
      when b.flagged_at > coalesce(b.leased_at, b.deleted_at) + interval '1 hour'
        or coalesce(b.deleted_at, b.leased_at) > b.settled_at + interval '1 hour'
      then format(
        'it was flagged at %s, claimed at %s and settled at %s', retention._iso(b.flagged_at),
        coalesce(retention._iso(coalesce(b.leased_at, b.deleted_at)), 'no time'), retention._iso(b.settled_at)
      )
    end as because
  ) w
  where b.settled_at is not null
    and b.cleared > 0
    and w.because is not null
  union all
  select 'receipt receipt-' || r.receipt_id, r.seal_id, format('its number was never given out: the last one is %s', g.receipts)
  from retention.receipt r
  cross join given g
  where r.receipt_id not between 1 and g.receipts
$$;
