import type { MigrationBuilder } from 'node-pg-migrate';
import { setting } from './support/setting.ts';

/** Looks at the table and the scheduler before anything is touched, and writes the mapping down. */
export function up(pgm: MigrationBuilder): void {
  const scheduler = setting('scheduler', 'RETENTION_SCHEDULER', 'pg_cron');
  const elsewhere = setting('cron_elsewhere', '', process.env['CRON_DATABASE_URL'] ? 'on' : 'off');
  pgm.sql(`select retention.check_scheduler(${scheduler}, ${elsewhere} = 'on')`);
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
