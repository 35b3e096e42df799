import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { runCampaign } from '../support/then-campaign.ts';

const SEED = Number(process.env['RETENTION_SEED'] ?? 20_261_128);
const STEPS = Number(process.env['RETENTION_STEPS'] ?? 150);

describeDatabase('promise 14: what was true then', () => {
  const database = useMigrated();

  test('is the same as the history that a campaign of its own keeps', async () => {
    const asked = await runCampaign(database(), { seed: SEED, steps: STEPS, moments: 7 });
    console.time('ask');
    const told = await database().query<{ state: string; days: number; because: string }>(
      `select e.state, extract(epoch from e.retain)::int / 86400 as days, e.because
      from unnest($1::text[], $2::bigint[]) with ordinality as w (run_id, at, n)
      cross join lateral retention.explain_at(w.run_id, timestamptz 'epoch' + w.at * interval '1 microsecond') e
      order by w.n`,
      [asked.map(({ runId }) => runId), asked.map(({ at }) => at)],
    );
    console.timeEnd('ask');
    const wrong = told.flatMap((answer, index) => {
      const moment = asked[index];
      return answer.state === moment?.state && answer.days === moment.retainDays
        ? []
        : [{ ...moment, answer }];
    });
    const count = (m: Record<string, number>, k: string) => ({ ...m, [k]: (m[k] ?? 0) + 1 });
    console.log(
      told.length,
      wrong.length,
      JSON.stringify(asked.reduce((m, { state }) => count(m, state), {})),
      JSON.stringify(
        wrong.reduce((m, { state, answer }) => count(m, `${state} told ${answer.state}`), {}),
      ),
      JSON.stringify(wrong.slice(0, 3), null, 1),
    );
    expect(wrong).toEqual([]);
  });
});
