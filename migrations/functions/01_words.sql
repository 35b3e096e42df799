/*
Small functions that the other files use. They are RETURN expressions, whose names are resolved when they are made.
The names in a text would be resolved under the search path of the caller. A function or operator of another user
that fits better would then run with the caller's rights.
*/

-- When a hold ends or has ended. An end so far ahead that no interval can be added to it counts as no end.
create or replace function retention._hold_end(p_released_at timestamptz, p_expires_at timestamptz)
returns timestamptz
language sql
immutable
parallel safe
return case
  when least(p_released_at, p_expires_at) < timestamptz '290000-01-01 00:00Z'
  then least(p_released_at, p_expires_at)
  else 'infinity'
end;

-- Whether an error is about the server, the session or another transaction, and not about the rows that were read. The
-- same statement may succeed later.
create or replace function retention._is_passing(p_sqlstate text)
returns boolean
language sql
immutable
parallel safe
return p_sqlstate ~ '^(08|25|40|53|57)' or p_sqlstate in ('55006', '55P03', 'RR002', 'RR051', 'StampLater');

-- A number from 0 to 1 for each run, the same every time: its place among results that must not come back all at
-- once.
create or replace function retention._place_in_line(p_run_id text)
returns double precision
language sql
immutable
parallel safe
return (hashtextextended(p_run_id, 0::bigint) & 65535::bigint)::double precision / 65536::double precision;

-- A tenant as the key of retention.progress: '' for results without a tenant.
create or replace function retention._tenant_key(p_tenant_id text)
returns text
language sql
immutable
parallel safe
return case when p_tenant_id is null then '' else '=' || p_tenant_id end;

-- The bucket of a result: what its row names, else the default. Null: it has none.
create or replace function retention._bucket(p_bucket text, p_default_bucket text)
returns text
language sql
immutable
parallel safe
return coalesce(nullif(p_bucket, ''), p_default_bucket);

-- An interval as plain seconds, so that no session's time zone makes a day 23 or 25 hours long.
create or replace function retention._in_seconds(p_interval interval)
returns interval
language sql
immutable
parallel safe
return make_interval(secs => extract(epoch from p_interval)::double precision);

-- An interval as whole days and time, without months: a month has no length of its own.
create or replace function retention._in_days(p_interval interval)
returns interval
language sql
immutable
parallel safe
return make_interval(days => floor(extract(epoch from p_interval) / 86400)::integer)
  + make_interval(secs => (extract(epoch from p_interval) - 86400 * floor(extract(epoch from p_interval) / 86400))::double precision);

-- `1 result`, `5120 results`; null: null.
create or replace function retention._counted(p_count bigint, p_one text, p_many text default null)
returns text
language sql
immutable
parallel safe
return p_count || ' ' || case p_count when 1 then p_one else coalesce(p_many, p_one || 's') end;

-- A point in time as payloads and reports write it. What is no date of the calendar keeps Postgres' own word
-- (infinity, -infinity), and what was before the year 1 says so.
create or replace function retention._iso(p_at timestamptz)
returns text
language sql
stable
parallel safe
return case
  when not isfinite(p_at) then p_at::text
  else to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    || case when p_at < timestamptz '0001-01-01 00:00:00+00' then ' BC' else '' end
end;

-- Until when something stays as it is, as the end of a sentence.
create or replace function retention._until(p_at timestamptz)
returns text
language sql
stable
parallel safe
return case when p_at = 'infinity'::timestamptz then 'for ever' else 'until ' || retention._iso(p_at) end;

-- A failure in words: its code and its message, without saying the same twice.
create or replace function retention._said(p_code text, p_message text)
returns text
language sql
immutable
parallel safe
return case
  when p_code is null then coalesce(p_message, 'unknown')
  when lower(regexp_replace(coalesce(p_message, ''), '[^A-Za-z0-9]', '', 'g')) in ('', lower(p_code)) then p_code
  when strpos(p_message, p_code) > 0 then p_message
  else p_code || ' (' || p_message || ')'
end;

-- A pause that doubles with each try up to a cap, with half of it left to chance.
create or replace function retention._backoff(p_base interval, p_cap interval, p_tries integer)
returns interval
language sql
volatile
return least(p_cap, p_base * power(2, least(p_tries, 30))) * (0.5 + random() / 2);

-- A key as a batch keeps it: where it holds the run's id, as most do, a mark stands for that, so that a
-- batch's keys compress to next to nothing. A key that holds the mark already is kept whole, behind another.
create or replace function retention._pack_key(p_key text, p_run_id text)
returns text
language sql
immutable
parallel safe
return case
  when strpos(p_key, E'\x01') > 0 or starts_with(p_key, E'\x02') or starts_with(p_key, E'\x03') then E'\x02' || p_key
  else replace(p_key, p_run_id, E'\x01')
end;

-- The key that _pack_key was given; of one that is kept as a digest (10_hashed_keys), the digest: sha256:<hexadecimal>.
create or replace function retention._unpack_key(p_packed text, p_run_id text)
returns text
language sql
immutable
parallel safe
return case
  when starts_with(p_packed, E'\x02') then substr(p_packed, 2)
  when starts_with(p_packed, E'\x03') then 'sha256:' || encode(decode(substr(p_packed, 2), 'base64'), 'hex')
  else replace(p_packed, E'\x01', p_run_id)
end;
