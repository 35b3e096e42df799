/*
Explain, also of a row that cannot be read.
*/

-- Why a result is kept, or what becomes of it, in plain words. It always returns one row. state is one of:
-- unknown, cleared, not completed, no date, no key, too long, no bucket, held, coming back, kept (by its policy, its own
-- date or a keeper), shared, object changed, in flight, dead, failed, flagged, set aside, due, unreadable (looking at its
-- row raises an error), or a reason of the gate (disabled, halted,
-- detached, table replaced, index missing and others).
-- For observers.
create or replace function retention.explain(p_run_id text)
returns table (
  run_id text,
  state text,
  because text,
  tenant_id text,
  status text,
  completed_at timestamptz,
  bucket text,
  key text,
  cleared_at timestamptz,
  retain interval,
  due_at timestamptz,
  holds jsonb,
  flagged_at timestamptz,
  batch_id bigint,
  attempts integer,
  last_code text,
  last_error text,
  next_attempt_at timestamptz,
  shares_with text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
  return query select e.* from retention._explain(p_run_id) e;
exception
  when others then
    -- A name that is not there is a fault of this schema, and says nothing of the row.
    if retention._is_passing(sqlstate) or sqlstate in ('42P01', '42703', '42883') then
      raise;
    end if;
    run_id := p_run_id;
    state := 'unreadable';
    because := format(
      'its row cannot be read: %s (SQLSTATE %s). No pass and no claim takes it, and its object stays. Correct the value that the message names, or what the table runs when it is read',
      left(sqlerrm, 500), sqlstate
    );
    return next;
end
$$;
