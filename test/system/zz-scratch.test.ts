import { test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useCliStack } from '../support/cli-stack.ts';
describeDatabase('x', () => {
  const stack = useCliStack();
  test('y', async () => {
    await stack.database().set({ flag_limit: '100', batch_size: '100' });
    await stack.insertResults({ count: 1_000 });
    const l = await stack.listen({ LOG_LEVEL: 'DEBUG' });
    await stack.cleared(1_000, 15_000);
    console.log(l.stderr);
    console.log(await stack.database().query('select ms, looked_at, flagged, started_at from retention.scan order by scan_id'));
  });
});
