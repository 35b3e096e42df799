import type { MigrationBuilder } from 'node-pg-migrate';

const LOCK_TIMEOUT_MILLISECONDS = 1_000;
const LOCK_ATTEMPTS = 60;
const LOCK_NOT_AVAILABLE = '55P03';
const DEADLOCK_DETECTED = '40P01';

/**
 * Ends the migration's transaction for as long as `work` runs, and opens the next one after it.
 * What touches the application's live table goes in here, so that its lock lasts for one statement
 * and not until the last migration is done.
 */
export async function outsideTransaction(
  pgm: MigrationBuilder,
  work: () => Promise<void>,
): Promise<void> {
  await pgm.db.query('commit');
  try {
    await work();
  } finally {
    await pgm.db.query('begin');
  }
}

/**
 * Runs one statement that needs a lock on a live table: waits at most a second for it, so that the
 * queue that builds up behind the wait stays short, and comes again.
 *
 * @throws the last lock error after 60 tries, or any other error at once
 */
export async function withLockRetries(pgm: MigrationBuilder, statement: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await pgm.db.query(`set lock_timeout = ${LOCK_TIMEOUT_MILLISECONDS}`);
    try {
      await pgm.db.query(statement);
      return;
    } catch (error) {
      if (!isLockTimeout(error) || attempt === LOCK_ATTEMPTS) throw error;
      // Postgres waits for us: no second timer, and the session stays busy for poolers.
      await pgm.db.query(`select pg_sleep(${Math.min(0.1 * attempt, 2)})`);
    } finally {
      // Not reset: a role may have a limit of its own, which would end the build of an index.
      await pgm.db.query('set lock_timeout = 0');
    }
  }
}

/** What looks at status locks that view first; nearly every other statement of ours locks batches first. */
const LOCK_WHAT_IS_USED_FIRST = `do $$
begin
  if to_regclass('retention.status') is not null then
    lock table retention.status in access exclusive mode;
  end if;
  lock table retention.batch in access exclusive mode;
end
$$`;

/**
 * Runs what needs strong locks on tables and views of this schema while listeners use them, within the
 * migration's transaction: waits at most half a second for each lock, less than it takes Postgres to find a
 * deadlock, gives all of them back and comes again. `work` may run more than once; what it did is rolled back.
 *
 * @throws the last lock error after 60 tries, or any other error at once
 */
export async function withAllLocks(
  pgm: MigrationBuilder,
  work: () => Promise<void>,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await pgm.db.query('savepoint all_locks');
    try {
      await pgm.db.query(`set local lock_timeout = '500ms'`);
      await pgm.db.query(LOCK_WHAT_IS_USED_FIRST);
      await work();
      await pgm.db.query('set local lock_timeout = 0');
      await pgm.db.query('release savepoint all_locks');
      return;
    } catch (error) {
      await pgm.db.query('rollback to savepoint all_locks');
      if (!isLockTimeout(error) || attempt === LOCK_ATTEMPTS) throw error;
      await pgm.db.query(`select pg_sleep(${Math.min(0.1 * attempt, 2)})`);
    }
  }
}

function isLockTimeout(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === LOCK_NOT_AVAILABLE || error.code === DEADLOCK_DETECTED)
  );
}
