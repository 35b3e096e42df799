import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { DEFAULT_USERS, type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { read } from '../support/project-files.ts';
import { until } from '../support/until.ts';

const EXAMPLES = readdirSync(new URL('../../docs/examples', import.meta.url))
  .filter((name) => name.endsWith('.ts') && !name.startsWith('folder-store'))
  .map((name) => name.replace(/\.ts$/u, ''));

describe('docs/library.md', () => {
  // The examples are compiled with everything else, by `npm run types`.
  test.each(EXAMPLES)('shows examples/%s.ts as it is run here', (name) => {
    expect(read('docs/library.md')).toContain(
      `\`\`\`ts\n${read(`docs/examples/${name}.ts`)}\`\`\``,
    );
  });

  test('shows nothing that is not run', () => {
    expect(read('docs/library.md').match(/^```ts$/gmu)).toHaveLength(EXAMPLES.length);
  });
});

describeDatabase('the examples of docs/library.md', () => {
  const database = useMigrated();
  let s3: MemoryS3;
  const said: string[] = [];
  const has = (text: string) =>
    until(`it says ${text}`, () => said.some((line) => line.includes(text)), { seen: () => said });

  beforeAll(async () => {
    s3 = await startMemoryS3();
    s3.createBucket('dpp-results');
    vi.stubEnv('DATABASE_URL', database().url);
    vi.stubEnv('S3_RESULT_BUCKET', 'dpp-results');
    vi.stubEnv('S3_ENDPOINT_URL', s3.endpoint);
    vi.stubEnv('AWS_REGION', s3.region);
    vi.stubEnv('AWS_ACCESS_KEY_ID', DEFAULT_USERS[0].accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', DEFAULT_USERS[0].secretAccessKey);
    vi.stubEnv('LOG_LEVEL', 'error');
    vi.spyOn(console, 'log').mockImplementation((line: unknown) => void said.push(String(line)));
  });
  afterAll(async () => {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
    await s3.stop();
  });

  async function makeResults(): Promise<void> {
    const runIds = await database().insertRuns({ count: 2, tenant: 'acme' });
    for (const runId of runIds) s3.putObject('dpp-results', `results/${runId}`);
  }

  test('do what they say, one after the other', { timeout: 120_000 }, async () => {
    const { query } = database();
    const { subscription } = await import('../../docs/examples/events.ts');
    await has('0 results are dead');
    await makeResults();
    await import('../../docs/examples/reconcile.ts');
    await has('2 cleared, 0 failed');
    await import('../../docs/examples/questions.ts');
    await has('0 due, 0 flagged, 0 dead');
    await import('../../docs/examples/proof.ts');
    await has('receipts hold');
    await import('../../docs/examples/payloads.ts');
    await has('998 cleared');
    const { reactor } = await import('../../docs/examples/reactor.ts');
    await until('it listens', () => reactor.listening().listening);
    await makeResults();
    await query('select retention.flag_expired()');
    await has('2 results cleared in dpp-results');
    await reactor.stop();
    await query(`update retention.setting set surge_guard = 0`);
    await makeResults();
    await query('select retention.flag_expired()');
    await has('surge');
    await subscription.stop();
    await import('../../docs/examples/decisions.ts');
    expect(await query('select count(*)::int as open from retention.surge_part')).toEqual([
      { open: 0 },
    ]);
  });
});
