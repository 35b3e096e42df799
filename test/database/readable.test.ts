import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { OWNER, READER, STRANGER, useGuarded } from '../support/rights-roles.ts';

describeDatabase('is_readable: an application shows no expired result', () => {
  const database = useGuarded();
  let application: pg.Client;

  beforeAll(async () => {
    application = await database().connectAs(READER);
  });

  async function isReadable(run: string): Promise<boolean | null> {
    const { rows } = await application.query<{ readable: boolean | null; listed: boolean }>(
      `select retention.is_readable($1) as readable,
        $1 in (select retention.readable(array[$1, 'no id at all'])) as listed`,
      [run],
    );
    const [row] = rows;
    // One and the list say the same.
    expect(row?.listed).toBe(row?.readable === true);
    return row?.readable ?? null;
  }

  test('a live result is, a due one is not, whether or not it is flagged', async () => {
    const { insertRun, query } = database();
    expect(await isReadable(await insertRun({ completedAgo: '1 day' }))).toBe(true);
    const due = await insertRun();
    expect(await isReadable(due)).toBe(false);
    await query('select retention.flag_expired()');
    expect(await isReadable(due)).toBe(false);
  });

  test('a cleared one is not, also long before its date', async () => {
    expect(
      await isReadable(await database().insertRun({ completedAgo: '1 day', clearedAgo: '1 hour' })),
    ).toBe(false);
  });

  test('both sides of the moment when it falls due', async () => {
    const { insertRun } = database();
    expect(await isReadable(await insertRun({ completedAgo: '29 days 23:59:50' }))).toBe(true);
    expect(await isReadable(await insertRun({ completedAgo: '30 days 00:00:01' }))).toBe(false);
  });

  test('a held one is, as long as no deletion of it is on its way', async () => {
    const { insertRun, query } = database();
    const held = await insertRun();
    await query(`select retention.place_hold('audit', '${held}')`);
    expect(await isReadable(held)).toBe(true);
    const late = await insertRun();
    await query('select retention.flag_expired()');
    await query(`select retention.claim(gen_random_uuid(), '1 minute')`);
    await query(`select retention.place_hold('audit', '${late}')`);
    expect(await isReadable(late)).toBe(false);
  });

  test('one that S3 may still be deleting, or has deleted and nobody stamped yet, is not', async () => {
    const { insertRun, query } = database();
    const asked = await insertRun();
    await query(`select retention.place_hold('audit', '${asked}');
      insert into retention.unanswered (bucket, run_ids, keys, until)
      values ('dpp-results', array['${asked}']::retention.run_id[], array['k'], now() + interval '1 minute')`);
    expect(await isReadable(asked)).toBe(false);
    await query('update retention.unanswered set until = now()');
    expect(await isReadable(asked)).toBe(true);
    const deleted = await insertRun();
    await query('select retention.flag_expired()');
    await query(`select retention.place_hold('audit', '${deleted}');
      update retention.batch set deleted_at = now(), code = 'x', failed_at = now()`);
    expect(await isReadable(deleted)).toBe(false);
  });

  test('one that a person asked to go early is not, while that command lives', async () => {
    const { insertRun, query } = database();
    const early = await insertRun({ completedAgo: '5 days' });
    await query(
      `select retention.flag_selected(p_run_ids => array['${early}'], p_older_than => '2 days', p_early => true, p_expected => 1)`,
    );
    expect(await isReadable(early)).toBe(false);
    await query('delete from retention.cutoff');
    expect(await isReadable(early)).toBe(true);
  });

  test('a run without a result yet is; an unknown one and what is no id are neither', async () => {
    const { insertRun } = database();
    expect(await isReadable(await insertRun({ status: 'RUNNING' }))).toBe(true);
    expect(await isReadable('d0000000-0000-4000-8000-000000000000')).toBe(null);
    expect(await isReadable('no id at all')).toBe(null);
    expect((await application.query('select retention.is_readable(null) as is')).rows).toEqual([
      { is: null },
    ]);
    expect((await application.query('select retention.readable(null)')).rows).toEqual([]);
  });

  test('while the table is detached nothing is known', async () => {
    const { insertRun, connectAs } = database();
    const run = await insertRun({ completedAgo: '1 day' });
    const owner = await connectAs(OWNER);
    await owner.query('select retention.detach()');
    try {
      expect(await isReadable(run)).toBe(null);
    } finally {
      await owner.query('select retention.attach()');
    }
    expect(await isReadable(run)).toBe(true);
    const stranger = await connectAs(STRANGER);
    await expect(stranger.query('select retention.is_readable($1)', [run])).rejects.toMatchObject({
      code: '42501',
    });
  });

  test('the right survives the next migration, and one that is taken away stays away', async () => {
    const { query } = database();
    await query('select retention._grant_rights()');
    expect((await application.query(`select retention.is_readable('x') as is`)).rows).toEqual([
      { is: null },
    ]);
    await query(`select retention.revoke_rights('${READER}'); select retention._grant_rights()`);
    await expect(application.query(`select retention.is_readable('x')`)).rejects.toMatchObject({
      code: '42501',
    });
    await query(`select retention.grant_rights('${READER}', 'reader')`);
  });

  test('a list costs one probe for each run, whatever the table holds', async () => {
    const { insertRuns, query } = database();
    const ids = await insertRuns({ count: 2000, completedAgo: '1 day' });
    await query('analyze runs');
    const [row] = await query<{ reads: number }>(
      `select (pg_stat_get_xact_tuples_fetched('runs'::regclass) + pg_stat_get_xact_tuples_returned('runs'::regclass))::int
        as reads, count(*) from retention.readable($1)`,
      [ids.slice(0, 20)],
    );
    expect(row?.reads).toBeLessThan(100);
  });
});
