/*
What a person should know at once: each announcement on retention_attention, and each seal, is also a row of
retention.attention for a day. From there one listener takes it to the webhook, at most one message a minute and kind,
however many listeners there are. The rows are the truth: a notification that anybody sent makes no message.
*/

-- Writes an announcement down and sends it. The copy that leaves the database has no text that may quote an object's
-- key. p_kind: of the message; a copy is told apart from another halt. Only inserts, so that no settle waits for another.
create or replace function retention._tell(p_kind text, p_payload json)
returns void
language plpgsql
as $$
begin
  insert into retention.attention (kind, payload)
  values (p_kind, p_payload::jsonb - 'because');
  if pg_notification_queue_usage() <= 0.5 then
    perform pg_notify(
      case when p_kind = 'sealed' then 'retention_sealed' else 'retention_attention' end,
      p_payload::text
    );
  end if;
end
$$;

-- Makes the next message of each kind from what was announced since the last one: the latest of it, and how many
-- there were. What has been overtaken is not told: a halt that is over, an end of a halt after which there is another.
-- By a mark on each row and not by the number of the last one: a lower number may commit later than a higher one.
create or replace function retention._write_messages()
returns void
language plpgsql
as $$
begin
  insert into retention.webhook (kind)
  select distinct a.kind
  from retention.attention a
  where a.told_at is null
    and not exists (select from retention.webhook w where w.kind = a.kind)
  on conflict do nothing;
  with fresh as (
    update retention.attention a
    set told_at = clock_timestamp()
    from retention.webhook k
    where k.kind = a.kind
      and k.message_id is null
      and k.next_at <= now()
      and a.told_at is null
    returning a.kind, a.attention_id, a.at, a.payload
  ),
  latest as (
    select distinct on (f.kind) f.*,
      count(*) over (partition by f.kind) as announcements
    from fresh f
    order by f.kind, f.attention_id desc
  )
  update retention.webhook w
  set message_id = gen_random_uuid(),
    happened_at = n.at,
    payload = n.payload,
    announcements = n.announcements,
    attempts = 0
  from latest n
  where w.kind = n.kind
    and n.at > now() - interval '1 day'
    and not exists (
      select
      from retention.attention o
      where o.attention_id > n.attention_id
        and case
          when n.kind in ('halted', 'copy') then o.kind = 'resumed'
          when n.kind = 'resumed' then o.kind in ('halted', 'copy')
          else false
        end
    );
end
$$;

-- Takes the messages that are to be sent to the webhook now, for one sender alone and for p_lease. messages: null, or
-- an array of kind, message_id, attempt, happened_at, announcements, database and payload. Of a kind there is one message
-- a minute at most; one that was refused comes again with the same message_id and growing pauses, for a day.
-- next_seconds: until there may be one again; null: nothing waits. While another sender takes some, there are none.
-- For the listener.
-- Locks rows of retention.webhook.
create or replace function retention.claim_messages(
  p_lease interval default '30 seconds',
  out messages jsonb,
  out next_seconds double precision
)
returns record
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  if not pg_try_advisory_xact_lock(hashtextextended('retention webhook', 0)) then
    next_seconds := 1;
    return;
  end if;
  update retention.webhook w
  set message_id = null,
    problem = format('given up after a day: %s', w.problem)
  where w.message_id is not null
    and w.happened_at < now() - interval '1 day'
    and w.next_at <= now();
  perform retention._write_messages();
  with taken as (
    update retention.webhook w
    set attempts = w.attempts + 1,
      next_at = now() + p_lease
    where w.message_id is not null
      and w.next_at <= now()
    returning w.*
  )
  select jsonb_agg(
    jsonb_build_object(
      'kind', t.kind,
      'message_id', t.message_id,
      'attempt', t.attempts,
      'happened_at', retention._iso(t.happened_at),
      'announcements', t.announcements,
      'database', current_database(),
      'payload', t.payload
    )
    order by t.happened_at
  )
  into messages
  from taken t;
  select extract(epoch from min(w.next_at) - clock_timestamp())
  into next_seconds
  from retention.webhook w
  where w.message_id is not null
    or exists (select from retention.attention a where a.kind = w.kind and a.told_at is null);
end
$$;

-- What became of a message that was taken. p_problem: why it was not delivered, null: it was. It changes nothing where
-- the message has gone to another sender and was delivered. Returns whether it was still to be sent.
-- For the listener.
-- Locks one row of retention.webhook.
create or replace function retention.settle_message(p_message_id uuid, p_problem text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update retention.webhook w
  set message_id = case when p_problem is not null then w.message_id end,
    delivered_at = case when p_problem is null then clock_timestamp() else w.delivered_at end,
    problem = left(p_problem, 300),
    next_at = clock_timestamp() + case
      when p_problem is null then interval '1 minute'
      else least(interval '5 minutes', interval '1 second' * 2 ^ least(w.attempts - 1, 9)) * (0.75 + random() / 4)
    end
  where w.message_id = p_message_id;
  return found;
end
$$;
