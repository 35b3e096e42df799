/*
The gate: claiming and flagging ask it, and everything that shows how things stand shows its rows.
*/

-- The version of the product that installed this schema, and the oldest client that it serves. A client that
-- is older than oldest_client works on nothing. A client that is newer than version by more than the last
-- part works on nothing.
-- For observers.
create or replace function retention.version()
returns table (version text, oldest_client text)
language sql
immutable
as $$
  select '0.1.0', '0.1.0'
$$;

-- Whether a client of p_client (for example '0.1.0'; null: not asked) fits this schema: a newer one wants
-- the schema brought up to date first, an older one than oldest_client must be brought up to date itself.
-- Returns 'fits', 'client too old' or 'schema too old'. Raises nothing: what is no version fits.
create or replace function retention._fits(p_client text)
returns text
language sql
stable
as $$
  select case
    when p_client is null or p_client !~ '^\d+\.\d+\.\d+' then 'fits'
    when c.parts < string_to_array(v.oldest_client, '.')::integer[] then 'client too old'
    when c.parts[1:2] > (string_to_array(v.version, '.')::integer[])[1:2] then 'schema too old'
    else 'fits'
  end
  from retention.version() v
  cross join (
    select string_to_array(substring(p_client from '^\d+\.\d+\.\d+'), '.')::integer[] as parts
  ) c
$$;

-- The reasons to flag and claim nothing. Without a row, flagging and claiming go on. reason is one of:
-- disabled, halted, copy, detached, table replaced, hidden rows, subscriber, table unsupported, index missing, stamps fail,
-- objects missing, keeper fails, version. because says it in words, and remedy says what to do. p_client: the version
-- of the client that asks; null: no client is judged. Costs a few look-ups in catalogs.
-- For observers.
create or replace function retention.gate(p_client text default null)
returns table (reason text, because text, since timestamptz, remedy text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_setting retention.setting;
  v_adapter retention.adapter;
  v_seen retention.gate_state;
  v_stamping retention.stamping;
  v_fits text;
begin
  select * into strict v_setting from retention.setting;
  select * into v_adapter from retention.adapter;
  select * into v_seen from retention.gate_state;
  if not v_setting.enabled then
    return query select 'disabled', 'retention is disabled',
      case when 'disabled' = any (v_seen.reasons) then v_seen.since end,
      'set DPP_RETENTION_ENABLED=true and start a listener (where no person has switched it off), or: select retention.configure(''{"enabled": true}'')';
  end if;
  if v_setting.halted_at is not null then
    return query select 'halted', format(
        'halted by %s: %s',
        v_setting.halted_by || coalesce(format(' (as %s)', nullif(v_setting.halted_session, v_setting.halted_by)), ''),
        v_setting.halted_reason
      ),
      v_setting.halted_at, 'retention resume';
  end if;
  return query
  select 'copy', c.because, coalesce(c.since, case when 'copy' = any (v_seen.reasons) then v_seen.since end), c.remedy
  from retention._copy_reason() c;
  if v_adapter.detached_at is not null or to_regclass('retention.result') is null then
    return query select 'detached', 'the application''s table is detached', v_adapter.detached_at,
      'select retention.attach(), or: retention migrate up';
  end if;
  return query
  select r.reason, r.because, case when r.reason = any (v_seen.reasons) then v_seen.since end, r.remedy
  from retention._table_reasons() r;
  if found then
    return;
  end if;
  select * into v_stamping from retention.stamping;
  if v_stamping.failed_since is not null then
    return query select 'stamps fail',
      format('stamps fail with %s: %s', v_stamping.code, v_stamping.message) || coalesce(format(' (%s)', v_stamping.context), ''),
      v_stamping.failed_since, retention._stamp_remedy(v_stamping);
  end if;
  return query select 'objects missing',
    format(
      '%s of %s keys that were looked for in bucket %s have no object there, such as %s',
      k.missing, k.looked, k.bucket, array_to_string(k.missing_keys, ', ')
    ),
    k.looked_at,
    'compare these keys with the bucket, check S3_ENDPOINT_URL, and run retention doctor, which looks again; '
    || format('where the objects are really gone: retention bucket confirm %s', k.bucket)
  from retention.bucket k
  where k.missing * 2 > k.looked
    and k.missing_confirmed_at is null
    and (k.looked >= 5 or k.missing_keys[1] ~ '^(/|[a-z0-9]+://)');
  if exists (select from retention.keeper) then
    return query
    select r.reason, r.because, case when r.reason = any (v_seen.reasons) then v_seen.since end, r.remedy
    from retention._keeper_reasons() r;
  end if;
  v_fits := retention._fits(p_client);
  if v_fits <> 'fits' then
    return query select 'version',
      format(
        case v_fits
          when 'client too old' then 'this client is %s, and the schema is %s, which serves clients from %s on'
          else 'this client is %s, and the schema is still %s'
        end,
        p_client, v.version, v.oldest_client
      ),
      null::timestamptz,
      case v_fits
        when 'client too old' then format('bring this listener up to date: to version %s', v.version)
        else 'retention migrate up, with this version'
      end
    from retention.version() v;
  end if;
end
$$;

-- Whether flagging and claiming may go on. Called by them.
create or replace function retention._is_open(p_client text default null)
returns boolean
language sql
stable
as $$
  select not exists (select from retention.gate(p_client))
$$;

-- Writes down which reasons there are by now and announces a change on retention_attention. Locks one row of
-- its own. Called by whatever may change the gate, and by every tick for what changes without it.
create or replace function retention._note_gate()
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reasons text[];
  v_before text[];
begin
  perform retention._look_at_keepers();
  v_reasons := array(select g.reason from retention.gate() g order by g.reason);
  select s.reasons into v_before from retention.gate_state s where s.reasons <> v_reasons for update;
  if not found then
    return;
  end if;
  update retention.gate_state
  set reasons = v_reasons,
    since = clock_timestamp();
  perform retention._tell(
    case
      when v_reasons = '{}' then 'resumed'
      when 'copy' = any (v_reasons) and not 'copy' = any (v_before) then 'copy'
      else 'halted'
    end,
    row_to_json(p)
  )
  from (
    select case when v_reasons = '{}' then 'resumed' else 'halted' end as kind,
      v_reasons as reasons,
      (select left(string_agg(g.because, '; '), 1000) from retention.gate() g) as because,
      retention._iso(clock_timestamp()) as at
  ) p;
end
$$;

-- Halts flagging and claiming for all listeners until retention.resume(). Status, doctor and readiness show
-- p_reason. What is in flight is finished. p_by: who halts; by default the session's user. Returns false
-- where a halt was there already: that halt stays as it is.
-- For operators.
-- Locks the row of retention.setting.
-- Raises invalid_parameter_value without a reason.
create or replace function retention.halt(p_reason text, p_by text default null)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if btrim(coalesce(p_reason, '')) = '' then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'a halt needs a reason',
      hint = 'Say why, for those who find it: retention halt --reason "..."';
  end if;
  update retention.setting
  set halted_at = clock_timestamp(),
    halted_by = coalesce(p_by, session_user),
    halted_reason = p_reason
  where halted_at is null;
  if not found then
    return false;
  end if;
  perform retention._note_gate();
  return true;
end
$$;

-- Ends a halt. Other reasons of the gate stay. Returns false where there was no halt.
-- For operators.
-- Locks the row of retention.setting.
create or replace function retention.resume()
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update retention.setting
  set halted_at = null,
    halted_by = null,
    halted_reason = null
  where halted_at is not null;
  if not found then
    return false;
  end if;
  perform retention._note_gate();
  return true;
end
$$;
