import type pg from 'pg';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { OPERATOR, OWNER, SECOND_OPERATOR, useGuarded } from '../support/rights-roles.ts';

const REFUSED = { code: 'RR004' };

describeDatabase('four eyes: one asks, another approves exactly that', () => {
  const database = useGuarded();
  let ada: pg.Client;
  let grace: pg.Client;

  beforeAll(async () => {
    ada = await database().connectAs(OPERATOR);
    grace = await database().connectAs(SECOND_OPERATOR);
  });
  beforeEach(async () => {
    await database().query('update retention.setting set surge_guard = 1000');
  });
  afterEach(async () => {
    await database().query(`alter table retention.setting disable trigger guard_setting;
      update retention.setting set four_eyes = false, cool_off = null, surge_guard = 1000, policy_guard = 1000,
        default_bucket = null;
      alter table retention.setting enable trigger guard_setting;
      delete from retention.approval; delete from retention.policy where tenant_id <> '*';
      update retention.policy set retain = '30 days', pending_retain = null, pending_results = null,
        pending_at = null, pending_by = null where tenant_id = '*'; delete from retention.hold; delete from retention.keeper`);
  });

  const on = (): Promise<unknown> =>
    database().query('update retention.setting set four_eyes = true');

  /** Asks, as the refusal says, for what a statement of a person does. */
  async function ask(person: pg.Client, sql: string): Promise<number> {
    try {
      await person.query(sql);
    } catch (error) {
      const { code, detail = '{}' } = error as { readonly code: string; readonly detail?: string };
      expect(code).toBe(REFUSED.code);
      const { kind, what } = JSON.parse(detail) as { kind: string; what: unknown };
      const { rows } = await person.query<{ id: string }>(
        'select retention.ask_approval($1, $2) as id',
        [kind, JSON.stringify(what)],
      );
      return Number(rows[0]?.id);
    }
    throw new Error(`${sql} was not refused`);
  }
  const approve = (person: pg.Client, id: number): Promise<unknown> =>
    person.query('select retention.approve($1)', [id]);

  async function holdOnRun(): Promise<number> {
    const run = await database().insertRun();
    const [hold] = await database().query<{ id: string }>(
      'select hold_id as id from retention.place_hold($1, $2)',
      ['audit', run],
    );
    return Number(hold?.id);
  }

  test('off, nobody is asked for', async () => {
    const hold = await holdOnRun();
    await ada.query(`select retention.set_policy('*', '20 days')`);
    await ada.query('select retention.release_hold($1)', [hold]);
  });

  const keepInvoices = (): Promise<unknown> =>
    database()
      .query(`create table if not exists public.invoices (pdf_key text, other_key text, ends timestamptz);
      create index if not exists invoices_key on public.invoices (pdf_key);
      alter table public.invoices owner to ${OWNER};
      select retention.add_keeper('public.invoices', 'pdf_key')`);

  /** Each act, prepared and as a statement of one person. */
  const ACTS: Readonly<Record<string, () => Promise<string>>> = {
    'a shorter policy for everybody': async () => `select retention.set_policy('*', '20 days')`,
    'a shorter policy of a tenant': async () => {
      await database().insertRun();
      return `select retention.set_policy('acme', '20 days')`;
    },
    'a shorter policy that more than the guard lets through is confirmed with': async () => {
      await database().insertRuns({ count: 20, completedAgo: '25 days' });
      await database().query('update retention.setting set policy_guard = 5');
      return `select retention.set_policy('acme', '20 days', true)`;
    },
    'the confirmation of a pending policy': async () => {
      await database().insertRuns({ count: 20, completedAgo: '25 days' });
      await database().query(`update retention.setting set policy_guard = 5;
        select retention.set_policy('acme', '20 days')`);
      return `select retention.confirm_policy('acme')`;
    },
    'a policy that is taken away and was longer than the default': async () => {
      await database().query(
        `insert into retention.policy (tenant_id, retain) values ('acme', '90 days')`,
      );
      return `select retention.unset_policy('acme')`;
    },
    'the release of a hold': async () => `select retention.release_hold(${await holdOnRun()})`,
    'the release of two holds at once': async () =>
      `select * from retention.release_holds(array[${await holdOnRun()}, ${await holdOnRun()}])`,
    'a bucket that is purged of versions': async () =>
      `select retention.set_on_versioned('versions', 'purge', true)`,
    'a guard switched off': async () => `select retention.set_guard('surge_guard', 'none')`,
    'a guard raised': async () => `select retention.set_guard('policy_guard', '1001')`,
    'a shorter cool-off': async () => {
      await database().query(`update retention.setting set cool_off = '2 days'`);
      return `select retention.set_guard('cool_off', '1 day')`;
    },
    'another default bucket': async () => {
      await database().query(`update retention.setting set default_bucket = 'first'`);
      return `select retention.set_default_bucket('second')`;
    },
    'a keeper that is taken away': async () => {
      await keepInvoices();
      return `select retention.remove_keeper('public.invoices')`;
    },
    'switching four eyes off': async () => `select retention.set_guard('four_eyes', 'off')`,
  };

  test.each(Object.keys(ACTS))('%s needs two people, and goes once when approved', async (name) => {
    const sql = (await ACTS[name]?.()) ?? '';
    await on();
    await expect(ada.query(sql)).rejects.toMatchObject(REFUSED);
    const id = await ask(ada, sql);
    // Neither before the approval, nor for the one who approved.
    await expect(ada.query(sql)).rejects.toMatchObject(REFUSED);
    await expect(approve(ada, id)).rejects.toThrow(`request ${id} was asked for by ${OPERATOR}`);
    await approve(grace, id);
    await expect(grace.query(sql)).rejects.toMatchObject(REFUSED);
    await ada.query(sql);
    const { rows } = await ada.query(
      'select state, asked_by, approved_by from retention.list_approvals(true)',
    );
    expect(rows).toEqual([{ state: 'used', asked_by: OPERATOR, approved_by: SECOND_OPERATOR }]);
  });

  /** What the owner of the schema writes directly. */
  test.each([
    [`update retention.policy set retain = '20 days' where tenant_id = '*'`, ''],
    [
      `update retention.policy set retain = '20 days', confirmed_at = now() where tenant_id = '*'`,
      '',
    ],
    [`insert into retention.policy (tenant_id, retain) values ('acme', '20 days')`, ''],
    [
      `delete from retention.policy where tenant_id = 'acme'`,
      `insert into retention.policy (tenant_id, retain) values ('acme', '90 days')`,
    ],
    ['update retention.hold set released_at = now(), released_by = $$x$$', 'hold'],
    [`update retention.hold set expires_at = now() + interval '1 minute'`, 'hold'],
    [`update retention.hold set run_id = null, tenant_id = 'other'`, 'hold'],
    ['delete from retention.hold', 'hold'],
    ['truncate retention.hold', 'hold'],
    [
      `update retention.bucket set on_versioned = 'purge' where bucket = 'b'`,
      `insert into retention.bucket (bucket) values ('b') on conflict do nothing`,
    ],
    [`insert into retention.bucket (bucket, on_versioned) values ('c', 'purge')`, ''],
    ['update retention.setting set four_eyes = false', ''],
    ['update retention.setting set check_shared_objects = false', ''],
    [`update retention.setting set release_spread = '1 second'`, ''],
    [`update retention.setting set receipts_kept = '1 day'`, ''],
    ['update retention.setting set surge_guard = null', ''],
    ['update retention.setting set surge_guard_all = 10001', ''],
    ['delete from retention.setting', ''],
    [
      `update retention.policy set retain = pending_retain, confirmed_at = now(), confirmed_results = 20,
        pending_retain = null, pending_results = null, pending_at = null, pending_by = null where tenant_id = 'acme'`,
      'pending',
    ],
    ['delete from retention.held_object', 'hold'],
    [`update retention.held_object set key = 'other'`, 'hold'],
    ['truncate retention.held_object', 'hold'],
    ['delete from retention.keeper', 'keeper'],
    [`update retention.keeper set key_column = 'other_key'`, 'keeper'],
    [`update retention.keeper set until_column = 'ends'`, 'keeper'],
    ['truncate retention.keeper', 'keeper'],
  ])('also where it is written directly: %s', async (sql, before) => {
    if (before === 'hold') await holdOnRun();
    else if (before === 'keeper') await keepInvoices();
    else if (before === 'pending') {
      await database().insertRuns({ count: 20, completedAgo: '25 days' });
      await database().query(`update retention.setting set policy_guard = 5;
        select retention.set_policy('acme', '20 days')`);
    } else if (before !== '') await database().query(before);
    await on();
    await expect(database().query(sql)).rejects.toMatchObject(REFUSED);
  });

  test('the owner approves no request by writing it, and brings none back', async () => {
    const { query, one } = database();
    await on();
    const id = await ask(ada, `select retention.set_policy('*', '20 days')`);
    for (const change of [
      `approved_by = '${SECOND_OPERATOR}', approved_at = now()`,
      `what = '{"tenant_id": "*", "retain_days": 1}'`,
      `asked_by = 'postgres'`,
      `asked_at = now() + interval '1 day'`,
    ]) {
      await expect(query(`update retention.approval set ${change}`), change).rejects.toThrow(
        `request ${id} is approved by the session of another person`,
      );
    }
    await approve(grace, id);
    await ada.query(`select retention.set_policy('*', '20 days')`);
    for (const change of ['used_at = null, used_in = null', 'used_in = pg_current_xact_id()']) {
      await expect(query(`update retention.approval set ${change}`), change).rejects.toThrow(
        'stays as it was asked for',
      );
    }
    expect(
      await one(
        `insert into retention.approval (kind, what, asked_by, approved_by, approved_at)
        values ('early', '{}', 'postgres', 'grace', now()) returning approved_by, approved_at`,
      ),
    ).toEqual({ approved_by: null, approved_at: null });
  });

  test('what makes nothing weaker needs nobody', async () => {
    const hold = await holdOnRun();
    await database().query('update retention.hold set expires_at = now() + $$1 day$$::interval');
    await on();
    for (const sql of [
      `select retention.set_policy('*', '60 days')`,
      `select retention.set_guard('policy_guard', '10')`,
      `select retention.set_guard('cool_off', '1 day')`,
      `select retention.set_guard('surge_guard', '10')`,
    ]) {
      await ada.query(sql);
    }
    await database().query('update retention.hold set expires_at = now() + $$2 days$$::interval');
    await database().query(`update retention.hold set expires_at = null where hold_id = ${hold}`);
    await database().query(`update retention.bucket set pauses = pauses`);
  });

  test('a pending policy deletes nothing yet, so one person may ask for it', async () => {
    await database().insertRuns({ count: 20, completedAgo: '25 days' });
    await database().query('update retention.setting set policy_guard = 5');
    await on();
    await ada.query(`select retention.set_policy('acme', '20 days')`);
    const [policy] = await database().query(
      `select pending_results from retention.policy where tenant_id = 'acme'`,
    );
    expect(policy).toEqual({ pending_results: '20' });
  });

  test('what differs by one is another act', async () => {
    await on();
    const id = await ask(ada, `select retention.set_policy('*', '20 days')`);
    await approve(grace, id);
    for (const days of [19, 21]) {
      await expect(
        ada.query(`select retention.set_policy('*', '${days} days')`),
      ).rejects.toMatchObject(REFUSED);
    }
    await expect(
      ada.query(`select retention._two_people('surge', '{"surge_id": 3, "expected": 199999}')`),
    ).rejects.toMatchObject({ code: '42501' });
    await ada.query(`select retention.set_policy('*', '20 days')`);
  });

  test.each([
    ['surge', { surge_id: 3, expected: 200_000 }, { surge_id: 3, expected: 200_001 }],
    ['early', { tenant_id: 'acme', expected: 5 }, { tenant_id: 'acme', expected: 6 }],
    ['orphans', { bucket: 'b', digest: 'a', count: 7 }, { bucket: 'b', digest: 'b', count: 7 }],
  ])('%s is approved by its numbers, and only once', async (kind, what, other) => {
    await on();
    const { query } = database();
    const act = (exactly: unknown): Promise<unknown> =>
      query('select retention._two_people($1, $2)', [kind, JSON.stringify(exactly)]);
    const [asked] = await query<{ id: string }>('select retention.ask_approval($1, $2) as id', [
      kind,
      JSON.stringify(what),
    ]);
    await approve(grace, Number(asked?.id));
    await expect(act(other)).rejects.toMatchObject(REFUSED);
    await expect(
      query(`begin; select retention._two_people('${kind}', '${JSON.stringify(what)}');
        select retention._two_people('${kind}', '${JSON.stringify(what)}'); commit`),
    ).rejects.toMatchObject(REFUSED);
    // What was rolled back was not used.
    await act(what);
    await expect(act(what)).rejects.toMatchObject(REFUSED);
  });

  test('an approval is over after 24 hours, and so is a request', async () => {
    await on();
    const sql = `select retention.set_policy('*', '20 days')`;
    const id = await ask(ada, sql);
    await approve(grace, id);
    await database().query(
      `update retention.approval set asked_at = asked_at - interval '24 hours 1 second'`,
    );
    await expect(ada.query(sql)).rejects.toMatchObject(REFUSED);
    await expect(approve(grace, id)).rejects.toThrow('is older than 24 hours');
    const again = await ask(ada, sql);
    expect(again).not.toBe(id);
  });

  test('who asks twice asks once, and who withdraws has asked for nothing', async () => {
    await on();
    const sql = `select retention.set_policy('*', '20 days')`;
    const id = await ask(ada, sql);
    expect(await ask(ada, sql)).toBe(id);
    await approve(grace, id);
    expect((await grace.query('select retention.approve($1) as now', [id])).rows).toEqual([
      { now: false },
    ]);
    await grace.query('select retention.withdraw_approval($1)', [id]);
    await expect(ada.query(sql)).rejects.toMatchObject(REFUSED);
    await expect(approve(grace, id)).rejects.toThrow(`was withdrawn by ${SECOND_OPERATOR}`);
  });

  test('another role set in a session is no second person', async () => {
    await on();
    const id = await ask(grace, `select retention.set_policy('*', '20 days')`);
    await grace.query(`set role ${OPERATOR}`);
    try {
      await expect(approve(grace, id)).rejects.toThrow('another person approves it');
    } finally {
      await grace.query('reset role');
    }
  });

  test('a policy that has come to make much more due than was approved is refused', async () => {
    await database().insertRuns({ count: 3, completedAgo: '25 days' });
    await database().query('update retention.setting set policy_guard = 5');
    await on();
    const sql = `select retention.set_policy('acme', '20 days', true)`;
    const id = await ask(ada, sql);
    await approve(grace, id);
    await database().insertRuns({ count: 6, completedAgo: '25 days' });
    await expect(ada.query(sql)).rejects.toThrow(
      `by now it would make 9 results due at once, and 3 were approved with request ${id}`,
    );
  });

  test('a process that starts with a shorter policy goes on without it', async () => {
    await on();
    expect(
      await database().query(
        `select outcome, message
        from retention.apply_variables('{"retain": "20 days", "batch_size": 500}') order by name`,
      ),
    ).toMatchObject([
      { outcome: 'applied', message: 'batch_size: 1000 -> 500' },
      { outcome: 'pending', message: expect.stringContaining('stays 30 days') as string },
    ]);
    await database().query('update retention.setting set batch_size = 1000');
  });

  test('what cannot be asked for is refused with what is expected', async () => {
    for (const [sql, message] of [
      [`select retention.ask_approval('lunch', '{}')`, 'expected policy, early, surge'],
      [`select retention.ask_approval(null, '{}')`, 'given: null'],
      [`select retention.ask_approval('policy', '[]')`, 'as a JSON object'],
      [
        `select retention.ask_approval('policy', '{"tenant_id": "a", "retain_days": "x"}')`,
        'a number of days',
      ],
      ['select retention.approve(0)', 'there is no request 0'],
      ['select retention.withdraw_approval(null)', 'there is no request null'],
    ] as const) {
      await expect(ada.query(sql), sql).rejects.toThrow(message);
    }
  });
});

describeDatabase('guards', () => {
  const database = useGuarded();

  test.each([
    ['four_eyes', 'maybe', 'on or off'],
    ['cool_off', '-1 hour', 'a duration'],
    ['cool_off', '36', 'a duration'],
    ['cool_off', 'infinity', 'a duration'],
    ['cool_off', '1000 years', 'a duration'],
    ['cool_off', '', 'a duration'],
    ['release_spread', 'none', 'a duration'],
    ['surge_guard', '-1', 'a whole number'],
    ['surge_guard', '1.5', 'a whole number'],
    ['policy_guard', 'none', 'a whole number'],
    ['policy_guard', '99999999999', 'a whole number'],
    ['backlog_limit', '1', 'expected one of policy_guard, surge_guard'],
  ])('%s refuses %s and says what it takes', async (name, value, expected) => {
    const before = await database().query('select to_jsonb(s) as s from retention.setting s');
    await expect(
      database().query('select retention.set_guard($1, $2)', [name, value]),
    ).rejects.toMatchObject({
      code: '22023',
      message: expect.stringContaining(expected) as string,
    });
    expect(await database().query('select to_jsonb(s) as s from retention.setting s')).toEqual(
      before,
    );
  });

  test('are listed with their values, and set gives the value before', async () => {
    const { query } = database();
    expect(await query(`select retention.set_guard('cool_off', '36 hours') as before`)).toEqual([
      { before: 'none' },
    ]);
    expect(await query(`select retention.set_guard('cool_off', 'none') as before`)).toEqual([
      { before: '1 day 12:00:00' },
    ]);
    expect(await query('select name, value from retention.list_guards()')).toEqual([
      { name: 'policy_guard', value: '1000' },
      { name: 'surge_guard', value: 'none' },
      { name: 'surge_guard_all', value: '10000' },
      { name: 'cool_off', value: 'none' },
      { name: 'release_spread', value: '01:00:00' },
      { name: 'four_eyes', value: 'off' },
    ]);
  });
});

describeDatabase('whose session it was stands beside each name that somebody typed', () => {
  const database = useGuarded();

  test('of a hold that is placed and released, a halt, a habit and missing objects', async () => {
    const { query, connectAs, insertRun } = database();
    const ada = await connectAs(OPERATOR);
    const run = await insertRun();
    await ada.query(`select retention.place_hold('audit', $1, null, null, 'the boss')`, [run]);
    await ada.query(`select retention.release_hold(max(hold_id), 'the boss') from retention.hold`);
    expect(
      await query(
        'select placed_by, placed_session, released_by, released_session from retention.list_holds(true)',
      ),
    ).toEqual([
      {
        placed_by: 'the boss',
        placed_session: OPERATOR,
        released_by: 'the boss',
        released_session: OPERATOR,
      },
    ]);
    await ada.query(`select retention.halt('incident', 'the boss')`);
    expect(await query('select because from retention.gate()')).toEqual([
      { because: `halted by the boss (as ${OPERATOR}): incident` },
    ]);
    await ada.query('select retention.resume()');
    await ada.query(`select retention.set_habits('b', '{"checksum": "md5"}', 'the boss', true);`);
    await ada.query(`select retention.confirm_missing('b', 'the boss')`);
    expect(
      await query(
        'select set_by, set_session, missing_confirmed_by, missing_confirmed_session from retention.bucket',
      ),
    ).toEqual([
      {
        set_by: 'the boss',
        set_session: OPERATOR,
        missing_confirmed_by: 'the boss',
        missing_confirmed_session: OPERATOR,
      },
    ]);
  });
});
