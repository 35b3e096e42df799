import type { MigrationBuilder } from 'node-pg-migrate';
import { checkCronDatabase, cronDatabaseUrl } from './support/cron-database.ts';
import { setting } from './support/setting.ts';

/** Looks at everything that will be needed before anything is touched, and writes the mapping down. */
export async function up(pgm: MigrationBuilder): Promise<void> {
  const cronUrl = await cronDatabaseUrl(pgm);
  if (cronUrl !== undefined) await checkCronDatabase(pgm, cronUrl);
  const scheduler = setting('scheduler', 'RETENTION_SCHEDULER', 'pg_cron');
  pgm.sql(`select retention.check_scheduler(${scheduler}, ${cronUrl !== undefined})`);
  pgm.sql(`select retention.check_role(${setting('role', 'RETENTION_ROLE', '')})`);
  pgm.sql(
    `select retention.adopt(${setting('table', 'RETENTION_TABLE', 'public.runs')}, ` +
      `${setting('columns', 'RETENTION_COLUMNS', '')}, ${scheduler})`,
  );
}

export function down(pgm: MigrationBuilder): void {
  pgm.sql('drop domain retention.tenant_id');
  pgm.sql('drop domain retention.run_id');
  pgm.sql('delete from retention.adapter');
}
