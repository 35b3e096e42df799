import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { type DueRun, type Selection, readDueRuns } from '../../src/store/selection.ts';

/** What a dry run lists, run by run, as the product reads it. */
export async function dueRuns(
  { url }: { readonly url: string },
  selection: Selection,
): Promise<DueRun[]> {
  const pool = createPool({ url, applicationName: 'test', max: 1, logger: silentLogger });
  try {
    return await pool.withSnapshot(async (client) => {
      const runs: DueRun[] = [];
      for await (const page of readDueRuns(client, selection)) runs.push(...page);
      return runs;
    });
  } finally {
    await pool.close();
  }
}
