-- What happened to the tables, written by triggers of the campaign's own. With
-- track_commit_timestamp on, the transaction id says when a change could be seen first.
create schema history;

create table history.run_change (
  seq bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  xid xid8 not null default pg_current_xact_id(),
  by text not null default current_setting('application_name'),
  op text not null,
  run_id uuid not null,
  tenant_id text,
  status text,
  completed_at timestamptz,
  bucket text,
  key text,
  cleared_at timestamptz,
  was_cleared_at timestamptz,
  only_stamped boolean
);

create function history.note_run()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog
as $$
begin
  if tg_op = 'DELETE' then
    insert into history.run_change (op, run_id) values (tg_op, old.run_id);
  else
    insert into history.run_change (
      op, run_id, tenant_id, status, completed_at, bucket, key, cleared_at, was_cleared_at, only_stamped
    )
    values (
      tg_op, new.run_id, new.tenant_id, new.status, new.completed_at, new.result_s3_bucket,
      new.result_s3_key, new.result_cleared_at,
      case when tg_op = 'UPDATE' then old.result_cleared_at end,
      tg_op = 'UPDATE'
        and to_jsonb(new) - 'result_cleared_at' - 'updated_at'
          = to_jsonb(old) - 'result_cleared_at' - 'updated_at'
    );
  end if;
  return null;
end
$$;

create trigger note_run after insert or update or delete on public.runs
for each row execute function history.note_run();

create table history.item_change (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  by text not null default current_setting('application_name'),
  op text not null,
  run_id uuid not null,
  batch_id bigint,
  bucket text not null,
  key text not null
);

-- Of each flagged result, the batch that it is in. What goes from one batch to another within a transaction is an
-- UPDATE; what leaves a batch and is in no other open one is a DELETE.
create function history.note_items()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog
as $$
begin
  if tg_op <> 'INSERT' and old.settled_at is null then
    insert into history.item_change (op, run_id, batch_id, bucket, key)
    select 'DELETE', r.run_id, old.batch_id, old.bucket, r.key
    from retention._results(old) r
    where r.run_id not in (
      select unnest(b.run_ids)
      from retention.batch b
      where b.settled_at is null
    );
  end if;
  if tg_op = 'INSERT' and new.settled_at is null then
    insert into history.item_change (op, run_id, batch_id, bucket, key)
    select case when m.run_id is null then 'INSERT' else 'UPDATE' end, r.run_id, new.batch_id, new.bucket, r.key
    from retention._results(new) r
    left join (
      select distinct i.run_id
      from history.item_change i
      where i.xid = pg_current_xact_id()
      union
      select unnest(b.run_ids)
      from retention.batch b
      where b.settled_at is null
        and b.batch_id <> new.batch_id
    ) m on m.run_id = r.run_id;
  end if;
  return null;
end
$$;

create trigger note_items after insert or update or delete on retention.batch
for each row execute function history.note_items();

create table history.batch_change (
  seq bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  xid xid8 not null default pg_current_xact_id(),
  batch_id bigint not null,
  lease uuid,
  visible_at timestamptz not null,
  was_lease uuid,
  was_visible_at timestamptz,
  cleared integer not null,
  spared integer not null,
  settled_at timestamptz,
  was_settled_at timestamptz
);

create function history.note_batch()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog
as $$
begin
  insert into history.batch_change (
    batch_id, lease, visible_at, was_lease, was_visible_at, cleared, spared, settled_at, was_settled_at
  )
  values (
    new.batch_id, new.lease, new.visible_at,
    case when tg_op = 'UPDATE' then old.lease end,
    case when tg_op = 'UPDATE' then old.visible_at end,
    new.cleared, new.spared, new.settled_at,
    case when tg_op = 'UPDATE' then old.settled_at end
  );
  return null;
end
$$;

create trigger note_batch after insert or update on retention.batch
for each row execute function history.note_batch();

create table history.hold_change (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  hold_id bigint not null,
  run_id uuid,
  tenant_id text,
  released_at timestamptz
);

create function history.note_hold()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog
as $$
begin
  insert into history.hold_change (hold_id, run_id, tenant_id, released_at)
  values (new.hold_id, new.run_id, new.tenant_id, new.released_at);
  return null;
end
$$;

create trigger note_hold after insert or update on retention.hold
for each row execute function history.note_hold();

create table history.policy_change (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  tenant_id text not null,
  retain interval not null
);

create function history.note_policy()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog
as $$
begin
  insert into history.policy_change (tenant_id, retain) values (new.tenant_id, new.retain);
  return null;
end
$$;

create trigger note_policy after insert or update on retention.policy
for each row execute function history.note_policy();

insert into history.policy_change (tenant_id, retain)
select tenant_id, retain from retention.policy;
