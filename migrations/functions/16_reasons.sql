/*
Reasons: the sentences that explain speaks in.
*/

-- The first hold of _bearing_holds that is in force at a time, in words; null: none is.
create or replace function retention._hold_in_force(p_holds jsonb, p_at timestamptz default now())
returns text
language sql
stable
as $$
  select format('hold %s on its %s, placed by %s: %s', h ->> 'hold_id', h ->> 'on', h ->> 'placed_by', h ->> 'reason')
    || coalesce('; it ends at ' || retention._iso((h ->> 'ends')::timestamptz), '')
  from jsonb_array_elements(p_holds) h
  where (h ->> 'ends') is null
    or (h ->> 'ends')::timestamptz > p_at
  limit 1
$$;

-- What S3 may still do to the result of a run, as the end of a sentence; empty: nothing.
create or replace function retention._still_asked(p_run_id retention.run_id)
returns text
language sql
stable
as $$
  select coalesce(
    (
      select format('; S3 may still be at an earlier request to delete it, until %s at most', retention._iso(f.until))
      from retention._in_flight(p_run_id, null) f
    ),
    ''
  )
$$;

-- Why a run that shares its object keeps the result of another, and until when.
create or replace function retention._why_shared(p_sharer text)
returns text
language sql
stable
as $$
  select format('it shares its object with run %s, ', p_sharer)
    || coalesce(
      (
        select case
          when l.held then 'which is held'
          when l.due_at is null then format('which does not fall due: its status is %s', coalesce(l.status::text, 'null'))
          when l.due_at >= now() then format('which keeps it %s', retention._until(l.due_at))
          when l.is_due then (
            select case
              when p.surge_id is null then 'which is late; the walk that found it is not complete yet'
              else format('which is set aside in surge %s until it is released: retention surge show %s', p.surge_id, p.surge_id)
            end
            from retention._part_of(l.run_id::retention.run_id) p
          )
          else 'which is not due'
        end
        from retention._live l
        where l.run_id = p_sharer::retention.run_id
        limit 1
      ),
      'which is not due'
    )
$$;

-- Why a result that is due is spared when its batch is claimed: a keeper has its object, or S3 holds another version than
-- its row names. p_etag: of the row. Null: neither.
create or replace function retention._why_spared(
  p_run_id retention.run_id,
  p_bucket text,
  p_key text,
  p_etag text,
  out state text,
  out because text
)
language plpgsql
stable
as $$
declare
  v_keeper record;
  v_note retention.spared_object;
begin
  select * into v_keeper from retention._keeper_of(p_bucket, p_key);
  if v_keeper.kept_by is not null then
    state := 'kept';
    because := format('kept by %s, whose rows need its object %s', v_keeper.kept_by, case
      when v_keeper.until = 'infinity' then 'as long as they are there'
      else retention._until(v_keeper.until)
    end);
    return;
  end if;
  select *
  into v_note
  from retention.spared_object o
  where o.bucket = p_bucket
    and o.key = p_key collate "C"
    and o.etag = retention._object_condition(p_bucket, p_key)
    and o.until > now();
  if found then
    state := 'object changed';
    because := case v_note.etag
      when '!' then format('its etag %s is none that S3 could be asked for, so it is kept: correct the etag, or set it to null', coalesce(quote_literal(left(p_etag, 100)), 'of a run that shares it'))
      else format(
        'S3 holds another version of its object than the one with the etag %s, found %s, last at %s; S3 is asked again at %s, or when the row has another etag',
        v_note.etag,
        case v_note.times when 1 then 'once' else v_note.times || ' times' end,
        retention._iso(v_note.noted_at),
        retention._iso(v_note.until)
      )
    end;
  end if;
end
$$;

-- Why a result that no batch carries is not due, in words: its own date, or a policy.
create or replace function retention._why_kept(
  p_completed_at timestamptz,
  p_retain_until timestamptz,
  p_due_at timestamptz,
  p_retain interval,
  p_policy text
)
returns text
language sql
stable
as $$
  select case
    when p_retain_until >= now() and p_retain_until = p_due_at
    then format('its own retain-until date keeps it %s', retention._until(p_due_at))
    when not isfinite(p_completed_at)
    then format('its completion date is %s, so it is kept for ever: correct the date', p_completed_at)
    else format('%s keeps results for %s: due at %s', coalesce(p_policy, 'the default policy'), p_retain, retention._iso(p_due_at))
  end
$$;

-- Since when a result is due, and which pass takes it.
create or replace function retention._why_due(p_due_at timestamptz, p_policy text)
returns text
language sql
stable
as $$
  select format('it has been due since %s by %s; ', retention._iso(p_due_at), coalesce(p_policy, 'the default policy'))
    || case
      when n.comes_at is null then 'no flagging pass comes by itself: ' || n.because
      else format('the flagging pass at %s takes it', retention._iso(n.comes_at))
    end
  from retention.next_pass() n
$$;

-- When a result comes back whose tenant was held. p_holds: of _bearing_holds.
create or replace function retention._when_back(p_holds jsonb, p_run_id retention.run_id)
returns text
language sql
stable
as $$
  select format(
    'a hold on its tenant has ended; its results come back over %s, this one at %s',
    s.release_spread,
    retention._iso(
      (select max((h ->> 'ends')::timestamptz) from jsonb_array_elements(p_holds) h where h ->> 'on' = 'tenant')
        + s.release_spread * retention._place_in_line(p_run_id::text)
    )
  )
  from retention.setting s
$$;

-- Why a result is set aside: since when it is late, which walk looked last, in which surge, and how it is released.
create or replace function retention._why_in_part(p_run_id retention.run_id, p_due_at timestamptz)
returns text
language sql
stable
as $$
  select format('it is late: due since %s, ', retention._iso(p_due_at))
    || case
      when coalesce(g.seen_at, case when g.surge_id is null then h.seen_at end) is null
      then 'and no walk over the results had been complete when it was found'
      else format(
        'and unknown to the last complete walk, which began at %s', retention._iso(coalesce(g.seen_at, h.seen_at))
      )
    end
    || case
      when g.surge_id is null then '; the walk that found it is not complete yet, and judges it when it is'
      else format('; it is set aside in surge %s: retention surge show %s, then release', g.surge_id, g.surge_id)
    end
  from retention._part_of(p_run_id) p
  cross join retention.heartbeat h
  left join retention.surge g on g.surge_id = p.surge_id
$$;
