/*
What cannot be flagged: a part that raises is tried again in smaller parts, until the row that raises is alone.
*/

-- Passes by the next row of a tenant, which cannot be read. Returns its run id, or null when there is none.
create or replace function retention._pass_by(p_tenant_key text)
returns text
language plpgsql
as $$
declare
  v_tenant record;
  v_next record;
begin
  select t.tenant_id, g.completed_at, g.run_id, now() - retention._in_seconds(t.retain) as before
  into v_tenant
  from retention._tenants() t
  left join retention.progress g on g.tenant_key = t.tenant_key
  where t.tenant_key = p_tenant_key;
  select r.*
  into v_next
  from retention._row_after(v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before) r;
  if not found then
    return null;
  end if;
  insert into retention.progress (tenant_key, completed_at, run_id)
  values (p_tenant_key, v_next.completed_at, v_next.run_id)
  on conflict (tenant_key) do update
  set completed_at = excluded.completed_at,
    run_id = excluded.run_id;
  return coalesce(v_next.run_id::text, '(no run id)');
end
$$;

-- A part that has raised, in smaller ones: by halves of the tenants until the one that raises is alone, then
-- by fewer of its rows until one is left. That one is passed by, at most 100 of a tenant. Returns what _flag_part
-- returns.
create or replace function retention._flag_carefully(p_rows bigint, p_batch_size integer)
returns table (
  flagged bigint,
  batches bigint,
  oldest timestamptz,
  looked_at bigint,
  left_alone bigint,
  without_place bigint,
  without_place_run_ids text[],
  skipped bigint,
  skipped_rows text[],
  parked bigint,
  more boolean,
  tenants bigint
)
language plpgsql
as $$
#variable_conflict use_variable
declare
  v_keys text[] := array(select t.tenant_key from retention._tenants() t);
  v_firsts integer[] := array[1];
  v_lasts integer[] := array[cardinality(v_keys)];
  v_first integer;
  v_last integer;
  v_rows bigint;
  v_passed_by integer;
  v_run_id text;
  v_part record;
begin
  flagged := 0;
  batches := 0;
  looked_at := 0;
  left_alone := 0;
  without_place := 0;
  without_place_run_ids := '{}';
  skipped := 0;
  skipped_rows := '{}';
  parked := 0;
  more := false;
  tenants := cardinality(v_keys);
  while cardinality(v_firsts) > 0 loop
    if looked_at >= p_rows then
      more := true;
      exit;
    end if;
    v_first := v_firsts[cardinality(v_firsts)];
    v_last := v_lasts[cardinality(v_lasts)];
    v_firsts := trim_array(v_firsts, 1);
    v_lasts := trim_array(v_lasts, 1);
    v_rows := greatest((p_rows - looked_at) * (v_last - v_first + 1) / cardinality(v_keys), 1);
    v_passed_by := 0;
    loop
      begin
        select * into strict v_part from retention._flag_part(v_rows, p_batch_size, v_keys[v_first:v_last]);
        flagged := flagged + v_part.flagged;
        batches := batches + v_part.batches;
        oldest := least(oldest, v_part.oldest);
        looked_at := looked_at + v_part.looked_at;
        left_alone := left_alone + v_part.left_alone;
        without_place := without_place + v_part.without_place;
        without_place_run_ids := (without_place_run_ids || v_part.without_place_run_ids)[1:10];
        skipped := skipped + v_part.skipped;
        parked := parked + v_part.parked;
        skipped_rows := (skipped_rows || v_part.skipped_rows)[1:10];
        if not v_part.more then
          exit;
        end if;
        if looked_at >= p_rows or v_first < v_last then
          more := true;
          exit;
        end if;
        v_rows := least(v_rows * 8, p_rows - looked_at);
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          if v_first < v_last then
            v_firsts := v_firsts || ((v_first + v_last) / 2 + 1) || v_first;
            v_lasts := v_lasts || v_last || ((v_first + v_last) / 2);
            exit;
          end if;
          if v_rows > 1 then
            v_rows := greatest(v_rows / 8, 1);
          else
            v_run_id := retention._pass_by(v_keys[v_first]);
            looked_at := looked_at + 1;
            skipped := skipped + 1;
            v_passed_by := v_passed_by + 1;
            skipped_rows := (
              skipped_rows || format('run %s cannot be read: %s %s', left(v_run_id, 100), sqlstate, left(sqlerrm, 200))
            )[1:10];
            -- Without a next row, not even its place in the line can be read: the tenant waits for the next pass.
            if v_run_id is null or v_passed_by >= 100 or looked_at >= p_rows then
              more := v_run_id is not null;
              exit;
            end if;
          end if;
      end;
    end loop;
  end loop;
  return next;
end
$$;
