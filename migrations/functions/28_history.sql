/*
History: who changed what, and when, and what became of a run.
*/

-- A tenant as changes name it. Also one that could not be a tenant today, where a change names it.
create or replace function retention._tenant_of_history(p_tenant_id text)
returns text
language plpgsql
stable
as $$
begin
  if exists (select from retention.change c where c.tenant_id = p_tenant_id) then
    return p_tenant_id;
  end if;
  return retention._policy_tenant(p_tenant_id);
end
$$;

-- The numbers of the newest changes of what is asked for: see history.
create or replace function retention._changes_of(
  p_tenant_id text,
  p_run_id text,
  p_setting text,
  p_since timestamptz,
  p_limit integer
)
returns bigint[]
language plpgsql
stable
set plan_cache_mode = force_custom_plan
as $$
declare
  v_since timestamptz := coalesce(p_since, '-infinity');
begin
  if p_setting is not null then
    return array(
      select c.change_id
      from retention.change c
      where c.at >= v_since
        and (
          c.subject = 'setting' and p_setting <> 'retain' and (
            c.name is null
            or p_setting = any (string_to_array(c.name, ', '))
            or p_setting = 'halt' and c.name like '%halted\_%'
          )
          or p_setting = 'retain' and c.subject = 'policy' and c.tenant_id = '*'
        )
      order by c.change_id desc
      limit p_limit
    );
  elsif p_run_id is not null then
    return array(
      select c.change_id
      from retention.change c
      where c.at >= v_since
        and (c.run_id = p_run_id or c.tenant_id = any (array[p_tenant_id, '*']) and c.subject in ('policy', 'hold'))
      order by c.change_id desc
      limit p_limit
    );
  elsif p_tenant_id is not null then
    return array(
      select c.change_id
      from retention.change c
      where c.at >= v_since
        and (c.tenant_id = p_tenant_id or c.tenant_id = '*' and c.subject = 'policy')
      order by c.change_id desc
      limit p_limit
    );
  end if;
  return array(select c.change_id from retention.change c where c.at >= v_since order by c.change_id desc limit p_limit);
end
$$;

-- What a receipt of a run says, in words. p_is_gone: see _run_receipts.
create or replace function retention._receipt_words(
  p_receipt text,
  p_kind text,
  p_is_gone boolean,
  p_how text,
  p_bucket text,
  p_key text,
  p_asked_by text,
  p_retain text
)
returns text
language sql
immutable
as $$
  select format(
    '%s: object %s in bucket %s %s%s', p_receipt,
    p_key || case when p_key ~ '^sha256:[0-9a-f]{64}$' then ' (the digest of its key, which is not kept)' else '' end, p_bucket,
    case
      when p_kind = 'found_gone' then 'found gone and stamped'
      when p_kind = 'restored' then 'brought back, and no longer stamped as gone'
      when not p_is_gone then 'no longer stamped as gone'
      else case p_how
        when 'gone' then 'already gone'
        when 'marker' then 'deleted with a delete marker'
        when 'purged' then 'deleted with all its versions'
        else 'deleted'
      end || case p_kind
        when 'early' then ', asked for before its time' || coalesce(', after ' || p_retain, '')
        when 'verify' then ', its object had returned'
        when 'after_restore' then ', it was restored and fell due again'
        else ', by its policy' || coalesce(' of ' || p_retain, '')
      end
    end,
    coalesce(', asked for by ' || p_asked_by, '')
  )
$$;

-- What the receipt says by which a stamped run was stamped. Null: there is none.
create or replace function retention._last_receipt_words(
  p_run_id retention.run_id,
  p_completed_at timestamptz,
  p_cleared_at timestamptz
)
returns text
language sql
stable
as $$
  select retention._receipt_words(r.receipt, r.kind, r.is_gone, r.how, r.bucket, r.key, r.asked_by, r.retain)
  from retention._run_receipts(
    p_run_id,
    retention._batches_with(p_run_id, p_completed_at, p_cleared_at, false, null),
    p_cleared_at - interval '1 hour'
  ) r
  where r.is_gone
  order by r.settled_at desc
  limit 1
$$;

-- Raises invalid_parameter_value for what history cannot be asked.
create or replace function retention._check_history(
  p_tenant_id text,
  p_run_id text,
  p_setting text,
  p_since timestamptz,
  p_limit integer
)
returns void
language plpgsql
stable
as $$
declare
  v_known text[] := array(
    select a.attname
    from pg_attribute a
    where a.attrelid = 'retention.setting'::regclass
      and a.attnum > 0
      and not a.attisdropped
      and a.attname <> 'singleton'
    order by a.attname
  ) || '{halt, retain}'::text[];
begin
  if num_nonnulls(p_tenant_id, p_run_id, p_setting) > 1 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'history: expected a tenant, a run or a setting, given: more than one of them';
  end if;
  if p_setting is not null and p_setting <> all (v_known) then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('history: expected the name of a setting, given: %s', left(p_setting, 100)),
      hint = format('There are: %s. retain is the default policy.', array_to_string(v_known, ', '));
  end if;
  if p_since > clock_timestamp() then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('history: expected a time that has passed, given: %s', retention._iso(p_since));
  end if;
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = format('history: expected a limit from 1 to 100000, given: %s', coalesce(p_limit::text, 'null'));
  end if;
end
$$;

-- Who changed what, and when: the newest p_limit changes, oldest first. Without an argument, of everything: policies,
-- holds, settings, keepers, buckets, surges and their releases, allowances and requests for a second person.
-- p_tenant_id: what names this tenant, and the default policy; '*': that alone. p_run_id: the holds and policies of the run and
-- its tenant, and its receipts (what was deleted, restored or un-stamped). p_setting: of this setting; retain is the default
-- policy, and halt what retention.halt and retention.resume did. p_since: nothing before. what: in words; done_by: the
-- user of the session, with the role that it had set and the program. before, after: the row.
-- Of a run whose row is gone, it reads every receipt since p_since, which takes long where there are years of them.
-- For observers.
-- Raises invalid_parameter_value for more than one of tenant, run and setting, for what can be none of them, for a time
-- that has not come, and for a limit that is not from 1 to 100000.
create or replace function retention.history(
  p_tenant_id text default null,
  p_run_id text default null,
  p_setting text default null,
  p_since timestamptz default null,
  p_limit integer default 100
)
returns table (
  at timestamptz,
  what text,
  done_by text,
  subject text,
  action text,
  tenant_id text,
  run_id text,
  name text,
  session_name text,
  role_name text,
  application text,
  before jsonb,
  after jsonb,
  change_id bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
as $$
#variable_conflict use_column
declare
  v_run_id retention.run_id;
  v_tenant_id text;
  v_batch_ids bigint[];
begin
  perform retention._check_history(p_tenant_id, p_run_id, p_setting, p_since, p_limit);
  if p_run_id is not null then
    v_run_id := retention._read_run_id(p_run_id);
    select w.tenant_id, retention._batches_with(v_run_id, w.completed_at, w.cleared_at, not w.is_there, p_since)
    into v_tenant_id, v_batch_ids
    from retention._row_of(v_run_id) w;
    v_tenant_id := coalesce(
      v_tenant_id, (select max(r.tenant_id) from retention._run_receipts(v_run_id, v_batch_ids, p_since) r)
    );
  elsif p_tenant_id is not null then
    v_tenant_id := retention._tenant_of_history(p_tenant_id);
  end if;
  return query
  select h.*
  from (
    select c.at,
      retention._change_words(c.subject, c.before, c.after),
      retention._who(c.session_name, c.role_name, c.application),
      c.subject, c.action, c.tenant_id, c.run_id, c.name, c.session_name, c.role_name, c.application, c.before, c.after,
      c.change_id
    from retention.change c
    where c.change_id = any (retention._changes_of(v_tenant_id, v_run_id::text, p_setting, p_since, p_limit))
    union all
    select r.settled_at,
      retention._receipt_words(r.receipt, r.kind, r.is_gone, r.how, r.bucket, r.key, r.asked_by, r.retain),
      coalesce(r.settled_session, 'the cycle') || coalesce(' (retention ' || r.product || ')', ''),
      'receipt', r.kind, r.tenant_id, p_run_id, r.receipt, r.settled_session, null, null, null, null, null
    from retention._run_receipts(v_run_id, v_batch_ids, p_since) r
    where v_run_id is not null
      and r.settled_at >= coalesce(p_since, '-infinity')
    order by 1 desc, 14 desc nulls first
    limit p_limit
  ) h
  order by 1, 14 nulls last;
end
$$;
