import type { MigrationBuilder } from 'node-pg-migrate';

const LOCK_TIMEOUT_MILLISECONDS = 1_000;
const LOCK_ATTEMPTS = 60;
const LOCK_NOT_AVAILABLE = '55P03';

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
      await pgm.db.query('set lock_timeout = 0');
      if (!isLockTimeout(error) || attempt === LOCK_ATTEMPTS) throw error;
      // Postgres waits for us: no second timer, and the session stays busy for poolers.
      await pgm.db.query(`select pg_sleep(${Math.min(0.1 * attempt, 2)})`);
    } finally {
      await pgm.db.query('reset lock_timeout');
    }
  }
}

function isLockTimeout(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === LOCK_NOT_AVAILABLE;
}
