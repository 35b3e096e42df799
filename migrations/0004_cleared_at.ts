import type { MigrationBuilder } from 'node-pg-migrate';
import { outsideTransaction, withLockRetries } from './support/live-table.ts';

interface Adapter {
  readonly table_name: string;
  readonly cleared_at: string;
  readonly added_cleared_at: boolean;
}

/** Adds the cleared-at column where the application has none: no rewrite, one short lock. */
export async function up(pgm: MigrationBuilder): Promise<void> {
  const [adapter] = (await pgm.db.select(
    `select table_name, added_cleared_at, format('%I', columns -> 'cleared_at' ->> 'name') as cleared_at
    from retention.adapter`,
  )) as Adapter[];
  if (adapter === undefined) throw new Error('retention.adapter is empty: adopt a table first');
  if (!adapter.added_cleared_at) return;
  await outsideTransaction(pgm, () =>
    withLockRetries(
      pgm,
      `alter table ${adapter.table_name} add column if not exists ${adapter.cleared_at} timestamptz`,
    ),
  );
}

/** The column stays: it is the audit trail. */
export function down(): void {}
