import { expect, onTestFinished, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { examineWith } from '../support/doctor.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('promise 13: the identity of a database', () => {
  const database = useMigrated();

  /** Changes what it was accepted as, until the test is over. */
  async function pretend(change: string): Promise<void> {
    const { query } = database();
    const kept = JSON.stringify(await query('select * from retention.identity'));
    await query(`update retention.identity set ${change}`);
    onTestFinished(async () => {
      await query(
        `set session_replication_role = replica;
        delete from retention.identity;
        insert into retention.identity select * from json_populate_recordset(null::retention.identity, '${kept}');
        reset session_replication_role`,
      );
    });
  }

  const gate = () => database().query('select reason, because from retention.gate()');

  test('is written down when it is adopted, and migrate up never writes it again', async () => {
    const [row] = await database().query('select * from retention.fence()');
    expect(row).toMatchObject({
      is_copy: false,
      because: null,
      accepted_at: null,
      fence_in_use: false,
    });
    expect(row?.['accepted_system_identifier']).toMatch(/^\d+$/u);
    expect(row?.['accepted_timeline']).toBe(1);
    await pretend(`database_oid = 1, database_name = 'production'`);
    await database().query('select retention._note_identity()');
    // Nor where the row is still there and nothing else is known, as after a restored dump.
    await database().query(
      `begin; set local session_replication_role = replica; delete from retention.installed; select retention._note_identity(); rollback`,
    );
    expect(await gate()).toMatchObject([{ reason: 'copy' }]);
  });

  test.each([
    [
      'another server',
      `system_identifier = '1'`,
      'it was adopted in the server 1, and this is the server ',
    ],
    [
      'another database',
      `database_oid = 1, database_name = 'production'`,
      'it was adopted in the database production (oid 1), and this is the database test_',
    ],
    [
      'another timeline',
      'timeline = 7',
      'the server is on timeline 1, and timeline 7 was accepted',
    ],
    [
      'a server that told no identifier before',
      'system_identifier = null',
      'the server that told no system identifier',
    ],
    ['a timeline that was not told before', 'timeline = null', 'timeline unknown was accepted'],
  ])(
    '%s is a copy: nothing is flagged or claimed, and it says what differs',
    async (_what, change, because) => {
      const { query, insertRun } = database();
      await insertRun();
      await query('select retention.flag_expired()');
      await insertRun();
      await pretend(change);
      const [reason] = await gate();
      expect(reason?.['reason']).toBe('copy');
      expect(reason?.['because']).toContain(because);
      expect(await query('select retention.flag_expired() as flagged')).toEqual([{ flagged: 0 }]);
      expect(await query(`select * from retention.claim(gen_random_uuid(), '1 minute')`)).toEqual(
        [],
      );
      await query(`select retention.tick('internal')`);
      const [status] = await query('select halted from retention.status');
      expect(status?.['halted']).toContain('copy');
      expect(await query(`select retention.accept_fence('a drill') as accepted`)).toEqual([
        { accepted: true },
      ]);
      expect(await gate()).toEqual([]);
      expect(await query('select retention.flag_expired() as flagged')).toEqual([{ flagged: 1 }]);
    },
  );

  test('another name of the same database is no copy', async () => {
    await pretend(`database_name = 'as it was called before'`);
    expect(await gate()).toEqual([]);
  });

  test('where the server tells neither, doctor says so, and nothing is taken for a copy', async () => {
    const { query } = database();
    const [definition] = await query<{ text: string }>(
      `select pg_get_functiondef('retention._identity_now()'::regprocedure) as text`,
    );
    const silent = definition?.text
      .replace('from pg_control_system() s', `from (select 1 / 0 as system_identifier) s`)
      .replace('pg_current_wal_lsn()', `(1 / 0)::text::pg_lsn`);
    await pretend('system_identifier = null, timeline = null');
    await query(silent ?? '');
    try {
      expect(await gate()).toEqual([]);
      const { check } = await examineWith({
        DATABASE_URL: database().url,
        RETENTION_SCHEDULER: 'internal',
      });
      expect(check('identity')).toMatchObject({ state: 'warning' });
      expect(check('identity').found).toContain('server unknown');
      expect(check('identity').remedy).toContain('RETENTION_FENCE=s3');
    } finally {
      await query(definition?.text ?? '');
    }
  });

  test('a copy is announced once, on retention_attention', async () => {
    const { connect, query } = database();
    const heard: (string | undefined)[] = [];
    const session = await connect();
    session.on('notification', ({ payload }) => heard.push(payload));
    await session.query('listen retention_attention');
    await pretend('timeline = 7');
    await query(`select retention.tick('internal')`);
    await query(`select retention.tick('internal')`);
    await session.query('select 1');
    expect(heard).toHaveLength(1);
    expect(JSON.parse(heard[0] ?? '')).toMatchObject({ kind: 'halted', reasons: ['copy'] });
    await query('select retention.accept_fence()');
    await session.query('select 1');
    expect(JSON.parse(heard[1] ?? '')).toMatchObject({ kind: 'resumed' });
  });
});
