-- Up Migration

revoke all on all functions in schema retention from public;
revoke all on all tables in schema retention from public;

-- Grants a role what a listener and its operators need, and no more: to look, to call the functions,
-- and, of the application's table, the adapter view's columns. Runs as whoever migrates.
create function retention.grant_rights(p_role text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform retention.check_role(p_role);
  execute format('grant usage on schema retention to %I', p_role);
  execute format('grant select on all tables in schema retention to %I', p_role);
  if (select columns -> 'updated_at' ->> 'name' from retention.adapter) is null then
    execute format('grant update (cleared_at) on retention.result to %I', p_role);
  else
    execute format('grant update (cleared_at, updated_at) on retention.result to %I', p_role);
  end if;
  execute format(
    'grant execute on function
      retention.tick(text), retention.flag_expired(integer, text, boolean), retention.keep_house(),
      retention.claim(uuid, interval, text, bigint[], integer),
      retention.settle(bigint, uuid, retention.run_id[], jsonb, integer, retention.run_id[], integer),
      retention.postpone(bigint, uuid, text, text, retention.run_id[]),
      retention.split(bigint, uuid, retention.run_id[]), retention.give_back(bigint, uuid),
      retention.pulse(), retention.read_status(), retention.count_due(integer), retention.oldest_due(), retention.estimate_live(),
      retention.activity(integer), retention.tenants_due(integer, integer),
      retention.exactly(interval), retention.in_days(interval), retention.tenant_key(text),
      retention.list_due(text, text[], interval, boolean, bigint),
      retention.flag_selected(text, text[], interval, boolean, bigint, integer),
      retention.newly_due(text, interval), retention.newly_due_by_tenant(text, interval),
      retention.set_policy(text, interval, boolean), retention.unset_policy(text, boolean),
      retention.confirm_policy(text, bigint), retention.configure(jsonb),
      retention.place_hold(text, text, text, interval, text), retention.release_hold(bigint, text),
      retention.hold_end(timestamptz, timestamptz), retention.place_in_line(text), retention.iso(timestamptz),
      retention.retry(text[], text, text, text), retention.explain(text),
      retention.compare_listing(uuid, text, text, text, text, text[], bigint[], timestamptz[], timestamptz),
      retention.stamp_gone(text, text[], text[]), retention.sort_strays(uuid, timestamptz, interval),
      retention.requeue_returned(uuid, timestamptz),
      retention.next_orphans(uuid, text, text, interval, integer), retention.forget_strays(uuid),
      retention.note_bucket(text, text), retention.unstamp(text)
    to %I',
    p_role
  );
  update retention.adapter set listener_role = p_role;
end
$$;

revoke all on function retention.grant_rights(text) from public;

-- Down Migration

drop function retention.grant_rights(text);
