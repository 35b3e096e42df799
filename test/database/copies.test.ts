import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';

describeDatabase('x', () => {
  const database = useMigrated();
  test('cost', async () => {
    const { query } = database();
    for (const round of [1, 2])
      for (const s of [
        'retention.gate()',
        'retention._copy_reason()',
        'retention._identity_differs()',
        'retention._identity_now()',
        'pg_control_system()',
        'retention._table_reasons()',
        `pg_walfile_name(pg_current_wal_lsn())`,
      ]) {
        const t = performance.now();
        await query(`do $$ begin for i in 1..2000 loop perform * from ${s}; end loop; end $$`);
        console.log(round, s, (((performance.now() - t) / 2000) * 1000).toFixed(1), 'us');
      }
  });
});
