import type { MigrationBuilder } from 'node-pg-migrate';
import { checkCronDatabase, cronDatabaseUrl } from './support/cron-database.ts';
import { dropFunctions, installAdoption } from './support/functions.ts';
import { buildIndexes, dropIndexes } from './support/indexes.ts';
import { setLimits } from './support/limits.ts';
import { outsideTransaction, withAllLocks, withLockRetries } from './support/live-table.ts';
import { checkRunner } from './support/runner-version.ts';
import { setting } from './support/setting.ts';

interface Adapter {
  readonly table_name: string;
  readonly cleared_at: string;
  readonly lacks_cleared_at: boolean;
}

/**
 * Adopts the application's table, or adopts it again after it has changed: looks at everything that will be
 * needed before anything is touched, writes the mapping down, adds the cleared-at column where the
 * application has none (no rewrite, one short lock), and builds the two indexes.
 */
export async function up(pgm: MigrationBuilder): Promise<void> {
  checkRunner();
  await setLimits(pgm.db);
  await installAdoption(pgm);
  const cronUrl = await cronDatabaseUrl(pgm);
  if (cronUrl !== undefined) await checkCronDatabase(pgm, cronUrl);
  const scheduler = setting('scheduler', 'RETENTION_SCHEDULER', 'pg_cron');
  const table = setting('table', 'RETENTION_TABLE', 'public.runs');
  const columns = setting('columns', 'RETENTION_COLUMNS', '');
  const role = setting('role', 'RETENTION_ROLE', '');
  const isElsewhere = String(cronUrl !== undefined);
  await pgm.db.query(`select retention._check_renamed(${table})`);
  await pgm.db.query(
    `select retention._check_adoption(${table}, ${columns}, ${scheduler}, ${isElsewhere}, ${role})`,
  );
  const operator = setting('operator_role', 'RETENTION_OPERATOR_ROLE', '');
  const observer = setting('observer_role', 'RETENTION_OBSERVER_ROLE', '');
  await pgm.db.query(`select retention._check_role(${operator}, 'RETENTION_OPERATOR_ROLE')`);
  await pgm.db.query(`select retention._check_role(${observer}, 'RETENTION_OBSERVER_ROLE')`);
  await pgm.db.query(`select retention._check_scheduler(${scheduler}, ${isElsewhere})`);
  await withAllLocks(pgm, async () => {
    await pgm.db.query(`select retention._adopt(${table}, ${columns}, ${scheduler})`);
  });
  const [adapter] = (await pgm.db.select(
    `select table_oid::regclass::text as table_name,
      columns -> 'cleared_at' ->> 'type' is null as lacks_cleared_at,
      quote_ident(columns -> 'cleared_at' ->> 'name') as cleared_at
    from retention.adapter`,
  )) as Adapter[];
  if (adapter === undefined) throw new Error('retention.adapter is empty: adopt a table first');
  await outsideTransaction(pgm, async () => {
    if (adapter.lacks_cleared_at) {
      await withLockRetries(
        pgm,
        `alter table ${adapter.table_name} add column if not exists ${adapter.cleared_at} timestamptz`,
      );
      await pgm.db.query(
        `update retention.adapter
        set columns = jsonb_set(columns, '{cleared_at,type}', '"timestamp with time zone"')`,
      );
    }
    await buildIndexes(pgm);
  });
}

/** The cleared-at column stays: it is the audit trail. */
export async function down(pgm: MigrationBuilder): Promise<void> {
  await setLimits(pgm.db);
  await outsideTransaction(pgm, () => dropIndexes(pgm));
  await installAdoption(pgm);
  await pgm.db.query(`select retention._retype('run_id', 'text')`);
  await pgm.db.query(`select retention._retype('tenant_id', 'text')`);
  await dropFunctions(pgm);
  await pgm.db.query('delete from retention.adapter');
}
