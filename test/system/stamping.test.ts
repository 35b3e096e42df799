import { expect, test } from 'vitest';
import { type CliStack, useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';

const BEFORE = 'create table audit_log (run_id uuid)';

/** How often S3 was asked to delete each key, the most. */
function mostAsked(stack: CliStack): number {
  const asked = new Map<string, number>();
  for (const { operation, keys } of stack.requests()) {
    if (operation !== 'DeleteObjects') continue;
    for (const key of keys) asked.set(key, (asked.get(key) ?? 0) + 1);
  }
  return Math.max(0, ...asked.values());
}

const deletions = (stack: CliStack): number =>
  stack.requests().filter(({ operation }) => operation === 'DeleteObjects').length;

async function useTrigger(stack: CliStack, body: string): Promise<void> {
  await stack.database().query(
    `create or replace function public.stamped() returns trigger language plpgsql as $$
    begin ${body} return new; end $$;
    create or replace trigger stamped before update on runs
    for each row execute function public.stamped()`,
  );
}

const dropTrigger = (stack: CliStack): Promise<unknown> =>
  stack.database().query('drop trigger if exists stamped on runs');

describeDatabase('a trigger of the application', () => {
  const stack = useCliStack({ before: BEFORE });

  test('that works for the application works for a reconcile: every row is stamped', async () => {
    await stack.insertResults({ count: 300 });
    await useTrigger(stack, 'insert into audit_log values (new.run_id);');
    const { code, stdout } = await stack.run(['reconcile', '--json']);
    await dropTrigger(stack);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ cleared: 300, failed: 0 });
    expect(await stack.countCleared()).toBe(300);
  });

  test('that refuses every stamp keeps a reconcile from deleting anything, and doctor says so', async () => {
    await stack.insertResults({ count: 20 });
    await useTrigger(stack, `raise exception 'the books are closed';`);
    const { code, stderr } = await stack.run(['reconcile']);
    expect(code).toBe(1);
    expect(stderr).toContain('the books are closed');
    expect(deletions(stack)).toBe(0);
    const doctor = await stack.run(['doctor', '--json']);
    expect(doctor.stdout).toMatch(/a live row could not be stamped: P0001 the books are closed/u);
    await dropTrigger(stack);
    await stack.database().query('update retention.stamping set try_at = now()');
    expect((await stack.run(['reconcile'])).code).toBe(0);
    expect(await stack.countCleared()).toBe(20);
  });

  test('that refuses a few rows leaves these to a person, with exit code 1', async () => {
    const runIds = await stack.insertResults({ count: 50 });
    await useTrigger(
      stack,
      `if new.run_id = '${runIds[7]}' then raise exception 'frozen'; end if;`,
    );
    const { code, stdout, stderr } = await stack.run(['reconcile', '--json']);
    await dropTrigger(stack);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ cleared: 49, failed: 1 });
    expect(stderr).toContain(`its stamp failed for run ${runIds[7]}: P0001 frozen`);
    expect(mostAsked(stack)).toBe(1);
  });

  test('that begins to fail and stops again: a listener stamps all that was deleted, and asks S3 once', async () => {
    await stack.database().set({ batch_size: '10' });
    const listener = await stack.listen({ RETENTION_POLL_SECONDS: '1' });
    await useTrigger(stack, `raise exception 'for a while';`);
    // The trial has passed, so the first batches show that stamps fail.
    await stack.database().query(
      `update retention.stamping set tried_for = retention._trial_mark(), failed_since = null,
        code = null, try_at = null`,
    );
    await stack.insertResults({ count: 200 });
    await stack.database().query('select retention.flag_expired(null, null, true)');
    await listener.waitForLine('stamps fail');
    const deleted = deletions(stack);
    expect(deleted).toBeLessThanOrEqual(8);
    await dropTrigger(stack);
    await stack.cleared(200);
    expect(mostAsked(stack)).toBe(1);
  });

  test('that takes 40 ms a row slows a listener down to that, and no further', async () => {
    await stack.insertResults({ count: 400 });
    await useTrigger(stack, 'perform pg_sleep(0.04);');
    await stack.listen({ RETENTION_POLL_SECONDS: '1' });
    await stack.cleared(400, 60_000);
    await dropTrigger(stack);
    expect(mostAsked(stack)).toBe(1);
  });

  test('whose row another session has locked: the others are stamped at once, that one when it is free', async () => {
    const runIds = await stack.insertResults({ count: 30 });
    const session = await stack.database().connect();
    await session.query('begin');
    await session.query('select from runs where run_id = $1 for update', [runIds[4]]);
    await stack.listen({ RETENTION_POLL_SECONDS: '1' });
    await stack.cleared(29);
    await session.query('rollback');
    await session.end();
    await stack.cleared(30);
    expect(mostAsked(stack)).toBe(1);
  });
});

describeDatabase('a verify of several buckets', () => {
  const stack = useCliStack();

  test('passes by one that is missing, does the rest, and exits 1 saying which', async () => {
    await stack.insertResults({ count: 50 });
    await stack
      .database()
      .query(`insert into retention.bucket (bucket) values ('a-no-such-bucket')`);
    const { code, stdout } = await stack.run(['reconcile', '--verify', '--orphans', '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      cleared: 50,
      buckets_failed: [{ bucket: 'a-no-such-bucket', code: 'NoSuchBucket' }],
    });
    expect(await stack.countCleared()).toBe(50);
  });

  test('passes by one that is not allowed, and names it', async () => {
    await stack.insertResults({ count: 5 });
    await stack.database().query(`insert into retention.bucket (bucket) values ('another')`);
    const { code, stdout } = await stack.run(['reconcile', '--verify', '--json'], {
      S3_RESULT_BUCKET: 'dpp-results',
    });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      cleared: 5,
      buckets_failed: [],
      buckets_passed_by: ['another'],
    });
  });

  test('does not take a dry run for complete either', async () => {
    await stack
      .database()
      .query(`insert into retention.bucket (bucket) values ('a-no-such-bucket'), ('dpp-results')`);
    const { code, stdout } = await stack.run(['reconcile', '--verify', '--dry-run']);
    expect(code).toBe(1);
    expect(stdout).toContain('bucket a-no-such-bucket could not be verified: NoSuchBucket');
  });
});
