import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { OPERATOR, OWNER, useGuarded } from '../support/rights-roles.ts';

/*
Functions, operators and casts of one's own that fit better than the server's, in a schema that anyone
may write to (as `public` was before PostgreSQL 15): CVE-2018-1058. Each raises when it runs with
anybody's rights but the attacker's.
*/
const TRAP = `
create schema trap;
grant usage on schema trap to public;

create function trap.spring(p_name text) returns void language plpgsql
set search_path = pg_catalog as $$
begin
  if current_user <> '${OPERATOR}' then
    raise exception 'trap %: ran as %', p_name, current_user using errcode = 'ZZ001';
  end if;
end $$;

do $$
declare
  v record;
  v_types text[] := '{text,name,integer,bigint,smallint,numeric,double precision,interval,timestamptz,uuid,jsonb,boolean}';
  v_left text;
  v_right text;
  v_number integer := 0;
begin
  -- Each of the server's functions that a text of ours names, with the same arguments, and with
  -- integers for bigints: what a bare number is.
  for v in
    select distinct on (p.proname, arguments) p.proname, arguments, result
    from pg_proc p
    cross join lateral (
      select replace(pg_get_function_identity_arguments(p.oid), 'VARIADIC ', ''),
        pg_get_function_result(p.oid)
    ) as signature (exact, result)
    cross join lateral (values (exact), (replace(exact, 'bigint', 'integer'))) as n (arguments)
    where p.pronamespace = 'pg_catalog'::regnamespace
      and p.prokind = 'f'
      and not p.proretset
      and p.prorettype <> 'internal'::regtype
      and not ('internal'::regtype = any (p.proargtypes))
      and not ('cstring'::regtype = any (p.proargtypes))
      and not (p.proargtypes::oid[] && array['"any"'::regtype::oid])
      and exists (
        select
        from pg_proc o
        where o.pronamespace = 'retention'::regnamespace
          and o.prosrc ~ ('\\m' || p.proname || '\\(')
      )
    order by p.proname, arguments
  loop
    begin
      execute format(
        'create function trap.%I(%s) returns %s language plpgsql immutable as
        $f$ begin perform trap.spring(%L); return null; end $f$',
        v.proname, v.arguments, v.result, v.proname
      );
      v_number := v_number + 1;
    exception
      when others then
        null;
    end;
  end loop;
  if v_number < 20 then
    raise exception 'only % traps were laid', v_number;
  end if;

  foreach v_left in array v_types loop
    foreach v_right in array v_types loop
      execute format(
        'create function trap.trap(%1$s, %2$s) returns boolean language plpgsql immutable as
        $f$ begin perform trap.spring(''comparison''); return null; end $f$;
        create function trap.trap_sum(%1$s, %2$s) returns %1$s language plpgsql immutable as
        $f$ begin perform trap.spring(''sum''); return null; end $f$',
        v_left, v_right
      );
      for v in select unnest('{=,<>,<,>,<=,>=,~,~~,?}'::text[]) as name loop
        execute format('create operator trap.%s (leftarg = %s, rightarg = %s, function = trap.trap)', v.name, v_left, v_right);
      end loop;
      for v in select unnest('{+,-,*,/,&,||,->>,->}'::text[]) as name loop
        execute format('create operator trap.%s (leftarg = %s, rightarg = %s, function = trap.trap_sum)', v.name, v_left, v_right);
      end loop;
    end loop;
  end loop;
end
$$;

create aggregate trap.count(*) (sfunc = int8inc, stype = bigint, initcond = '-1');
create aggregate trap.sum(bigint) (sfunc = int8pl, stype = bigint, initcond = '-1');
create aggregate trap.min(timestamptz) (sfunc = timestamptz_larger, stype = timestamptz);
`;

/** Temporary tables of our tables' names, with a trigger each that would run as whoever writes. */
const TEMPORARY = `
do $$
declare
  v_name text;
begin
  for v_name in
    select relname from pg_class where relnamespace = 'retention'::regnamespace and relkind in ('r', 'v')
    union select 'runs' union select 'unnest' union select 'made' union select 'after' union select 'before'
  loop
    execute format('create temporary table %I (run_id uuid, singleton boolean)', v_name);
    execute format(
      'create trigger trap before insert or update or delete on pg_temp.%I
      for each statement execute function trap.spring_trigger()', v_name
    );
  end loop;
end
$$;
create domain pg_temp.interval as text;
create domain pg_temp.bigint as text;
create domain pg_temp.timestamptz as text;
`;

const SPRING_TRIGGER = `
create function trap.spring_trigger() returns trigger language plpgsql as $$
begin
  perform trap.spring(tg_table_name);
  return null;
end $$`;

const LEASE = '00000000-0000-4000-8000-000000000001';

/** A call of each function that runs with its owner's rights; each reaches past its first lines. */
const CALLS: Readonly<Record<string, string>> = {
  export_seals: 'select * from retention.export_seals()',
  list_heads: 'select * from retention.list_heads(0)',
  note_seals_written: `select retention.note_seals_written('seals', 0, 'AccessDenied')`,
  seal_now: `select * from retention.settle(1, '${LEASE}', '{}', true); select * from retention.seal_now()`,
  seals_since: `select * from retention.seals_since('2020-01-01')`,
  seals_to_write: `select * from retention.seals_to_write('seals')`,
  verify_end: 'select * from retention.verify_end()',
  verify_head: `select * from retention.verify_head('\\x00', 1, '${LEASE}')`,
  verify_repeats: 'select * from retention.verify_repeats()',
  verify_seals: 'select * from retention.verify_seals()',
  accept_fence: `select retention.accept_fence('a drill')`,
  account_stamps: 'select kind, results from retention.account_stamps()',
  activity: 'select * from retention.activity(2)',
  add_keeper: `select retention.add_keeper('public.invoices', 'pdf_key', null, 'keep_until')`,
  list_keepers: 'select * from retention.list_keepers()',
  remove_keeper: `select retention.remove_keeper('public.invoices')`,
  active_holds: 'select * from retention.active_holds()',
  adopted_table: 'select * from retention.adopted_table()',
  begin_verify: 'select * from retention.begin_verify()',
  busy_buckets: 'select * from retention.busy_buckets()',
  certificate_changes: `select * from retention.certificate_changes('acme', '2000-01-01', '2020-01-01')`,
  certificate_facts: `select retention.certificate_facts('acme', '2000-01-01', '2020-01-01')`,
  certificate_leaves: `select * from retention.certificate_leaves('acme', array(select batch_id from retention.batch), '{}')`,
  certificate_results: `select * from retention.certificate_results('acme', '2000-01-01', '2020-01-01')`,
  certificate_seals: `select * from retention.certificate_seals(0, 10, '{1}')`,
  clock_state: 'select * from retention.clock_state()',
  clocks_differ: `select * from retention.clocks_differ('2020-01-01')`,
  times_ahead: 'select * from retention.times_ahead()',
  trend: 'select * from retention.trend()',
  claim: `select * from retention.claim('${LEASE}', '1 minute', 'x', null)`,
  take_turn: 'select retention.take_turn(null)',
  compare_listing: `select * from retention.compare_listing('${LEASE}', 'dpp-results', 'results/', '', null, '{results/a}', '{1}', array[pg_catalog.now()], pg_catalog.now())`,
  configure: `select retention.configure('{"batch_size": 7, "retain": "29 days", "loop_interval": "1 hour"}')`,
  apply_variables: `select * from retention.apply_variables('{"batch_size": 8, "retain": "28 days", "enabled": true}')`,
  variables: `select * from retention.variables('{"batch_size": 9, "retain": "27 days"}')`,
  confirm_fence: `select retention.renew_fence('11111111-1111-4111-8111-111111111111'); select retention.confirm_fence('11111111-1111-4111-8111-111111111111', 'b', 'x', 1)`,
  confirm_policy: `select retention.confirm_policy('acme')`,
  count_due: `select * from retention.count_due('acme', null, '1 day', true, 5)`,
  count_postponed: 'select retention.count_postponed()',
  dead_by_code: 'select * from retention.dead_by_code()',
  explain: `select * from retention.explain((select run_id::text from retention.result limit 1))`,
  explain_at: `select * from retention.explain_at((select run_id::text from retention.result limit 1), pg_catalog.clock_timestamp())`,
  history: `select * from retention.history(p_run_id => (select run_id::text from retention.result limit 1))`,
  fence: 'select * from retention.fence()',
  fence_losses: `select * from retention.fence_losses('{"head": {"holds": [{"id": "9"}], "highest_hold": 9, "policies": {"acme": "1 day"}, "receipt": {"settled_at": "2030-01-01"}}}')`,
  judge_fence: `select * from retention.judge_fence('{"token": "x"}', 'b', '{}')`,
  renew_fence: `select retention.renew_fence('11111111-1111-4111-8111-111111111111', 'x', true)`,
  gate: `select * from retention.gate('0.1.0')`,
  has_key_under: `select retention.has_key_under('results/')`,
  health: 'select * from retention.health()',
  known_buckets: `select * from retention.known_buckets('dpp-results')`,
  next_pass: 'select * from retention.next_pass()',
  wait_causes: 'select * from retention.wait_causes()',
  approve: 'select retention.approve(max(approval_id)) from retention.approval',
  ask_approval: `select retention.ask_approval('surge', '{}')`,
  withdraw_approval: 'select retention.withdraw_approval(max(approval_id)) from retention.approval',
  list_approvals: 'select * from retention.list_approvals(true)',
  list_guards: 'select * from retention.list_guards()',
  set_on_versioned: `select retention.set_on_versioned('dpp-results', 'purge', true)`,
  set_guard: `select retention.set_guard('policy_guard', '1000')`,
  cooling: 'select * from retention.cooling()',
  is_readable: `select retention.is_readable('d0000000-0000-4000-8000-000000000000')`,
  readable: `select retention.readable(array['d0000000-0000-4000-8000-000000000000'])`,
  upcoming: 'select * from retention.upcoming(30)',
  list_roles: 'select * from retention.list_roles()',
  missing_rights: 'select * from retention.missing_rights()',
  pending_policies: 'select * from retention.pending_policies()',
  sample_keys: `select retention.sample_keys('dpp-results')`,
  learn_habits: `select retention.learn_habits('dpp-results', '{"checksum": "md5"}', 'a test')`,
  set_ceilings: `select retention.set_ceilings('dpp-results', '{"max_per_second": null}', 'ada', true)`,
  set_habits: `select retention.set_habits('dpp-results', '{"checksum": null}', 'ada', true)`,
  forget_habits: `select retention.forget_habits('dpp-results')`,
  note_look: `select retention.note_look('dpp-results', 'AWS', 1, '{}')`,
  confirm_missing: `select retention.confirm_missing('dpp-results')`,
  troubles: 'select * from retention.troubles()',
  undated: 'select * from retention.undated()',
  vitals: 'select * from retention.vitals()',
  working_listeners: 'select * from retention.working_listeners()',
  halt: `select retention.halt('wrong policy', 'x')`,
  index_state: 'select * from retention.index_state()',
  resume: 'select retention.resume()',
  flag_expired: 'select retention.flag_expired(100, null, true)',
  begin_canary: `select * from retention.begin_canary('dpp-results', '1 hour')`,
  note_canary: `select retention.note_canary('dpp-results', 'a', 'gone')`,
  canary_state: 'select retention.canary_state()',
  next_standing_step: `select * from retention.next_standing_step('{dpp-results}', '1 day')`,
  note_standing_page: `select retention.note_standing_page('${LEASE}', '${LEASE}', null, '{}', '{}', '{}', '{}')`,
  note_standing_look: `select retention.note_standing_look('${LEASE}', '${LEASE}', 1, '{a}')`,
  end_standing: `select * from retention.end_standing('${LEASE}', '${LEASE}')`,
  note_standing_problem: `select retention.note_standing_problem('${LEASE}', '${LEASE}', 'a', 'b')`,
  standing_state: 'select retention.standing_state()',
  drop_strays: `select retention.drop_strays('${LEASE}', '{a}')`,
  end_verify: `select retention.end_verify('${LEASE}', '${LEASE}')`,
  next_listed: `select * from retention.next_listed('${LEASE}', '', null)`,
  next_returned: `select retention.next_returned('${LEASE}')`,
  next_stretch: `select * from retention.next_stretch('${LEASE}', 1)`,
  note_listed: `select retention.note_listed('${LEASE}', '{a}', '{1}', array[pg_catalog.now()])`,
  note_part_done: `select retention.note_part_done('${LEASE}', '${LEASE}', 1, 'listed')`,
  note_stretch: `select retention.note_stretch('${LEASE}', '${LEASE}', 1)`,
  note_verified: `select retention.note_verified('${LEASE}', '${LEASE}', 1, 'a')`,
  resume_verify: `select * from retention.resume_verify('dpp-results')`,
  unsort_verify: `select retention.unsort_verify('${LEASE}', '${LEASE}')`,
  verify_parts: `select * from retention.verify_parts('${LEASE}')`,
  flag_selected: `select * from retention.flag_selected('acme', null, '1 day', true, 5, 3, false, 5)`,
  forget_strays: `select retention.forget_strays('${LEASE}')`,
  list_due: `select * from retention.list_due('acme', null, '1 day', true, 5)`,
  list_holds: 'select * from retention.list_holds(true)',
  list_policies: 'select * from retention.list_policies()',
  list_releases: 'select * from retention.list_releases()',
  list_surges: 'select * from retention.list_surges(true)',
  place_holds: `select * from retention.place_holds('audit',
    array(select run_id::text from retention.result limit 1), '{acme}', '1 hour', 'x')`,
  preview_policy: `select * from retention.preview_policy('*', '1 day')`,
  next_orphans: `select * from retention.next_orphans('${LEASE}', 'dpp-results', '', '1 hour', 5)`,
  note_orphan_list: `select retention.note_orphan_list(pg_catalog.gen_random_uuid(), 'dpp-results', '', '1 day', 100, 1, 6,
    pg_catalog.repeat('a', 64))`,
  begin_orphans: `select * from retention.begin_orphans('${LEASE}', pg_catalog.repeat('a', 64), null, 'x')`,
  claim_orphans: `select * from retention.claim_orphans('${LEASE}', '{results/a}', '1 minute')`,
  settle_orphans: `select retention.settle_orphans('${LEASE}', 1, 1, 0, 0, '{results/a}', 'SlowDown', 'slow')`,
  list_orphan_lists: 'select * from retention.list_orphan_lists()',
  note_bucket: `select retention.note_bucket('dpp-results', 'off')`,
  place_hold: `select * from retention.place_hold('audit', null, 'acme', '1 hour', 'x')`,
  postpone: `select retention.postpone((select max(batch_id) from retention.batch), '${LEASE}', 'SlowDown', 'slow',
    array(select key from retention.flagged))`,
  pulse: 'select * from retention.pulse()',
  read_status: 'select * from retention.read_status()',
  release_hold: 'select retention.release_hold((select max(hold_id) from retention.hold))',
  release_holds: 'select * from retention.release_holds(array(select hold_id from retention.hold))',
  release_surge: `select retention.release_surge((select max(surge_id) from retention.surge), (select sum(results) from retention.surge_part))`,
  show_surge: 'select * from retention.show_surge((select max(surge_id) from retention.surge))',
  requeue_returned: `select retention.requeue_returned('${LEASE}', pg_catalog.now())`,
  retry: `select * from retention.retry(null, 'acme', null, null)`,
  find_tenant: `select * from retention.find_tenant('acme')`,
  adoption_report: 'select * from retention.adoption_report()',
  set_default_bucket: `select retention.set_default_bucket('dpp-results')`,
  set_policy: `select retention.set_policy('acme', '2 days', true)`,
  settle: `select * from retention.settle((select max(batch_id) from retention.batch), '${LEASE}',
    array(select key from retention.flagged order by run_id limit 1), false,
    (select jsonb_agg(jsonb_build_object('key', key, 'code', 'AccessDenied', 'reason', 'no', 'outcome', 'refused')) from retention.flagged), 5,
    array(select key from retention.flagged))`,
  sort_strays: `select * from retention.sort_strays('${LEASE}', pg_catalog.now(), '0')`,
  split: `select retention.split((select max(batch_id) from retention.batch), '${LEASE}',
    array(select key from retention.flagged))`,
  stamp_again: `select * from retention.stamp_again('0.1.0')`,
  stamp_gone: `select retention.stamp_gone('dpp-results', array(select run_id::text from retention.result limit 1), array(select key from retention.result limit 1))`,
  tenants_due: 'select * from retention.tenants_due(5, 5)',
  claim_messages: 'select * from retention.claim_messages()',
  settle_message: `select retention.settle_message('00000000-0000-0000-0000-000000000000')`,
  tick: `select retention.tick('x')`,
  try_stamp: 'select * from retention.try_stamp()',
  unset_policy: `select retention.unset_policy('acme', true)`,
  end_cutoff: `select retention.end_cutoff(array(select batch_id from retention.batch))`,
  unsettled: `select * from retention.unsettled(array(select batch_id from retention.batch), 'acme',
    array(select run_id::text from retention.result limit 1), '{dpp-results}')`,
  unstamp: `select retention.unstamp((select run_id::text from retention.result limit 1))`,
};

describeDatabase('promise 10: a search path with traps in it', () => {
  const database = useGuarded();
  let attacker: pg.Client;

  beforeAll(async () => {
    const { query, connectAs } = database();
    await query(TRAP);
    await query(SPRING_TRIGGER);
    await query(`create table invoices (pdf_key text, keep_until date); create index on invoices (pdf_key);
      insert into invoices values ('results/a'); grant select on invoices to ${OWNER}`);
    attacker = await connectAs(OPERATOR);
    await attacker.query(TEMPORARY);
  }, 120_000);

  test('every function that runs as its owner has a pinned path, and is called here', async () => {
    const rows = await database().query<{ name: string; path: string; granted: boolean }>(
      `select p.proname as name,
        (select c from unnest(p.proconfig) c where c like 'search_path=%') as path,
        has_function_privilege('${OPERATOR}', p.oid, 'execute') as granted
      from pg_proc p
      where p.pronamespace = 'retention'::regnamespace and p.prosecdef
      order by 1`,
    );
    for (const { name, path } of rows) expect(path, name).toBe('search_path=pg_catalog, pg_temp');
    const granted = rows.filter((row) => row.granted).map((row) => row.name);
    expect(granted).toEqual(Object.keys(CALLS).toSorted());
  });

  test('the traps are real: they snap where a path leads to them', async () => {
    await database().query(`create function trap.unpinned() returns timestamptz
      language plpgsql security definer as $$ begin return now(); end $$;
      grant execute on function trap.unpinned() to public`);
    await attacker.query('set search_path = trap, pg_catalog');
    await expect(attacker.query('select trap.unpinned()')).rejects.toMatchObject({
      code: 'ZZ001',
    });
    await database().query('drop function trap.unpinned()');
  });

  test.each(Object.entries(CALLS))('%s runs none of them', async (name, sql) => {
    const { query, insertRuns } = database();
    await insertRuns({ count: 6 });
    if (name !== 'add_keeper') {
      await query(`select retention.add_keeper('public.invoices', 'pdf_key', null, 'keep_until')`);
    }
    // A batch that is leased, for the functions that take one back, and another that is not.
    await query('update retention.setting set batch_size = 3; select retention.flag_expired()');
    if (!['claim', 'flag_expired', 'tick'].includes(name)) {
      await query(`select * from retention.claim('${LEASE}', '1 minute')`);
      await query(
        `select retention.place_hold('audit', null, 'acme') where ${name.startsWith('release_hold')}`,
      );
      await query(`insert into retention.stray (verify_id, bucket, key, bytes, modified_at)
        values ('${LEASE}', 'dpp-results', 'results/a', 1, now() - interval '1 day')`);
      await query(`insert into retention.policy (tenant_id, retain) values ('acme', '40 days')`);
      await query(`insert into retention.orphan_list
          (list_id, bucket, prefix, margin, listed, orphans, bytes, digest, made_at, begun_at, begun_by, begun_as)
        values ('${LEASE}', 'dpp-results', '', '1 day', 100, 1, 6, repeat('a', 64), now() - interval '2 hours',
          ${name === 'begin_orphans' ? 'null, null, null' : `now(), 'x', 'x'`})`);
      await query(
        `insert into retention.approval (kind, what, asked_by) values ('surge', '{}', 'ada')`,
      );
    }
    if (name.endsWith('_surge')) {
      await insertRuns({ count: 3, completedAgo: '50 days' });
      await query(`update retention.setting set surge_guard = 1; select retention.flag_expired(null, null, true);
        update retention.setting set surge_guard = null`);
    }
    for (const path of ['trap, pg_temp, pg_catalog', 'pg_temp, trap, pg_catalog']) {
      await attacker.query('begin');
      await attacker.query(`set local search_path = ${path}`);
      try {
        await attacker.query(sql);
      } finally {
        await attacker.query('rollback');
      }
    }
  });

  test('a recorded path of the application that leads to them makes no text of ours run one', async () => {
    const { insertRuns, query } = database();
    await query(`update retention.adapter set application_path = 'pg_temp, trap, pg_catalog'`);
    try {
      for (const dated of [true, false]) {
        await insertRuns({ count: 3, completedAgo: '50 days' });
        await query('select retention.flag_expired(null, null, true)');
        await query(`select * from retention.claim('${LEASE}', '1 minute')`);
        if (!dated) await query(`update retention.adapter set columns = columns - 'updated_at'`);
        const settled = await attacker.query(
          `select stamped, failed from retention.settle((select max(batch_id) from retention.batch), '${LEASE}', '{}', true)`,
        );
        expect(settled.rows).toEqual([{ stamped: 3, failed: 0 }]);
        expect((await attacker.query('select works from retention.try_stamp()')).rows).toHaveLength(
          1,
        );
      }
      const [run] = await query<{ run_id: string }>('select run_id from runs limit 1');
      expect(
        (await attacker.query('select retention.unstamp($1) as done', [run?.run_id])).rows,
      ).toEqual([{ done: true }]);
    } finally {
      await query(`update retention.adapter set application_path = '"$user", public',
        columns = columns || '{"updated_at": {"name": "updated_at", "type": "timestamp with time zone"}}'`);
    }
  });

  test("an operator's own session, with the usual path, runs none of them either", async () => {
    const { insertRuns, connect, query } = database();
    await insertRuns({ count: 3 });
    await query(`select retention.place_hold('audit', null, 'acme')`);
    await query(`select retention.release_hold(max(hold_id)) from retention.hold`);
    const operator = await connect();
    await operator.query('set search_path = "$user", trap');
    const views = await query<{ name: string }>(
      `select oid::regclass::text as name from pg_class
      where relnamespace = 'retention'::regnamespace and relkind = 'v'`,
    );
    expect(views.map(({ name }) => name).toSorted()).toEqual(
      ['_live', '_receipt', 'flagged', 'result', 'status'].map((name) => `retention.${name}`),
    );
    for (const { name } of views) await operator.query(`select * from ${name}`);
    for (const sql of [
      `select retention._in_days('36 hours'), retention._in_seconds('36 hours'), retention._iso(pg_catalog.now()),
        retention._tenant_key('a'), retention._place_in_line('a'),
        retention._hold_end(null, pg_catalog.now())`,
      `insert into retention.policy (tenant_id, retain) values ('globex', '9 days')`,
      `delete from retention.policy where tenant_id = 'globex'`,
      `select retention.grant_rights('${OPERATOR}', 'operator')`,
      `select retention._schedule_tick()`,
      `select * from retention.cron_state()`,
      `select * from retention.tick_jobs()`,
      `select * from retention.begin_verify()`,
    ]) {
      await operator.query(sql);
    }
  });
});
