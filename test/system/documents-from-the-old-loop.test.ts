import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { type Story, openStory } from '../support/document-story.ts';
import { OWNER, useOperatorStack } from '../support/operator-stack.ts';

/** The address that documents give for a database, as its table's owner. */
const ADDRESS = 'postgres://app_owner:secret@db.example.com:5432/app';
const LISTENS = { until: 'Listening for notifications' };

describeDatabase('coming from a loop of one deletion a run', () => {
  const stack = useOperatorStack();

  test('goes as written', { timeout: 600_000 }, async () => {
    const guide = await open('docs/from-the-old-loop.md');
    // The loop left a backlog behind, and a stamp that it lost.
    await stack.insert({ count: 30 });
    await stack.insert({ count: 5, tenant: 'tenant_xyz' });
    const [lost = ''] = await stack.insert({ days: 3, prefix: 'lost/' });
    await stack.server().sql(`update runs set result_s3_key = 'lost/no' where run_id = '${lost}'`);

    await guide.run('export PATH="$PWD/node_modules/.bin:$PATH"');
    await guide.run(`export DATABASE_URL=${ADDRESS}`);
    await guide.run('export S3_RESULT_BUCKET=dpp-results');
    await guide.run('DPP_RETENTION_ENABLED=false retention migrate up');

    // The owner of the table is no superuser, and pg_cron's settings are for those.
    const doctor = await guide.run('retention doctor');
    expect(doctor.stdout).toMatch(/ok +pg_cron: .* "retention-tick" of app_owner/u);
    const dry = await guide.run('retention reconcile --dry-run');
    expect(dry.stdout).toContain('35 results would go; nothing was changed.');
    await guide.run('retention reconcile --dry-run --json > would-go.json');
    const listed = JSON.parse(readFileSync(join(guide.folder, 'would-go.json'), 'utf8')) as {
      readonly due: number;
      readonly runs: readonly unknown[];
    };
    expect([listed.due, listed.runs.length]).toEqual([35, 35]);

    const place = 'retention hold place --tenant tenant_abc --reason "audit 2026-04"';
    await guide.run(place);
    await guide.run('retention policy set tenant_xyz 90d');
    const after = await guide.type('retention reconcile --dry-run');
    expect(after.stdout).toContain('0 results would go');
    await guide.type('retention hold release 1');
    await stack.server().sql(`update retention.hold set released_at = now() - interval '2 hours'`);

    const refused = await guide.type('retention reconcile', { code: 1 });
    expect(refused.stderr).toContain('disabled');
    await guide.run('DPP_RETENTION_ENABLED=true retention migrate up');
    await guide.run('retention reconcile --tenant tenant_abc --limit 10');
    expect(await cleared()).toBe(10);
    const status = await guide.run('retention status');
    expect(status.stdout).toMatch(/cleared.today +10/u);

    await guide.run(
      'DPP_RETENTION_ENABLED=true DPP_RETENTION_MAX_DELETES_PER_SECOND=200 retention listen',
      LISTENS,
    );
    await guide.run('retention reconcile --verify --dry-run');
    const before = await cleared();
    await guide.run('retention reconcile --verify');
    expect(await stack.count(`result_cleared_at is not null and run_id = '${lost}'`)).toBe(1);
    // What is kept by a policy is not touched; all else is gone by now.
    expect(await cleared()).toBeGreaterThan(before);
    expect(await stack.count(`result_cleared_at is null and tenant_id <> 'tenant_xyz'`)).toBe(0);
    expect(await stack.count(`result_cleared_at is not null and tenant_id = 'tenant_xyz'`)).toBe(0);
    guide.end();

    await stack.server().sql('drop extension pg_cron');
    const blind = await guide.type('retention doctor', { code: 1 });
    expect(blind.stdout).toContain('failed   pg_cron: the extension is not there in database app');
  });

  const cleared = (): Promise<number> => stack.count('result_cleared_at is not null');

  async function open(path: string): Promise<Story> {
    await stack.server().sql(
      `create extension pg_cron; grant usage on schema cron to ${OWNER};
        grant create on database app to ${OWNER}; grant create on schema public to ${OWNER}`,
    );
    const { DATABASE_URL: _, ...variables } = stack.variables();
    const story = openStory(path, { databaseUrl: () => stack.server().url(), variables });
    story.put(ADDRESS, stack.server().url('app', OWNER));
    return story;
  }
});
