/*
The indexes of this schema's own tables. They stand here and not beside the tables, so that `retention migrate up` makes
those again that a schema tool has dropped. Those on the application's table are made by 0002_adopt.
*/

do $$
declare
  v_index text;

begin
  -- An index that a lost reindex left has its name and serves no query.
  for v_index in
    select i.indexrelid::regclass
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indrelid
    where c.relnamespace = 'retention'::regnamespace
      and not i.indisvalid
      and not i.indisprimary
  loop
    execute 'drop index ' || v_index;

  end loop;

end
$$;

create index if not exists hold_run on retention.hold (run_id) where run_id is not null;

create index if not exists hold_tenant on retention.hold (tenant_id) where tenant_id is not null;

create index if not exists hold_released on retention.hold (released_at);

create index if not exists spared_object_until on retention.spared_object (until);

-- Empty, as long as nothing is wrong: the gate asks it at every claim.
create index if not exists bucket_lacks_objects on retention.bucket (bucket)
where missing * 2 > looked
  and missing_confirmed_at is null
  and (looked >= 5 or missing_keys[1] ~ '^(/|[a-z0-9]+://)');

create index if not exists key_stretch_in_order on retention.key_stretch (copy_id, last_key, place);

create index if not exists ahead_due_at on retention.ahead (due_at);

create index if not exists scan_started_at on retention.scan (started_at);

create index if not exists batch_visible on retention.batch (bucket, visible_at, batch_id)
where settled_at is null
  and dead_at is null;

create index if not exists batch_open on retention.batch (oldest)
where settled_at is null;

create index if not exists batch_failed on retention.batch (failed_at)
where failed_at is not null
  and settled_at is null;

create index if not exists batch_leased on retention.batch (bucket)
where lease is not null;

create index if not exists batch_unstamped on retention.batch (visible_at, batch_id)
where deleted_at is not null
  and settled_at is null;

create index if not exists batch_settled on retention.batch (settled_at)
where settled_at is not null;

create index if not exists batch_history on retention.batch (settled_at)
where settled_at is not null
  and cleared = 0;

create index if not exists unanswered_until on retention.unanswered (until);

create index if not exists selection_run on retention.selection (run_id);

create index if not exists policy_newest on retention.policy (set_at);

create index if not exists policy_pending on retention.policy (pending_at) where pending_retain is not null;

create index if not exists approval_open on retention.approval (kind, asked_by)
where used_at is null
  and withdrawn_at is null;

create index if not exists held_object_hold on retention.held_object (hold_id);

create index if not exists surge_part_oldest on retention.surge_part (oldest);

create index if not exists surge_part_surge on retention.surge_part (surge_id);

create index if not exists surge_part_looked_at on retention.surge_part (looked_at);

create index if not exists lateness_at on retention.lateness (at);

create index if not exists allowance_open on retention.allowance (tenant_key) where dropped_at is null;

create index if not exists spared_object_noted_at on retention.spared_object (noted_at);

-- What is not sealed yet stands at the end, in the order of time; the rest is found by its seal.
create index if not exists batch_seal on retention.batch (seal_id, settled_at)
where settled_at is not null
  and cleared > 0;

create index if not exists receipt_seal on retention.receipt (seal_id, settled_at);

create index if not exists change_seal on retention.change (seal_id, change_id);

create index if not exists seal_unpruned on retention.seal (sealed_at) where pruned_at is null;

create index if not exists receipt_settled on retention.receipt (settled_at);

create index if not exists change_at on retention.change (at);

create index if not exists change_subject on retention.change (subject, name, change_id);

create index if not exists change_tenant on retention.change (tenant_id, change_id) where tenant_id is not null;

create index if not exists change_run on retention.change (run_id, change_id) where run_id is not null;

-- Which receipts a run may be in, by when it completed: seven years of them are not read for one.
create index if not exists batch_receipt_range on retention.batch using gist (tstzrange(oldest, newest, '[]'))
where settled_at is not null
  and cleared > 0;

create index if not exists hold_object on retention.hold (bucket, key) where key is not null;

create index if not exists canary_batch on retention.canary (batch_id);

-- Only these go on after they were broken off.
create unique index if not exists verify_run_resumed on retention.verify_run (kind, bucket, prefixes)
where kind in ('repair', 'dry run', 'orphans');

create index if not exists verify_stretch_run on retention.verify_stretch (verify_id, part, stretch_id);

create index if not exists past_work_batch on retention.past_work (batch_id, since);

create index if not exists past_work_range on retention.past_work using gist (tstzrange(oldest, newest, '[]'))
where run_ids is not null;

create index if not exists past_work_until on retention.past_work (until);

create index if not exists attention_untold on retention.attention (kind, attention_id)
where told_at is null;

create index if not exists attention_gate on retention.attention (kind, attention_id desc)
where kind in ('halted', 'copy', 'resumed');
