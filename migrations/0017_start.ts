import type { MigrationBuilder } from 'node-pg-migrate';
import { cronDatabaseUrl, scheduleAcross, unscheduleAcross } from './support/cron-database.ts';
import { setting } from './support/setting.ts';

/** Last of all, when everything it needs is there: the listener's rights, and the job. */
export async function up(pgm: MigrationBuilder): Promise<void> {
  const role = setting('role', 'RETENTION_ROLE', '');
  pgm.sql(`select retention.grant_rights(r) from (select ${role} as r) s where r <> ''`);
  const cronUrl = await cronDatabaseUrl(pgm);
  if (cronUrl === undefined) pgm.sql('select retention.schedule_tick()');
  else await scheduleAcross(pgm, cronUrl);
}

export async function down(pgm: MigrationBuilder): Promise<void> {
  const [adapter] = (await pgm.db.select('select cron_database from retention.adapter')) as {
    readonly cron_database: string | null;
  }[];
  const elsewhere = adapter?.cron_database ?? undefined;
  if (elsewhere === undefined) pgm.sql('select retention.unschedule_tick()');
  else await unscheduleAcross(pgm, await cronDatabaseUrl(pgm), elsewhere);
}
