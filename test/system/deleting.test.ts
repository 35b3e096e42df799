import { expect, onTestFinished, test } from 'vitest';
import { useCliStack } from '../support/cli-stack.ts';
import { createDatabase, describeDatabase } from '../support/database.ts';
import { deleteAll, refuse, startScriptedS3 } from '../support/scripted-s3.ts';
import { until } from '../support/until.ts';

const NEVER_POLLS = { RETENTION_POLL_SECONDS: '3600' } as const;

describeDatabase('a listener and its S3', () => {
  const stack = useCliStack();

  async function scripted() {
    const s3 = await startScriptedS3();
    onTestFinished(() => s3.stop());
    return s3;
  }

  test('promise 7: no transaction is open and no lock held while S3 is called', async () => {
    const { query, insertRuns } = stack.database();
    const s3 = await scripted();
    const waiting: (() => void)[] = [];
    s3.play((request, response) => {
      const answer = (): void => deleteAll(request, response);
      // Whether the objects are there is looked for first.
      if (request.method === 'HEAD') answer();
      else waiting.push(answer);
    });
    await insertRuns({ count: 5 });
    await query('select retention.flag_expired()');
    await stack.listen({ S3_ENDPOINT_URL: s3.endpoint });
    await until('S3 is asked', () =>
      Promise.resolve(s3.requests.some(({ keys }) => keys.length === 5)),
    );
    const open = await query(
      `select state, query from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
        and application_name = 'retention listen'`,
    );
    const locks = await query(
      `select mode from pg_locks
      where relation = 'runs'::regclass and pid <> pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())`,
    );
    expect({ open, locks }).toEqual({ open: [], locks: [] });
    for (const answer of waiting) answer();
    await until('the runs are stamped', async () => (await stack.database().countStamped()) === 5);
  });

  test('promise 6: a key for which a request is refused whole ends up alone', async () => {
    const { query, insertRuns, countStamped } = stack.database();
    const s3 = await scripted();
    const runIds = await insertRuns({ count: 8 });
    const bad = `results/${runIds[5]}`;
    s3.play((request, response) => {
      const isBad = request.keys.includes(bad) || request.url.includes(bad);
      (isBad ? refuse(400, 'MalformedXML') : deleteAll)(request, response);
    });
    await query('select retention.flag_expired()');
    await stack.listen({ S3_ENDPOINT_URL: s3.endpoint });
    await until('the others are stamped', async () => (await countStamped()) === 7, {
      limitMs: 20_000,
    });
    await until('the bad one failed', async () => {
      const rows = await query('select run_id from retention.flagged where failed_at is not null');
      return rows.length === 1 && rows[0]?.['run_id'] === runIds[5];
    });
  });

  test('promise 2: what was announced while no session listened is taken up on reconnecting', async () => {
    const { query, name } = stack.database();
    const administrator = await createDatabase();
    onTestFinished(() => administrator.drop());
    const letIn = (isOpen: boolean): Promise<unknown> =>
      administrator.query(`alter database ${name} with allow_connections ${isOpen}`);
    const listener = await stack.listen(NEVER_POLLS);
    await until('the first pass is over', async () => {
      const rows = await query('select from retention.heartbeat where passed_at is not null');
      return rows.length === 1;
    });
    await stack.insertResults({ count: 3 });
    await letIn(false);
    const LISTENING = `select pid from pg_stat_activity
      where datname = current_database() and query ilike '%listen %' and pid <> pg_backend_pid()`;
    await until('nobody listens', async () => {
      await query(`select pg_terminate_backend(pid) from (${LISTENING}) s`);
      return (await query(LISTENING)).length === 0;
    });
    await query('select retention.flag_expired()');
    await letIn(true);
    await stack.cleared(3, 40_000);
    expect(listener.stderr).toContain('Listening for notifications again');
  });

  test('promise 2: what was flagged before a listener started is taken up at its start', async () => {
    await stack.insertResults({ count: 3 });
    await stack.database().query('select retention.flag_expired(); select retention.tick()');
    await stack.listen(NEVER_POLLS);
    await stack.cleared(3);
  });
});
