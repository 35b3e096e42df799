import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { CertificateResult } from '../../src/store/certificates.ts';
import { withBrokenRows } from '../support/broken-rows.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

const DAY = 86_400_000;

/** What explain says of a live run, as a certificate counts it. */
const AS_EXPLAINED: Readonly<Record<string, string>> = {
  dead: 'dead',
  'in flight': 'not_yet in flight',
  failed: 'not_yet failed',
  flagged: 'not_yet flagged',
  due: 'not_yet due',
  held: 'held',
  'coming back': 'held',
  shared: 'shared',
  kept: 'kept',
  'object changed': 'spared',
  'set aside': 'surge',
  'no key': 'without_place',
  'no bucket': 'without_place',
  'too long': 'without_place',
};

describeDatabase('what a certificate counts', () => {
  const database = useMigrated({
    columns: 'retain_until=retain_until,etag=etag',
    before: `
      alter table runs add column if not exists retain_until timestamptz, add column if not exists etag text;
      create table if not exists invoices (pdf_key text primary key)`,
  });
  /** The name of each run, as the test calls it. */
  let names = new Map<string, string>();
  let from = new Date();
  let to = new Date();

  beforeEach(async () => {
    names = new Map();
    await database().query('truncate invoices');
    const { now } = await database().one<{ now: Date }>('select now()');
    to = new Date(now.getTime() - DAY);
    from = new Date(to.getTime() - 20 * DAY);
  });

  /** Inserts a run of acme that falls due in the period, unless said otherwise; `more` are columns as SQL. */
  async function add(name: string, more: Readonly<Record<string, string>> = {}): Promise<string> {
    const columns: Record<string, string> = {
      tenant_id: `'acme'`,
      status: `'COMPLETED'`,
      completed_at: `'${to.toISOString()}'::timestamptz - interval '40 days'`,
      result_s3_bucket: `'dpp-results'`,
      result_s3_key: `'results/${name}'`,
      ...more,
    };
    const { run_id: runId } = await database().one<{ run_id: string }>(
      `insert into runs (${Object.keys(columns).join(', ')}) values (${Object.values(columns).join(', ')}) returning run_id`,
    );
    names.set(runId, name);
    return runId;
  }

  async function addAll(list: readonly string[]): Promise<string[]> {
    const runIds: string[] = [];
    for (const name of list) runIds.push(await add(name));
    return runIds;
  }

  /** Flags these runs and has S3 delete them. */
  async function clear(runIds: readonly string[], how: { early?: true } = {}): Promise<void> {
    const { store } = database();
    const early = { olderThanSeconds: 86_400, early: true, expected: runIds.length };
    const { batchIds } = await store.flagSelected({ runIds, ...(how.early ? early : {}) });
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 60, by: 'test', batchIds });
    if (claim === undefined) throw new Error('Nothing was flagged.');
    const { batchId, keys } = claim;
    expect(keys).toHaveLength(runIds.length);
    await store.settle(batchId, lease, { cleared: keys, failed: [], milliseconds: 1 });
  }

  async function results(tenant: string | null = 'acme'): Promise<CertificateResult[]> {
    return (await database().query('select * from retention.certificate_results($1, $2, $3)', [
      tenant,
      from,
      to,
    ])) as unknown as CertificateResult[];
  }

  const shown = (row: CertificateResult): string =>
    [row.category, row.state].filter((text) => text !== null).join(' ');

  /** Each run with what the certificate says of it. */
  function byName(rows: readonly CertificateResult[]): Record<string, string> {
    const named = rows.map((row) => [names.get(row.run_id ?? '') ?? `? ${row.run_id}`, shown(row)]);
    expect(new Set(named.map(([name]) => name)).size).toBe(named.length);
    return Object.fromEntries(named) as Record<string, string>;
  }

  /** Everything that may become of a result, each at least once. */
  async function makeWorld(): Promise<Record<string, string>> {
    const { query, store } = database();
    const gone = await addAll(['gone 1', 'gone 2', 'gone 3']);
    const again = await add('gone without its key');
    const unstamped = await add('unstamped');
    await clear([...gone, again, unstamped]);
    await query('update runs set result_s3_key = null where run_id = $1', [again]);
    await query('update runs set result_cleared_at = null where run_id = $1', [unstamped]);
    await add('by hand', { result_cleared_at: 'now()' });
    await add('before adoption', { result_cleared_at: `now() - interval '10 days'` });
    await add('pruned', { result_cleared_at: `now() - interval '3 hours'` });
    await query(`update retention.identity set adopted_at = now() - interval '5 days'`);
    await query(`alter table retention.setting disable trigger all`);
    await query(`update retention.setting set receipts_kept = '1 day'`);
    await query(`alter table retention.setting enable trigger all`);
    await query(
      `update runs set result_cleared_at = now() - interval '2 days' where result_s3_key = 'results/pruned'`,
    );

    const held = await addAll(['held 1', 'held 2']);
    await store.placeHolds({ runIds: held, reason: 'audit', by: 'kim' });
    const [object = ''] = await addAll(['held by its object']);
    const stranger = await add('a stranger', {
      tenant_id: `'globex'`,
      result_s3_key: `'results/held by its object'`,
      completed_at: 'now()',
    });
    await store.placeHolds({ runIds: [stranger], reason: 'audit', by: 'kim' });
    await query('delete from runs where run_id = $1', [stranger]);
    names.delete(stranger);
    expect(object).not.toBe('');

    await database().failRuns(await addAll(['dead 1', 'dead 2']), { dead: true });
    await database().failRuns(await addAll(['failed']));
    await add('shared');
    await add('needs the same', {
      tenant_id: `'globex'`,
      result_s3_key: `'results/shared'`,
      completed_at: 'now()',
    });
    await add('kept by an invoice');
    await query(`insert into invoices values ('results/kept by an invoice')`);
    await query(`select retention.add_keeper('public.invoices', 'pdf_key')`);
    await add('another version', { etag: `'abc'` });
    await query(`insert into retention.spared_object (bucket, key, etag, until)
      values ('dpp-results', 'results/another version', 'abc', now() + interval '1 day')`);
    const surge = await addAll(['set aside 1', 'set aside 2']);
    await query(
      `insert into retention.surge (found_by, found, tenants, rule) values ('test', 2, 1, 'tenant')`,
    );
    await query(
      `insert into retention.surge_part (surge_id, bucket, results, oldest, newest, run_ids, keys, tenants)
      select s.surge_id, 'dpp-results', 2, min(r.completed_at), max(r.completed_at), array_agg(r.run_id),
        array_agg(retention._pack_key(r.result_s3_key, r.run_id::text)), array_agg(r.tenant_id)
      from runs r cross join retention.surge s
      where r.run_id = any ($1::uuid[]) group by s.surge_id`,
      [surge],
    );
    await add('without a bucket', { result_s3_bucket: 'null' });
    await add('an empty key', { result_s3_key: `''` });
    await add('a key too long', { result_s3_key: `repeat('k', 1025)` });
    await store.flagSelected({ runIds: await addAll(['flagged']) });
    await add('due');
    await store.flagSelected({ runIds: await addAll(['in flight']) });
    await query(
      `update retention.batch set lease = gen_random_uuid(), leased_at = now(), visible_at = now() + interval '1 hour'
      where settled_at is null and run_ids = (select array_agg(run_id::retention.run_id) from runs where result_s3_key = 'results/in flight')`,
    );
    // Fell due exactly when the period begins, and exactly when it is over.
    const at = (moment: Date): Readonly<Record<string, string>> => ({
      completed_at: `'${moment.toISOString()}'::timestamptz - interval '720 hours'`,
    });
    await add('at the beginning', at(from));
    await add('at the end', at(to));
    await add('before the beginning', at(new Date(from.getTime() - 1)));
    await add('by a date of its own', {
      completed_at: `now() - interval '300 days'`,
      retain_until: `'${from.toISOString()}'`,
    });
    await add('kept beyond by its own date', { retain_until: 'now()' });
    await add('not completed', { status: `'FAILED'` });
    await add('without a date', { completed_at: 'null' });
    await add('of no time', { completed_at: `'infinity'` });
    await add('of long ago', { completed_at: `'-infinity'` });
    await add('far ahead', { completed_at: `'294276-12-31'` });
    await add('of another tenant', { tenant_id: `'globex'` });
    return {
      'gone 1': 'gone',
      'gone 2': 'gone',
      'gone 3': 'gone',
      'gone without its key': 'gone',
      unstamped: 'unstamped',
      'by hand': 'stamped_without_receipt',
      'before adoption': 'stamped_before_adoption',
      pruned: 'stamped_receipt_pruned',
      'held 1': 'held',
      'held 2': 'held',
      'held by its object': 'held',
      'dead 1': 'dead',
      'dead 2': 'dead',
      failed: 'not_yet failed',
      shared: 'shared',
      'kept by an invoice': 'kept',
      'another version': 'spared',
      'set aside 1': 'surge',
      'set aside 2': 'surge',
      'without a bucket': 'without_place',
      'an empty key': 'without_place',
      'a key too long': 'without_place',
      flagged: 'not_yet flagged',
      due: 'not_yet due',
      'in flight': 'not_yet in flight',
      'at the beginning': 'not_yet due',
      'by a date of its own': 'not_yet due',
    };
  }

  test('due = gone + held + dead + shared + kept by a keeper + surge + not yet, each once, and as explain says', async () => {
    const expected = await makeWorld();
    const rows = await results();
    const population = rows.filter(({ part }) => part === 'population');
    expect(byName(population)).toEqual(expected);
    // An independent count, by the rows alone.
    const { counted } = await database().one<{ counted: number }>(
      `select count(*)::int as counted from runs r
      where tenant_id = 'acme' and status = 'COMPLETED' and (result_s3_key is not null or result_cleared_at is not null)
        and isfinite(completed_at) and completed_at < '290000-01-01'
        and greatest(completed_at + interval '720 hours', retain_until) >= $1
        and greatest(completed_at + interval '720 hours', retain_until) < $2`,
      [from, to],
    );
    expect(population).toHaveLength(counted);
    const { facts } = await database().one<{ facts: { counted: number; query: string } }>(
      `select retention.certificate_facts('acme', $1, $2) as facts`,
      [from, to],
    );
    expect(facts.counted).toBe(counted);
    expect(await database().query(facts.query)).toHaveLength(counted);

    const live = population.filter(
      ({ cleared_at: at, category }) => at === null && category !== 'unstamped',
    );
    const explained = await database().store.explain(live.map(({ run_id: id }) => id ?? ''));
    expect(explained.map(({ run_id: id, state }) => [names.get(id), AS_EXPLAINED[state]])).toEqual(
      live.map((row) => [names.get(row.run_id ?? ''), shown(row)]),
    );
  });

  test('what went in the period and fell due outside it is counted apart, each with its reason', async () => {
    const { query } = database();
    const { now } = await database().one<{ now: Date }>('select now()');
    from = new Date(now.getTime() - 3_600_000);
    const due = { completed_at: `now() - interval '30 days 10 minutes'` };
    const within = await add('within', due);
    const early = await add('early', { completed_at: `now() - interval '5 days'` });
    const outside = await add('outside', { completed_at: `now() - interval '90 days'` });
    const rowless = await add('its row has gone', due);
    const restored = await add('restored and deleted again', due);
    const moved = await add('of another tenant by now', due);
    await clear([early], { early: true });
    await clear([within, outside, rowless, restored, moved]);
    await query('delete from runs where run_id = $1', [rowless]);
    await query(`update runs set tenant_id = 'globex' where run_id = $1`, [moved]);
    await query(
      `insert into retention.receipt (kind, bucket, results, run_ids, keys, tenants)
      values ('restored', 'dpp-results', 1, array[$1::uuid], array['results/restored and deleted again'], '{acme}')`,
      [restored],
    );
    await query('update runs set result_cleared_at = null where run_id = $1', [restored]);
    await clear([restored]);
    await query(`update retention.batch set why = 'early' where early is not null`);
    ({ now: to } = await database().one<{ now: Date }>('select now()'));
    const rows = await results();
    expect(byName(rows.filter(({ part }) => part === 'population'))).toEqual({
      within: 'gone',
      'restored and deleted again': 'gone',
    });
    expect(
      rows
        .filter(({ part }) => part === 'beside')
        .map(({ run_id: id, category }) => [names.get(id ?? ''), category]),
    ).toEqual(
      expect.arrayContaining([
        ['early', 'early'],
        ['outside', 'due_outside'],
        ['its row has gone', 'row_gone'],
        ['of another tenant by now', 'row_gone'],
        ['restored and deleted again', 'earlier'],
        ['restored and deleted again', 'restored'],
      ]),
    );
    expect(rows).toHaveLength(2 + 6);
  });

  test('results without a tenant are asked for as such, and tell of no other', async () => {
    const { query } = database();
    await query('alter table runs alter column tenant_id drop not null');
    await clear([await add('nobody’s', { tenant_id: 'null' })]);
    await add('acme’s');
    expect(byName(await results(null))).toEqual({ 'nobody’s': 'gone' });
  });

  test('the rule says who changed it from what to what, also before the period', async () => {
    const { query } = database();
    const change = async (tenant: string, at: string, before: string | null, after: string) =>
      query(
        `insert into retention.change (at, subject, action, tenant_id, before, after, session_name, application)
        values (now() - $2::interval, 'policy', 'update', $1,
          case when $3::text is not null then jsonb_build_object('retain', $3::text) end,
          jsonb_build_object('retain', $4::text, 'pending_results', case when $1 = '*' then 4711 end), 'alice', 'psql')`,
        [tenant, at, before, after],
      );
    await change('*', '90 days', '90 days', '60 days');
    await change('*', '50 days', '60 days', '40 days');
    await change('acme', '10 days', null, '7 days');
    await change('acme', '9 days', '7 days', '7 days');
    await change('globex', '8 days', '30 days', '1 day');
    await query('select retention.seal_now()');
    const { facts } = await database().one<{ facts: { rule: { changes: object[] } } }>(
      `select retention.certificate_facts('acme', $1, $2) as facts`,
      [from, to],
    );
    expect(facts.rule.changes).toEqual([
      expect.objectContaining({
        policy_of: '*',
        before: '60 days',
        after: '40 days',
        by: 'alice',
        seal: null,
      }),
      expect.objectContaining({
        policy_of: 'acme',
        before: null,
        after: '7 days',
        application: 'psql',
        seal: 1,
      }),
    ]);
    // How many results of all tenants a policy made due is nothing to show to one of them.
    const proven = await query(
      `select change_text from retention.certificate_changes('acme', $1, $2)`,
      [from, to],
    );
    expect(proven).toHaveLength(1);
    expect(JSON.stringify(proven)).not.toContain('4711');
  });

  test('without a policy for everybody nothing falls due', async () => {
    const { query } = database();
    await add('due');
    await query(
      `set session_replication_role = replica; delete from retention.policy where tenant_id = '*'; reset session_replication_role`,
    );
    try {
      expect(await results()).toEqual([]);
    } finally {
      await query(`insert into retention.policy (tenant_id, retain) values ('*', '30 days')`);
    }
  });

  test('a row that raises when it is looked at is one of its own kind, and hides no other', async () => {
    const { breakRun } = await withBrokenRows(database());
    onTestFinished(async () => {
      await database().query('select retention._make_views()');
    });
    await breakRun(await add('broken'), '22P02');
    await add('due');
    expect(byName(await results())).toEqual({ broken: 'unreadable', due: 'not_yet due' });
  });

  describe('bad input gets one clear message', () => {
    test.each([
      [
        'an empty tenant',
        `'', now() - interval '2 days', now()`,
        'expected the id of a tenant, given: an empty text',
      ],
      [
        'a period that ends before it begins',
        `'acme', now(), now() - interval '1 day'`,
        'begins before it is over',
      ],
      ['an empty period', `'acme', now(), now()`, 'begins before it is over'],
      [
        'a period that is not over',
        `'acme', now(), now() + interval '1 minute'`,
        'expected a period that is over',
      ],
      ['no beginning', `'acme', null, now()`, 'expected when the period begins'],
      ['a beginning that is none', `'acme', '-infinity', now()`, 'expected when the period begins'],
    ])('%s', async (_name, parameters, message) => {
      for (const name of ['certificate_results', 'certificate_facts', 'certificate_changes']) {
        await expect(
          database().query(`select * from retention.${name}(${parameters})`),
        ).rejects.toMatchObject({
          code: '22023',
          message: expect.stringContaining(message) as string,
        });
      }
    });

    test('a tenant that nothing tells of is not known, one whose rows have gone is', async () => {
      const known = async (tenant: string): Promise<unknown> =>
        (
          await database().one<{ facts: { is_known: boolean } }>(
            'select retention.certificate_facts($1, $2, $3) as facts',
            [tenant, from, to],
          )
        ).facts.is_known;
      await clear([await add('gone')]);
      expect(await known('acme')).toBe(true);
      expect(await known('amce')).toBe(false);
      await database().query('delete from runs');
      expect(await known('acme')).toBe(true);
    });
  });
});
