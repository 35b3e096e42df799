/*
What `retention init` proposes: which columns of a table look like those of the view, with samples, and what the mapping
finds when it is tried. It changes nothing that stays, and names nothing of this schema but what begins with an underscore
in 02 and 03: `retention init` runs it as temporary functions, before there is a schema.
*/

-- What applications call the column of a view column, in lower case and without underscores; place 1 is the runbook's own
-- name, and of the others the lowest that fits counts. Not created_at for when a run completed, and not deleted_at for the
-- stamp: in other applications those mean something else.
create or replace function retention._usual_names()
returns table (view_column text, place integer, pattern text)
language sql
immutable
as $$
  values ('run_id', 1, 'runid'),
    ('run_id', 2, '(job|task|execution|process|workflow|pipeline|report|export)(run)?(id|uuid)'),
    ('run_id', 3, 'id|uuid|guid'),
    ('run_id', 4, '.*id'),
    ('tenant_id', 1, 'tenantid'),
    ('tenant_id', 2, 'tenant(uuid|key|slug|code|name)?'),
    ('tenant_id', 3, '(org|organi[sz]ation|account|customer|workspace|team|company|client)(id|uuid|key|slug|code)?'),
    ('status', 1, 'status'),
    ('status', 2, '(run|job|task|execution|process|processing)?(status|state)'),
    ('status', 3, 'phase|outcome'),
    ('completed_at', 1, 'completedat'),
    ('completed_at', 2, '(run|job|task|execution)?(completed|completion|finished|finish|ended|end|done)(at|on|time|date|ts|timestamp)?'),
    ('retain_until', 1, 'retainuntil'),
    ('bucket', 1, 'results3bucket'),
    ('bucket', 2, 'resultbucket(name)?'),
    ('bucket', 3, '(s3|output|object|storage|artifact|file|blob)bucket(name)?'),
    ('bucket', 4, 'bucket(name)?'),
    ('key', 1, 'results3key'),
    ('key', 2, 'result(object)?(key|path)'),
    ('key', 3, '(s3|output|object|storage|artifact|file|blob)(object|s3)?(key|path)'),
    ('key', 4, 'key|path'),
    ('etag', 1, 'resultetag'),
    ('etag', 2, '(results3|s3|object)?etag'),
    ('cleared_at', 1, 'resultclearedat'),
    ('cleared_at', 2, '(results3)?clearedat|(result|object|s3)(deleted|removed|purged|expired)at'),
    ('updated_at', 1, 'updatedat'),
    ('updated_at', 2, '(lastupdated|lastmodified|modified|updated)(at|on|time)?')
$$;

-- The columns of a table whose names look like a view column's, with their place, and why one cannot be it (null: it can).
-- Reads catalogs only.
create or replace function retention._columns_like(p_table regclass)
returns table (view_column text, name text, type text, place integer, fault text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct on (u.view_column, a.attnum)
    u.view_column,
    a.attname::text,
    c.type,
    u.place,
    case
      when u.view_column = 'status' and c.category = 'E'
        then case when c.is_domain then format('column %I is of a domain over the enum %s, whose operators take no domain', a.attname, c.type) end
      else coalesce(
        retention._column_fault(p_table, u.view_column, a.attname, null),
        case
          when u.view_column = 'run_id' and not retention._begins_unique(p_table, a.attname)
          then format('column %I begins no primary key or unique index', a.attname)
        end
      )
    end
  from pg_attribute a
  join retention._usual_names() u on lower(replace(a.attname, '_', '')) ~ ('^(' || u.pattern || ')$')
  cross join lateral retention._column_type(p_table, a.attname) c
  where a.attrelid = p_table
    and a.attnum > 0
    and not a.attisdropped
  order by u.view_column, a.attnum, u.place
$$;

-- The right side of a view column's pair in RETENTION_COLUMNS, as _parse_columns reads it. p_target: as it returns it.
create or replace function retention._write_target(p_view_column text, p_target jsonb)
returns text
language sql
immutable
as $$
  select case
    when p_target ? 'fixed' then quote_literal(p_target ->> 'fixed')
    when p_target ->> 'name' is null then ''
    else case
        when p_target ->> 'name' ~ '^[a-z_][a-z0-9_$]*$' then p_target ->> 'name'
        else '"' || replace(p_target ->> 'name', '"', '""') || '"'
      end
      || case when p_view_column = 'status' and p_target ->> 'completed' <> 'COMPLETED' then ':' || (p_target ->> 'completed') else '' end
  end
$$;

-- The words of a status column, the most frequent first, among the first 10,000 rows; of an enum all of its words.
create or replace function retention._status_words(p_table regclass, p_name text)
returns table (word text, results bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query execute format(
    'select r.word, count(*) from (select %I::text as word from %s limit 10000) r where r.word is not null group by 1 order by 2 desc, 1 limit 20',
    p_name, p_table
  );
  return query
  select e.enumlabel::text, 0::bigint
  from retention._column_type(p_table, p_name) c
  join pg_enum e on e.enumtypid = c.oid;
end
$$;

-- The word that means completed. word: null where a person has to say it, and then why.
create or replace function retention._completed_word(p_table regclass, p_name text, out word text, out why text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_like text[];
  v_all text;
begin
  select array_agg(distinct w.word) filter (
      where lower(w.word) in ('completed', 'complete', 'done', 'finished', 'succeeded', 'success', 'successful')
    ),
    string_agg(distinct left(w.word, 40), ', ')
  into v_like, v_all
  from retention._status_words(p_table, p_name) w;
  word := case
    when v_all is null or 'COMPLETED' = any (v_like) then 'COMPLETED'
    when cardinality(v_like) = 1 and v_like[1] !~ '[,"'':]' then v_like[1]
  end;
  why := case
    when v_all is null then 'there is no row yet; COMPLETED is taken for the word that means completed'
    when word is null and cardinality(v_like) > 1
      then format('several words of column %I may mean completed: %s', p_name, array_to_string(v_like, ', '))
    when word is null then format('no word of column %I reads like completed; there are: %s', p_name, v_all)
  end;
end
$$;

-- At most three different values of a column among the first 1,000 rows. Null: they may not be read.
create or replace function retention._samples(p_table regclass, p_name text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  v_samples text[];
begin
  execute format(
    'select array(select distinct left(%1$I::text, 200) from (select %1$I from %2$s limit 1000) r where %1$I is not null order by 1 limit 3)',
    p_name, p_table
  ) into v_samples;
  return v_samples;
exception
  when insufficient_privilege then
    return null;
end
$$;

-- The mapping that a table suggests, one row for each view column in the order of the view. p_columns: what a person has
-- given already, as in RETENTION_COLUMNS; that stays. target: as _parse_columns returns it; pair: how RETENTION_COLUMNS
-- says it, null where nothing need be said; others: what looks right too; problem: why a person has to choose.
-- Raises what _find_table and _parse_columns raise.
create or replace function retention._propose(p_table text, p_columns text)
returns table (
  view_column text, target jsonb, pair text, type text, is_given boolean, others text[], problem text, note text, samples text[]
)
language plpgsql
stable
as $$
declare
  v_table regclass := retention._find_table(p_table);
  v_usual jsonb := retention._parse_columns('');
  v_given jsonb := retention._parse_columns(p_columns);
  v_all jsonb := (
    select jsonb_object_agg(l.view_column, l.looks)
    from (select c.view_column, jsonb_agg(c) as looks from retention._columns_like(v_table) c group by 1) l
  );
  v_like record;
  v_word record;
  v_found text;
begin
  foreach view_column in array '{run_id, tenant_id, status, completed_at, retain_until, bucket, key, etag, cleared_at, updated_at}'::text[] loop
    is_given := coalesce(p_columns, '') ~* format('(^|,)\s*%s\s*=', view_column);
    problem := null;
    note := null;
    select array_agg(l.name) filter (where l.fault is null and l.place = l.least) as best,
      array_agg(l.name) filter (where l.fault is null) as all_names,
      (array_agg(l.name) filter (where l.fault is null and l.place = 1))[1] as usual,
      string_agg(l.fault, '; ') filter (where l.fault is not null and (l.place < 4 or view_column <> 'run_id')) as faults,
      coalesce(bool_or(l.name in ('retain_until', 'result_etag')), false) as is_automatic
    into v_like
    from (
      select r.name, r.place, r.fault, min(r.place) filter (where r.fault is null) over () as least
      from jsonb_to_recordset(v_all -> view_column) as r (name text, place integer, fault text)
    ) l;
    v_found := coalesce(v_like.usual, case when cardinality(v_like.best) = 1 then v_like.best[1] end);
    if is_given then
      target := nullif(v_given -> view_column, 'null');
    elsif v_found is not null then
      target := jsonb_build_object('name', v_found);
    else
      target := null;
      if cardinality(v_like.best) > 1 and view_column not in ('updated_at', 'etag') then
        problem := format('several columns look right: %s', (select string_agg(quote_ident(b), ', ') from unnest(v_like.best) b));
      elsif view_column in ('run_id', 'completed_at', 'key') then
        problem := coalesce('no column fits; ' || v_like.faults, 'no column looks right');
      elsif view_column = 'cleared_at' then
        target := v_usual -> view_column;
        note := 'will be added';
      else
        note := case view_column
          when 'tenant_id' then 'none: the default policy holds for every run'
          when 'status' then 'none: every run with a time of completion and a key counts as completed'
          when 'bucket' then 'none: every result lies in the default bucket, the only one of S3_RESULT_BUCKET'
          else 'none'
        end || coalesce('; ' || v_like.faults, '');
      end if;
    end if;
    if view_column = 'status' and target ? 'name' and not is_given then
      select * into v_word from retention._completed_word(v_table, target ->> 'name');
      target := target || jsonb_build_object('completed', coalesce(v_word.word, 'COMPLETED'));
      problem := case when v_word.word is null then v_word.why end;
      note := v_word.why;
    end if;
    others := array(select o from unnest(v_like.all_names) o where o is distinct from target ->> 'name');
    type := (select c.type from retention._column_type(v_table, target ->> 'name') c);
    samples := case when type is not null then retention._samples(v_table, target ->> 'name') end;
    pair := case
      when problem is not null and not is_given then null
      -- These two count without being named, where the table has them; here they have been left out.
      when target is null and view_column in ('retain_until', 'etag')
        then case when is_given or v_like.is_automatic then '' end
      when target is not distinct from nullif(v_usual -> view_column, 'null') then null
      when view_column in ('retain_until', 'etag') and target ->> 'name' in ('retain_until', 'result_etag') then null
      else retention._write_target(view_column, target)
    end;
    return next;
  end loop;
end
$$;

-- The tables that look like one of runs with results: a column like a key, and one like a time of completion.
create or replace function retention._tables_like()
returns table (name text, about_rows bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', n.nspname, c.relname),
    greatest(c.reltuples, 0)::bigint
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p')
    and c.relpersistence <> 't'
    and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema', 'retention', 'cron')
    and (
      select count(distinct l.view_column) = 2
      from retention._columns_like(c.oid) l
      where l.view_column in ('key', 'completed_at')
        and l.fault is null
        and l.place < 4
    )
  order by c.reltuples desc, 1
  limit 20
$$;
