import { expect, test } from 'vitest';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

describeDatabase('the canary of a listener', () => {
  const stack = useCliStack();

  test('is written, deleted as results are, and looked for; status and doctor say so', async () => {
    const env = {
      S3_RESULT_BUCKET: 'dpp-results',
      RETENTION_CANARY_SECONDS: '1',
      RETENTION_POLL_SECONDS: '1',
    };
    await stack.listen({ ...env, RETENTION_HTTP_PORT: '0' });
    await until('a canary has gone', async () => {
      const rows = await stack
        .database()
        .query('select from retention.canary where confirmed_at is not null');
      return rows.length > 0;
    });
    const asked = stack.requests().map(({ operation }) => operation);
    const steps = ['PutObject', 'DeleteObjects', 'HeadObject'];
    expect(asked.filter((operation) => steps.includes(operation)).slice(0, 3)).toEqual(steps);
    const { stdout } = await stack.run(['status', '--json'], env);
    expect(JSON.parse(stdout)).toMatchObject({ canaries: [{ bucket: 'dpp-results', code: null }] });
  });
});
