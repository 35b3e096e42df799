/*
The words of history: what a change was, in a sentence for people.
*/

-- A value out of a change, for people.
create or replace function retention._shown(p_value text)
returns text
language sql
immutable
return coalesce(nullif(left(p_value, 200), ''), 'none');

-- Whose a rule is: 'policy of acme', or 'default policy'.
create or replace function retention._policy_name(p_tenant_id text)
returns text
language sql
immutable
return case p_tenant_id when '*' then 'default policy' else 'policy of ' || p_tenant_id end;

-- Who did it: the user of the session, the role that it had set, and the program. 'alice as ops (psql)'.
create or replace function retention._who(p_session text, p_role text, p_application text)
returns text
language sql
immutable
return p_session || coalesce(' as ' || nullif(p_role, p_session), '') || coalesce(' (' || p_application || ')', '');

-- The columns of a row that changed, each as 'name: before -> after'. p_but: what is not worth a word.
create or replace function retention._differences(p_before jsonb, p_after jsonb, p_but text[] default '{}')
returns text
language sql
immutable
as $$
  select coalesce(
    string_agg(
      format('%s: %s -> %s', a.key, retention._shown(p_before ->> a.key), retention._shown(a.value)), ', ' order by a.key
    ),
    'written again'
  )
  from jsonb_each_text(p_after) a
  where a.key <> all (p_but)
    and p_before ->> a.key is distinct from a.value
$$;

-- A change of a policy.
create or replace function retention._policy_words(p_before jsonb, p_after jsonb)
returns text
language sql
immutable
as $$
  select case
    when p_before is null
    then retention._policy_name(p_after ->> 'tenant_id') || ': ' || (p_after ->> 'retain')
    when p_after is null
    then retention._policy_name(p_before ->> 'tenant_id') || ': ' || (p_before ->> 'retain') || ', removed'
    when p_before ->> 'retain' <> p_after ->> 'retain'
    then format('%s: %s -> %s', retention._policy_name(p_after ->> 'tenant_id'), p_before ->> 'retain', p_after ->> 'retain')
      || case
        when p_after ->> 'confirmed_at' is distinct from p_before ->> 'confirmed_at'
        then format(', asked for by %s and confirmed by %s with %s due at once',
          p_before ->> 'pending_by', p_after ->> 'confirmed_by',
          retention._counted((p_after ->> 'confirmed_results')::bigint, 'result'))
        else ''
      end
    when p_after ->> 'pending_retain' is not null
    then format('%s: stays %s; %s would make %s due at once, and waits for a confirmation',
      retention._policy_name(p_after ->> 'tenant_id'), p_after ->> 'retain', p_after ->> 'pending_retain',
      retention._counted((p_after ->> 'pending_results')::bigint, 'result'))
    when p_before ->> 'pending_retain' is not null
    then format('%s: stays %s; %s, which waited for a confirmation, is withdrawn',
      retention._policy_name(p_after ->> 'tenant_id'), p_after ->> 'retain', p_before ->> 'pending_retain')
    else retention._policy_name(p_after ->> 'tenant_id') || ': ' || retention._differences(p_before, p_after)
  end
  || case
    when p_before is null and p_after ->> 'pending_retain' is not null
    then format('; %s would make %s due at once, and waits for a confirmation',
      p_after ->> 'pending_retain', retention._counted((p_after ->> 'pending_results')::bigint, 'result'))
    else ''
  end
$$;

-- A change of a hold.
create or replace function retention._hold_words(p_before jsonb, p_after jsonb)
returns text
language sql
stable
as $$
  select format('hold %s on %s: ', r.it ->> 'hold_id',
      coalesce('run ' || (r.it ->> 'run_id'), 'tenant ' || (r.it ->> 'tenant_id')))
    || case
      when p_before is null
      then format('placed, %s', p_after ->> 'reason')
        || coalesce(', until ' || retention._iso((p_after ->> 'expires_at')::timestamptz), '')
        || case when p_after ->> 'placed_by' <> p_after ->> 'placed_session' then format(', in the name of %s', p_after ->> 'placed_by') else '' end
        || coalesce('; released at ' || retention._iso((p_after ->> 'released_at')::timestamptz), '')
      when p_after is null then format('removed (%s)', p_before ->> 'reason')
      when p_before ->> 'released_at' is null and p_after ->> 'released_at' is not null
      then 'released'
        || case when p_after ->> 'released_by' <> p_after ->> 'released_session' then format(' in the name of %s', p_after ->> 'released_by') else '' end
        || format(' (%s)', p_after ->> 'reason')
      else retention._differences(p_before, p_after)
    end
  from (select coalesce(p_after, p_before) as it) r
$$;

-- A change of the settings.
create or replace function retention._setting_words(p_before jsonb, p_after jsonb)
returns text
language sql
immutable
as $$
  select case
    when p_before is null then 'settings: written whole'
    when p_after is null then 'settings: removed'
    else concat_ws(
      ', ',
      case
        when p_before ->> 'halted_at' is null and p_after ->> 'halted_at' is not null
        then 'halted: ' || (p_after ->> 'halted_reason')
          || case when p_after ->> 'halted_by' <> p_after ->> 'halted_session' then format(' (in the name of %s)', p_after ->> 'halted_by') else '' end
        when p_before ->> 'halted_at' is not null and p_after ->> 'halted_at' is null
        then format('resumed (was halted: %s)', p_before ->> 'halted_reason')
      end,
      nullif(
        retention._differences(
          p_before,
          p_after,
          case
            when (p_before ->> 'halted_at' is null) <> (p_after ->> 'halted_at' is null)
            then '{halted_at, halted_by, halted_reason, halted_session}'
            else '{}'
          end::text[]
        ),
        'written again'
      )
    )
  end
$$;

-- A change of a request that needs a second person.
create or replace function retention._approval_words(p_before jsonb, p_after jsonb)
returns text
language sql
immutable
as $$
  select format('request %s for %s, %s: ', r.it ->> 'approval_id', retention._act(r.it ->> 'kind'), left(r.it ->> 'what', 200))
    || case
      when p_before is null then 'asked'
      when p_after is null then 'removed'
      when p_before ->> 'withdrawn_at' is null and p_after ->> 'withdrawn_at' is not null then 'withdrawn'
      when p_before ->> 'used_at' is null and p_after ->> 'used_at' is not null then 'used'
      when p_before ->> 'approved_at' is null and p_after ->> 'approved_at' is not null then 'approved'
      else retention._differences(p_before, p_after)
    end
  from (select coalesce(p_after, p_before) as it) r
$$;

-- What a change was, in words.
create or replace function retention._change_words(p_subject text, p_before jsonb, p_after jsonb)
returns text
language sql
stable
as $$
  select case p_subject
    when 'policy' then retention._policy_words(p_before, p_after)
    when 'hold' then retention._hold_words(p_before, p_after)
    when 'setting' then retention._setting_words(p_before, p_after)
    when 'approval' then retention._approval_words(p_before, p_after)
    when 'keeper' then format('keeper %s, column %s: ', r.it ->> 'table_name', r.it ->> 'key_column')
      || coalesce(w.word, retention._differences(p_before, p_after, '{question, seen}'))
    when 'bucket' then format('bucket %s: ', r.it ->> 'bucket')
      || case
        when p_before is null then 'first seen'
        else coalesce(
          w.word,
          retention._differences(
            p_before,
            p_after,
            '{versioning, described_at, paused_until, pauses, pause_code, pause_error, refused_in_row, looked_at, set_at, set_session, missing_confirmed_session}'
          )
        )
      end
    when 'surge' then format('surge %s: ', r.it ->> 'surge_id')
      || case
        when p_before is null
        then format('%s late results of %s set aside', p_after ->> 'found',
          case when p_after ->> 'tenants' = '1' then '1 tenant' else (p_after ->> 'tenants') || ' tenants' end)
        when p_before ->> 'closed_at' is null and p_after ->> 'closed_at' is not null
        then 'closed, nothing of it is set aside any more'
        else coalesce(w.word, retention._differences(p_before, p_after))
      end
    when 'surge_release' then format('surge %s: ', r.it ->> 'surge_id')
      || case
        when p_before is null
        then format('%s%s released', retention._counted((p_after ->> 'results')::bigint, 'result'), coalesce(' of tenant ' || (p_after ->> 'tenant_id'), ''))
        else 'its release ' || coalesce(w.word, retention._differences(p_before, p_after))
      end
    when 'allowance' then format('allowance %s: ', r.it ->> 'allowance_id')
      || case
        when p_before is null
        then format(
          '%s late results of %s may go, by %s', p_after ->> 'granted',
          case when p_after ->> 'tenant_key' = '' then 'no tenant' else 'tenant ' || substr(p_after ->> 'tenant_key', 2) end,
          p_after ->> 'reason'
        )
        else coalesce(w.word, retention._differences(p_before, p_after))
      end
    else format('%s: ', p_subject) || coalesce(w.word, retention._differences(p_before, p_after))
  end
  from (select coalesce(p_after, p_before) as it) r
  cross join (select case when p_before is null then 'added' when p_after is null then 'removed' end as word) w
$$;
