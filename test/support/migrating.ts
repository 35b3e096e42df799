import { type MigrationSettings, runMigrations } from '../../src/database/migrations.ts';
import { silentLogger } from '../../src/logger.ts';
import { type TestDatabase, createDatabase } from './database.ts';

/** Runs the migrations, with the internal scheduler unless told otherwise; returns their names. */
export function migrate(
  { url }: Pick<TestDatabase, 'url'>,
  direction: 'up' | 'down',
  options: { readonly count?: number; readonly settings?: MigrationSettings } = {},
): Promise<readonly string[]> {
  return runMigrations({
    databaseUrl: url,
    direction,
    count: options.count,
    settings: { scheduler: 'internal', ...options.settings },
    logger: silentLogger,
  });
}

/** Makes a database with the application's table for as long as `work` takes. */
export async function withDatabase(work: (database: TestDatabase) => Promise<void>): Promise<void> {
  const database = await createDatabase();
  try {
    await work(database);
  } finally {
    await database.drop();
  }
}

/** Whether anything of ours is there. */
export async function hasSchema({ query }: TestDatabase): Promise<boolean> {
  const rows = await query(`select from pg_namespace where nspname = 'retention'`);
  return rows.length === 1;
}
