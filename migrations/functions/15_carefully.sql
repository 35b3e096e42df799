/*
What is counted of a table in which a row cannot be read: by halves of the tenants, so that it hides its own tenant and no
other. Halves, because each part begins with a probe of each tenant.
*/

-- What is due and not yet flagged: see _unflagged_of. A tenant of which a row cannot be read counts for nothing, and makes
-- the figure a lower bound; the pass names the row.
create or replace function retention._unflagged(p_bound integer)
returns table (due bigint, is_capped boolean, completed_at timestamptz, due_at timestamptz, newest timestamptz)
language plpgsql
stable
as $$
#variable_conflict use_variable
declare
  v_keys text[];
  v_parts jsonb;
  v_part record;
begin
  return query select u.* from retention._unflagged_of(p_bound, null) u;
exception
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
    v_keys := array(select t.tenant_key from retention._watched() t);
    due := 0;
    is_capped := true;
    v_parts := jsonb_build_array(to_jsonb(v_keys));
    while jsonb_array_length(v_parts) > 0 loop
      v_keys := array(select jsonb_array_elements_text(v_parts -> 0));
      v_parts := v_parts - 0;
      begin
        select * into strict v_part from retention._unflagged_of(p_bound, v_keys);
        due := due + v_part.due;
        completed_at := least(completed_at, v_part.completed_at);
        due_at := least(due_at, v_part.due_at);
        newest := greatest(newest, v_part.newest);
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          v_parts := v_parts || retention._halves(v_keys);
      end;
    end loop;
    return next;
end
$$;

-- The halves of some tenants, as an array of arrays; of one or none: nothing.
create or replace function retention._halves(p_tenant_keys text[])
returns jsonb
language sql
immutable
as $$
  select case
    when cardinality(p_tenant_keys) < 2 then '[]'::jsonb
    else jsonb_build_array(
      to_jsonb(p_tenant_keys[:cardinality(p_tenant_keys) / 2]), to_jsonb(p_tenant_keys[cardinality(p_tenant_keys) / 2 + 1:])
    )
  end
$$;

-- The p_tenants tenants whose oldest result past its policy has waited longest, with the number of their
-- results that wait, flagged or not. The number is counted among the p_bound oldest results of each tenant.
-- is_capped: there may be more of both. A tenant under a hold is left out, and so is one of which a row cannot be read; then
-- the others come in parts. With more than 250 tenants it looks at those of which something waits or falls due next. It costs
-- an index probe for each of them, and at most p_bound rows for each tenant that it returns.
-- For observers.
create or replace function retention.tenants_due(p_tenants integer default 20, p_bound integer default 100)
returns table (
  tenant_id text,
  retain_days double precision,
  oldest timestamptz,
  due_since timestamptz,
  due bigint,
  flagged bigint,
  is_capped boolean
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_keys text[];
  v_parts jsonb;
  v_left integer := p_tenants;
  v_found integer;
begin
  return query select t.* from retention._tenants_due_of(p_tenants, p_bound, null) t;
exception
  when others then
    if retention._is_passing(sqlstate) then
      raise;
    end if;
    v_parts := jsonb_build_array(to_jsonb(array(select t.tenant_key from retention._watched() t)));
    while jsonb_array_length(v_parts) > 0 and v_left > 0 loop
      v_keys := array(select jsonb_array_elements_text(v_parts -> 0));
      v_parts := v_parts - 0;
      begin
        return query select t.* from retention._tenants_due_of(v_left, p_bound, v_keys) t;
        get diagnostics v_found = row_count;
        v_left := v_left - v_found;
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          v_parts := v_parts || retention._halves(v_keys);
      end;
    end loop;
end
$$;
