import type pg from 'pg';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { keyOf, migrateUp } from '../support/migrated.ts';
import { LISTENER, OBSERVER, OPERATOR, OWNER, useGuarded } from '../support/rights-roles.ts';

interface Change extends Record<string, unknown> {
  readonly what: string;
  readonly done_by: string;
  readonly subject: string;
  readonly action: string;
  readonly before: Record<string, unknown> | null;
  readonly after: Record<string, unknown> | null;
}

const KEEPER = `create table if not exists public.invoices (pdf_key text);
create index if not exists invoices_pdf_key on public.invoices (pdf_key);
alter table public.invoices owner to ${OWNER}`;

describeDatabase('promise 14: every change', () => {
  const database = useGuarded();
  let operator: pg.Client;
  let observer: pg.Client;
  let from = 0;

  beforeAll(async () => {
    operator = await database().connectAs(OPERATOR);
    await operator.query(`set application_name = 'psql'`);
    observer = await database().connectAs(OBSERVER);
  });

  /** What was recorded since the test began. */
  async function changes(): Promise<Change[]> {
    return database().query<Change>(
      `select h.* from retention.history(p_limit => 1000) h where h.change_id > $1 order by h.change_id`,
      [from],
    );
  }

  beforeEach(async () => {
    await database().query(KEEPER);
    const { last } = await database().one<{ last: number }>(
      'select coalesce(max(change_id), 0)::int as last from retention.change',
    );
    from = last;
  });

  const said = async (): Promise<string[]> => (await changes()).map(({ what }) => what);

  test.each([
    [
      'a policy',
      [`set_policy('acme', '90 days')`, `set_policy('acme', '60 days')`, `unset_policy('acme')`],
      [
        'policy of acme: 90 days',
        'policy of acme: 90 days -> 60 days',
        'policy of acme: 60 days -> 30 days',
        'policy of acme: 30 days, removed',
      ],
    ],
    [
      'a hold',
      [
        `place_hold('audit', null, 'acme', null, 'kim')`,
        `release_hold(max(hold_id), 'lee') from retention.hold`,
      ],
      [
        /^hold \d+ on tenant acme: placed, audit, in the name of kim$/u,
        /^hold \d+ on tenant acme: released in the name of lee \(audit\)$/u,
      ],
    ],
    [
      'a setting, and a halt',
      [
        `configure('{"batch_size": 500, "loop_interval": "1 hour"}')`,
        `set_guard('surge_guard', '50')`,
        `halt('wrong bucket', 'kim')`,
        `resume()`,
      ],
      [
        'batch_size: 1000 -> 500, loop_interval: 1 day -> 01:00:00',
        'surge_guard: none -> 50',
        'halted: wrong bucket (in the name of kim)',
        'resumed (was halted: wrong bucket)',
      ],
    ],
    [
      'a keeper',
      [`add_keeper('public.invoices', 'pdf_key')`, `remove_keeper('public.invoices')`],
      [
        'keeper public.invoices, column pdf_key: added',
        'keeper public.invoices, column pdf_key: removed',
      ],
    ],
    [
      'a bucket',
      [
        `set_habits('dpp-x', '{"checksum": "md5"}', 'kim', true)`,
        `set_on_versioned('dpp-x', 'purge')`,
        `confirm_missing('dpp-x')`,
      ],
      [
        'bucket dpp-x: first seen',
        'bucket dpp-x: checksum: none -> md5, set_by: none -> kim',
        'bucket dpp-x: on_versioned: marker -> purge',
        /^bucket dpp-x: missing_confirmed_at: none -> .*, missing_confirmed_by: none -> operator/u,
      ],
    ],
    [
      'a request for a second person',
      [
        `ask_approval('surge', '{"tenant_id": "acme"}')`,
        `withdraw_approval(max(approval_id)) from retention.approval`,
      ],
      [
        /^request \d+ for the release of a surge, \{"tenant_id": "acme"\}: asked$/u,
        /^request \d+ for the release of a surge, .*: withdrawn$/u,
      ],
    ],
  ])(
    'of %s is recorded in words, with who did it and with which program',
    async (_, calls, words) => {
      await database().insertRun();
      for (const call of calls) await operator.query(`select retention.${call}`);
      const found = await changes();
      expect(found.map(({ what }) => what)).toEqual(
        words.map((word) =>
          typeof word === 'string' ? word : (expect.stringMatching(word) as string),
        ),
      );
      expect(new Set(found.map(({ done_by: by }) => by))).toEqual(new Set([`${OPERATOR} (psql)`]));
      for (const { action, before, after } of found) {
        expect([before === null, after === null]).toEqual([
          action === 'insert',
          action === 'delete',
        ]);
      }
    },
  );

  test('of a surge, of its release and of an allowance is recorded', async () => {
    const { query, insertRuns, set } = database();
    await set({ surge_guard: '5', policy_guard: '0' });
    await query('select retention.flag_expired(p_whole => true)');
    await insertRuns({ count: 9 });
    await insertRuns({ count: 3, completedAgo: '20 days' });
    await query('select retention.flag_expired(p_whole => true)');
    await operator.query(`select retention.release_surge(max(surge_id), 9) from retention.surge`);
    await operator.query(`select retention.set_policy('acme', '10 days', true)`);
    await query(
      `update retention.allowance set results = 0; select retention.flag_expired(p_whole => true)`,
    );
    const found = await said();
    expect(found).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^surge \d+: 9 late results of 1 tenant set aside$/u),
        expect.stringMatching(/^surge \d+: 9 results released$/u),
        expect.stringMatching(/^surge \d+: closed/u),
        'policy of acme: 30 days; 10 days would make 3 results due at once, and waits for a confirmation',
        `policy of acme: 30 days -> 10 days, asked for by ${OPERATOR} and confirmed by ${OPERATOR} with 3 results due at once`,
        expect.stringMatching(
          /^allowance \d+: 3 late results of tenant acme may go, by the policy of acme: 10 days/u,
        ),
      ]),
    );
    // It was used up and dropped by the passes, and that is no person's.
    expect(found.filter((what) => what.startsWith('allowance'))).toHaveLength(1);
  });

  test('is recorded however it is written: an update by hand, a role that was set, a variable, all rows at once', async () => {
    const { query, connect, connectAs } = database();
    const owner = await connect();
    await owner.query(`set application_name = 'a script'; set role ${OWNER}`);
    await owner.query(
      `insert into retention.policy (tenant_id, retain) values ('acme', '40 days')`,
    );
    await owner.query(`update retention.policy set retain = '50 days' where tenant_id = 'acme'`);
    await owner.query(`delete from retention.policy where tenant_id = 'acme'`);
    await owner.query(
      `insert into retention.hold (tenant_id, reason) values ('acme', 'law'), ('globex', 'law')`,
    );
    await owner.query('truncate retention.hold');
    await owner.query('reset role');
    const listener = await connectAs(LISTENER);
    await listener.query(`set application_name = 'retention listen'`);
    await listener.query(
      `select retention.apply_variables('{"batch_size": 250, "retain": "45 days"}')`,
    );
    await query('update retention.setting set enabled = false where enabled');
    expect((await changes()).map(({ what, done_by: by }) => `${what}, by ${by}`)).toEqual([
      `policy of acme: 40 days, by postgres as ${OWNER} (a script)`,
      `policy of acme: 40 days -> 50 days, by postgres as ${OWNER} (a script)`,
      `policy of acme: 50 days, removed, by postgres as ${OWNER} (a script)`,
      expect.stringMatching(/^hold \d+ on tenant acme: placed, law, by postgres as owner/u),
      expect.stringMatching(/^hold \d+ on tenant globex: placed/u),
      expect.stringMatching(/^hold \d+ on tenant acme: removed \(law\), by postgres as owner/u),
      expect.stringMatching(/^hold \d+ on tenant globex: removed/u),
      `batch_size: 1000 -> 250, by ${LISTENER} (retention listen)`,
      `default policy: 30 days -> 45 days, by ${LISTENER} (retention listen)`,
      'enabled: true -> false, by postgres',
    ]);
  });

  test('but for what the cycle writes, and for an update that changes nothing, is a row', async () => {
    const { query, insertRun, store, one } = database();
    const runId = await insertRun();
    const gone = await insertRun({ key: null });
    await operator.query(`select retention.place_hold('audit', '${gone}')`);
    await operator.query(`select retention.add_keeper('public.invoices', 'pdf_key')`);
    await query('select retention.flag_expired()');
    const before = (await said()).length;
    expect(await said()).toContain('bucket dpp-results: first seen');
    const claim = await database().claimNext();
    await store.postpone(claim.batchId, claim.lease, {
      code: 'SlowDown',
      message: 'slow down',
      unanswered: [],
    });
    await query(`select retention.learn_habits('dpp-results', '{"checksum": "md5"}', 'refused');
      select retention.note_bucket('dpp-results', 'enabled');
      select retention.note_look('dpp-results', 'AWS', 1, '{}');
      update runs set result_s3_key = 'late/key' where run_id = '${gone}';
      select retention._review_held_objects();
      alter table public.invoices add column if not exists note text;
      select retention.tick('test');
      update retention.policy set retain = retain;
      update retention.setting set batch_size = batch_size;
      update retention.hold set reason = reason;
      select retention.set_policy('*', '30 days')`);
    expect(await one('select key from retention.hold')).toEqual({ key: 'late/key' });
    expect((await said()).slice(before)).toEqual([]);
    // Taking away what was learned is a person's again, and so is another object under a hold.
    await operator.query(`select retention.forget_habits('dpp-results')`);
    await query(`update retention.hold set key = 'another/key'`);
    expect((await said()).slice(before)).toEqual([
      expect.stringContaining('bucket dpp-results: learned: '),
      expect.stringMatching(/^hold \d+ on run .*: key: late\/key -> another\/key$/u),
    ]);
    expect(runId).not.toBe(gone);
  });

  test('that gives a row to another tenant stands in the history of both', async () => {
    const { query } = database();
    await query(`insert into retention.hold (tenant_id, reason) values ('acme', 'law');
      update retention.hold set tenant_id = 'globex'; update retention.hold set released_at = now(), released_by = 'x';
      insert into retention.policy (tenant_id, retain) values ('007', '40 days');
      select retention._respell_tenants('integer')`);
    const of = async (tenant: string) =>
      (
        await query<Change>(
          `select what from retention.history('${tenant}') h where h.change_id > ${from}`,
        )
      ).map(({ what }) => what);
    expect(await of('acme')).toMatchObject(
      [/placed/u, /removed/u].map((word) => expect.stringMatching(word) as string),
    );
    expect(await of('globex')).toEqual(
      [/on tenant globex: placed/u, /released/u].map(
        (word) => expect.stringMatching(word) as string,
      ),
    );
    expect(await of('007')).toEqual(['policy of 007: 40 days', 'policy of 007: 40 days, removed']);
    expect(await of('7')).toEqual(['policy of 7: 40 days']);
  });

  test('of a tenant is told with the default policy, of a run with its tenant’s and its receipts, of a setting alone', async () => {
    const { query, insertRun, claimNext, connectAs } = database();
    const runId = await insertRun();
    const other = await insertRun({ tenant: 'globex', completedAgo: '1 day' });
    await operator.query(`select retention.set_policy('*', '29 days');
      select retention.set_policy('acme', '28 days'); select retention.set_policy('globex', '27 days');
      select retention.place_hold('run', '${runId}'); select retention.place_hold('other', '${other}');
      select retention.place_hold('tenant', null, 'acme');
      select retention.release_hold(hold_id) from retention.hold where reason in ('run', 'tenant');
      select retention.set_guard('policy_guard', '7')`);
    await query(
      `update retention.setting set release_spread = '0'; select retention.flag_expired()`,
    );
    const listener = await connectAs(LISTENER);
    const { batchId, lease } = await claimNext();
    await listener.query(`select * from retention.settle(${batchId}, '${lease}', '{}', true)`);
    const of = async (arguments_: string) =>
      (
        await observer.query<Change>(`select * from retention.history(${arguments_}) h
        where coalesce(h.change_id, ${from} + 1) > ${from}`)
      ).rows.map(({ what }) => what.replace(/hold \d+/u, 'hold'));
    const ofTenant = [
      'default policy: 30 days -> 29 days',
      'policy of acme: 28 days',
      'hold on tenant acme: placed, tenant',
      'hold on tenant acme: released (tenant)',
    ];
    expect(await of(`'acme'`)).toEqual(ofTenant);
    const receipt = `batch-${batchId}: object ${keyOf(runId)} in bucket dpp-results deleted, by its policy of 28 days`;
    const ofRun = [
      ...ofTenant.slice(0, 2),
      `hold on run ${runId}: placed, run`,
      ofTenant[2],
      `hold on run ${runId}: released (run)`,
      ofTenant[3],
      receipt,
    ];
    expect(new Set(await of(`p_run_id => '${runId}'`))).toEqual(new Set(ofRun));
    expect((await of(`p_run_id => '${runId.toUpperCase()}'`)).at(-1)).toBe(receipt);
    expect(await of(`p_setting => 'policy_guard'`)).toEqual(['policy_guard: 1000 -> 7']);
    expect(await of(`p_setting => 'retain'`)).toEqual([ofTenant[0]]);
    expect(await of(`p_tenant_id => '*', p_limit => 1`)).toEqual([ofTenant[0]]);
    expect(await of(`p_since => now() + interval '0', p_tenant_id => 'acme'`)).toEqual([]);
    // Also once its date has changed, or its row has gone.
    await query(
      `update runs set completed_at = completed_at - interval '1 year' where run_id = '${runId}'`,
    );
    expect((await of(`p_run_id => '${runId}'`)).at(-1)).toBe(receipt);
    await query(`delete from runs where run_id = '${runId}'`);
    expect(new Set(await of(`p_run_id => '${runId}'`))).toEqual(new Set(ofRun));
  });

  test.each([
    [`'acme', 'x'`, 'expected a tenant, a run or a setting, given: more than one of them'],
    [`p_run_id => 'no-uuid'`, 'no-uuid is not a run id of this application'],
    [`p_setting => 'colour'`, 'expected the name of a setting, given: colour'],
    [`p_since => 'tomorrow'`, 'expected a time that has passed, given: 2'],
    [`p_limit => 0`, 'expected a limit from 1 to 100000, given: 0'],
    [`p_tenant_id => ''`, 'expected the id of a tenant, given: an empty text'],
  ])(
    'is not asked with history(%s): one message says what was expected',
    async (arguments_, message) => {
      await expect(
        observer.query(`select * from retention.history(${arguments_})`),
      ).rejects.toMatchObject({
        code: '22023',
        message: expect.stringContaining(message) as string,
      });
    },
  );

  test('is read by observers, written by nobody, and recorded again after a repair', async () => {
    const { query, urlAs, connectAs, one } = database();
    for (const role of [LISTENER, OPERATOR, OBSERVER]) {
      const session = await connectAs(role);
      await session.query('select * from retention.change limit 1');
      for (const sql of [
        `insert into retention.change (subject, action, after) values ('policy', 'insert', '{}')`,
        'delete from retention.change',
        `update retention.change set session_name = 'x'`,
        `select retention._note_change('policy', 'insert', null, '{}')`,
      ]) {
        await expect(session.query(sql)).rejects.toMatchObject({ code: '42501' });
      }
    }
    const count = () =>
      one(`select count(*)::int as n from retention.change
      where subject in ('policy', 'setting')`);
    await query(`update retention.setting set batch_size = 98;
      update retention.policy set retain = '31 days'`);
    const before = await count();
    await query('drop trigger record_update on retention.setting');
    await migrateUp(urlAs(OWNER), {
      role: LISTENER,
      operatorRole: OPERATOR,
      observerRole: OBSERVER,
    });
    expect(await count()).toEqual(before);
    await query('update retention.setting set batch_size = 99');
    expect((await said()).at(-1)).toBe('batch_size: 98 -> 99');
  });
});
