/*
The list of what would go where a row cannot be read: tenant by tenant, and from such a row on row by row.
*/

-- What list_due lists where no runs are named. A row that raises is passed by with a warning that names it. It costs a
-- look-up for each result. Called by list_due and count_due.
create or replace function retention._list_carefully(p_tenant_id text, p_older_than interval, p_early boolean, p_limit bigint)
returns setof retention.selection
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set max_parallel_workers_per_gather = 0
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
  v_left bigint := p_limit;
  v_rows retention.selection[] := '{}';
  v_row retention.selection;
  v_tenant record;
  v_next record;
  v_is_careful boolean;
  v_is_full boolean;
  v_found bigint;
begin
  for v_tenant in
    select t.tenant_id,
      now() - retention._in_seconds(
        case when p_early then p_older_than else greatest(t.retain, coalesce(p_older_than, t.retain)) end
      ) as before,
      null::timestamptz as completed_at,
      null::retention.run_id as run_id
    from retention._tenants() t
    where p_tenant_id is null or t.tenant_id::text = p_tenant_id
  loop
    v_is_careful := false;
    loop
      v_is_full := false;
      begin
        if v_is_careful then
          select a.completed_at, a.run_id
          into v_next
          from retention._row_after(v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before) a;
          exit when not found;
        end if;
        for v_row in
          select s.run_id, s.tenant_id, s.bucket, s.key, s.completed_at, s.due_at
          from retention._past(
            v_tenant.tenant_id, v_tenant.completed_at, v_tenant.run_id, v_tenant.before,
            case when v_is_careful then 1 end
          ) s
          where s.has_place
            and not s.held
            and (s.is_due or p_early and s.due_at is not null and coalesce(s.retain_until, '-infinity') < now())
            and s.run_id is not null
            and s.run_id not in (select retention._waiting_run_ids())
        loop
          v_rows := v_rows || v_row;
          v_tenant.completed_at := v_row.completed_at;
          v_tenant.run_id := v_row.run_id;
          v_is_full := cardinality(v_rows) >= case when v_left < 5000 then 2 * v_left + 100 else 10000 end;
          exit when v_is_full;
        end loop;
        if v_is_careful then
          v_tenant.completed_at := v_next.completed_at;
          v_tenant.run_id := v_next.run_id;
        end if;
        exit when not v_is_full and not v_is_careful;
      exception
        when others then
          if retention._is_passing(sqlstate) then
            raise;
          end if;
          -- From here row by row, until the one that raises has been passed by.
          if v_is_careful then
            raise warning 'run % cannot be read and is passed by: % %', v_next.run_id, sqlstate, sqlerrm;
            v_tenant.completed_at := v_next.completed_at;
            v_tenant.run_id := v_next.run_id;
          end if;
          v_is_careful := not v_is_careful;
      end;
      if v_is_full then
        return query select u.* from retention._unshared_carefully(v_rows, v_left) u;
        get diagnostics v_found = row_count;
        v_left := v_left - v_found;
        v_rows := '{}';
        if v_left <= 0 then
          return;
        end if;
      end if;
    end loop;
  end loop;
  return query select u.* from retention._unshared_carefully(v_rows, v_left) u;
end
$$;
