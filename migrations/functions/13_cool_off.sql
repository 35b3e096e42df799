/*
Cool-off: a flagged result may be claimed setting.cool_off after it was flagged, and not before. It stands in visible_at,
so that a claim looks for nothing more. What a person narrows, selects early or retries does not wait.
*/

-- Lets what this transaction has flagged wait. Called by a pass, and costs nothing without a cool-off.
create or replace function retention._cool(p_cool_off interval)
returns void
language plpgsql
as $$
begin
  if p_cool_off is null then
    return;
  end if;
  update retention.batch b
  set visible_at = greatest(b.visible_at, b.flagged_at + retention._in_seconds(p_cool_off))
  where b.flagged_at = now()
    and b.settled_at is null
    and b.lease is null
    and b.early is null
    and b.failed_at is null;
end
$$;

-- After a change of the cool-off: a longer one holds also for what is flagged and waits; a shorter one lets go what
-- waits for the former. What is leased at this moment goes on. Waits for a pass, which would flag by the former.
create or replace function retention._apply_cool_off()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before interval := retention._in_seconds(coalesce(old.cool_off, '0'));
  v_after interval := retention._in_seconds(coalesce(new.cool_off, '0'));
begin
  if v_after = v_before then
    return null;
  end if;
  perform retention._take_pass_lock();
  update retention.batch b
  set visible_at = case
      when v_after > v_before then greatest(b.visible_at, b.flagged_at + v_after)
      else greatest(b.flagged_at, b.flagged_at + v_after)
    end
  where b.settled_at is null
    and b.dead_at is null
    and b.deleted_at is null
    and b.lease is null
    and b.early is null
    and (v_after > v_before or b.visible_at = b.flagged_at + v_before);
  return null;
end
$$;

create or replace trigger apply_cool_off
after update of cool_off on retention.setting
for each row
execute function retention._apply_cool_off();

-- Whether a batch that is neither leased nor dead waits for its cool-off and for nothing else. In single values: a
-- whole row would be read with its arrays.
create or replace function retention._is_cooling(
  p_flagged_at timestamptz,
  p_visible_at timestamptz,
  p_failed_at timestamptz,
  p_early interval
)
returns boolean
language sql
stable
as $$
  select p_failed_at is null
    and p_early is null
    and p_visible_at > now()
    and p_visible_at <= p_flagged_at + retention._in_seconds((select s.cool_off from retention.setting s))
$$;

-- What waits for its cool-off: how many results, and when the first and the last of them may go. Reads the batches
-- that are not settled, and nothing without a cool-off.
-- For observers.
create or replace function retention.cooling()
returns table (results bigint, first_at timestamptz, last_at timestamptz)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select coalesce(sum(b.results), 0)::bigint, min(b.visible_at), max(b.visible_at)
  from retention.batch b
  where (select s.cool_off > '0' from retention.setting s)
    and b.settled_at is null
    and b.lease is null
    and num_nonnulls(b.dead_at, b.deleted_at) = 0
    and retention._is_cooling(b.flagged_at, b.visible_at, b.failed_at, b.early)
$$;
