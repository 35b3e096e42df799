-- Up Migration

/*
The adapter view retention.result: a plain column-renaming view over one table, hence updatable,
lockable and inlined, so that the application's indexes are used. Its owner reads the table; others
need rights on the view's columns only, which makes row-level security on the table a non-event.
*/
do $$
declare
  v_adapter retention.adapter;
  v_columns jsonb;
  v_tenant text;
  v_status text;
  v_bucket text;
  v_updated_at text;
begin
  select * into strict v_adapter from retention.adapter;
  v_columns := v_adapter.columns;
  v_tenant := coalesce(quote_ident(v_columns -> 'tenant_id' ->> 'name'), 'null::text');
  v_status := case
    when v_columns -> 'status' ->> 'name' is null then '''COMPLETED''::text'
    else format('%I', v_columns -> 'status' ->> 'name')
  end;
  v_bucket := case
    when v_columns -> 'bucket' ? 'fixed' then format('%L::text', v_columns -> 'bucket' ->> 'fixed')
    when v_columns -> 'bucket' ->> 'name' is null then 'null::text'
    else format('%I', v_columns -> 'bucket' ->> 'name')
  end;
  v_updated_at := case
    when v_columns -> 'updated_at' ->> 'name' is null then 'null::timestamptz'
    else format('%I', v_columns -> 'updated_at' ->> 'name')
  end;

  execute format(
    'create view retention.result as
      select %I as run_id,
        %s as tenant_id,
        %s as status,
        %s as completed_at,
        %s as retain_until,
        %s as bucket,
        %I as key,
        %I as cleared_at,
        %s as updated_at
      from %s',
    v_columns -> 'run_id' ->> 'name',
    v_tenant,
    v_status,
    retention.instant(v_columns -> 'completed_at'),
    retention.instant(v_columns -> 'retain_until'),
    v_bucket,
    v_columns -> 'key' ->> 'name',
    v_columns -> 'cleared_at' ->> 'name',
    v_updated_at,
    v_adapter.table_name
  );

  -- retention.stamp(batch, bucket, run ids): takes what S3 has deleted of a batch off the work tables
  -- and writes the cleared-at column of the rows that still point at the key that was deleted, and
  -- updated-at where the table has one. Returns how many results that were, and how many rows it
  -- stamped. The only statement of this schema that writes to the application's table for a batch;
  -- called by settle alone.
  execute format(
    'create function retention.stamp(
      p_batch_id bigint,
      p_bucket text,
      p_cleared retention.run_id[],
      p_default_bucket text,
      out cleared bigint,
      out stamped bigint
    )
    language plpgsql
    as $stamp$
    declare
      v_run_ids retention.run_id[];
      v_keys text[];
    begin
      -- Only a list that the planner sees is looked up by hash, and not from its start for each result.
      execute
        ''with gone as (
          delete from retention.expired e
          where e.batch_id = $1
            and e.run_id = any ($2)
          returning e.run_id, e.key
        )
        select count(*), array_agg(g.run_id), array_agg(g.key) from gone g''
      into cleared, v_run_ids, v_keys
      using p_batch_id, p_cleared;
      update retention.result r
      set cleared_at = now()%s
      from unnest(v_run_ids, v_keys) as g (run_id, key)
      where r.run_id = g.run_id
        and r.key = g.key collate "C"
        and coalesce(nullif(r.bucket, ''''), p_default_bucket) = p_bucket
        and r.cleared_at is null;
      get diagnostics stamped = row_count;
    end
    $stamp$',
    case when v_columns -> 'updated_at' ->> 'name' is null then '' else ', updated_at = now()' end
  );

  -- retention.stamp_rows(bucket, run ids, keys): the same for rows that no batch is about, whose
  -- object S3 has said is gone. Called by stamp_gone alone.
  execute format(
    'create function retention.stamp_rows(p_bucket text, p_run_ids retention.run_id[], p_keys text[], p_default_bucket text)
    returns bigint
    language plpgsql
    as $stamp$
    declare
      v_stamped bigint;
    begin
      update retention.result r
      set cleared_at = now()%s
      from unnest(p_run_ids, p_keys) as g (run_id, key)
      where r.run_id = g.run_id
        and r.key = g.key
        and coalesce(nullif(r.bucket, ''''), p_default_bucket) = p_bucket
        and r.cleared_at is null;
      get diagnostics v_stamped = row_count;
      return v_stamped;
    end
    $stamp$',
    case when v_columns -> 'updated_at' ->> 'name' is null then '' else ', updated_at = now()' end
  );
end
$$;

-- Down Migration

drop function retention.stamp_rows(text, retention.run_id[], text[], text);
drop function retention.stamp(bigint, text, retention.run_id[], text);
drop view retention.result;
