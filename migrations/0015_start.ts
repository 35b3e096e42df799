import type { MigrationBuilder } from 'node-pg-migrate';
import { setting } from './support/setting.ts';

/** Last of all, when everything it needs is there: the job, and the listener's rights. */
export function up(pgm: MigrationBuilder): void {
  pgm.sql('select retention.schedule_tick()');
  const role = setting('role', 'RETENTION_ROLE', '');
  pgm.sql(`select retention.grant_rights(r) from (select ${role} as r) s where r <> ''`);
}

export function down(pgm: MigrationBuilder): void {
  pgm.sql('select retention.unschedule_tick()');
}
