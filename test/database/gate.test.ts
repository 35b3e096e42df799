import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('a closed gate', () => {
  const database = useMigrated();

  /** How many results a pass flags, and whether there is something to claim, for this client. */
  async function work(client: string | null = null) {
    const { one, query } = database();
    const { flagged } = await one<{ flagged: number }>(
      'select retention.flag_expired() as flagged',
    );
    const claims = await query(
      `select keys from retention.claim(gen_random_uuid(), '1 minute', p_client => $1)`,
      [client],
    );
    return { flagged, claimed: claims.length };
  }

  /** One result that is flagged and one that is due. */
  async function prepare(): Promise<void> {
    await database().insertRun();
    await database().query('select retention.flag_expired()');
    await database().insertRun();
  }

  test.each([
    [
      'disabled',
      'update retention.setting set enabled = false',
      'update retention.setting set enabled = true',
    ],
    ['halted', `select retention.halt('a drill')`, 'select retention.resume()'],
    ['detached', 'select retention.detach()', 'select retention.attach()'],
    [
      'table replaced',
      'alter table runs rename to runs_before; create table runs (like runs_before including all)',
      'drop table runs; alter table runs_before rename to runs',
    ],
  ])('keeps everything where it is: %s', async (reason, close, open) => {
    await prepare();
    await database().query(close);
    const reasons = await database().query('select reason from retention.gate()');
    const closed = await work();
    await database().query(open);
    expect(reasons).toEqual([{ reason }]);
    expect(closed).toEqual({ flagged: 0, claimed: 0 });
    expect(await work()).toEqual({ flagged: 1, claimed: 1 });
  });

  test.each([
    ['that is older than what it serves', '0.0.1'],
    ['that is newer than itself', '99.0.0'],
  ])('gives nothing to a client %s', async (_what, client) => {
    await prepare();
    expect(await work(client)).toMatchObject({ claimed: 0 });
    expect(await work()).toMatchObject({ claimed: 1 });
  });
});
