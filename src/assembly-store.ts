import { askWhereRefused } from './ask-approval.ts';
import type { Config } from './config/config.ts';
import type { Database } from './database/database.ts';
import { type PoolOptions, createPool } from './database/pool.ts';
import { type Logger, silentLogger } from './logger.ts';
import { type Store, createStore } from './store/store.ts';

/*
What only asks the database, apart from what also works with S3: a command that looks is to start without loading that.
*/

const NO_STATEMENT_TIMEOUT = 0;

/** Opens the database for as long as `work` takes; what needs two people is asked for, and refused. */
export async function withStore<Result>(
  {
    config,
    logger = silentLogger,
    mustWrite,
  }: {
    readonly config: Config;
    readonly logger?: Logger | undefined;
    /** Refuses a database that cannot be written to. Default: only what writes fails. */
    readonly mustWrite?: boolean;
  },
  work: (store: Store, database: Database) => Promise<Result>,
): Promise<Result> {
  // Some commands count or sort whole tables; the person who waits can end them.
  const database = openPool(config, logger, {
    applicationName: 'retention',
    statementTimeoutMilliseconds: NO_STATEMENT_TIMEOUT,
    mustWrite,
  });
  const store = createStore(database);
  try {
    return await work(store, database);
  } catch (error) {
    throw await askWhereRefused(error, store.askApproval);
  } finally {
    await database.close();
  }
}

/** Opens a pool of sessions as it is configured. */
export function openPool(
  config: Config,
  logger: Logger,
  options: Omit<PoolOptions, 'url' | 'passwordFile' | 'max' | 'logger'>,
): Database {
  return createPool({
    ...options,
    url: config.databaseUrl,
    passwordFile: config.passwordFile,
    max: config.concurrency + 2,
    logger,
  });
}
