import { expect, test } from 'vitest';
import { describeDatabase } from '../support/database.ts';
import { openStory } from '../support/document-story.ts';
import { useOperatorStack } from '../support/operator-stack.ts';

/** The table of another application, with the columns that the document maps. */
const JOBS = `
create schema jobs;
create table jobs.job (
  job_id bigint generated always as identity primary key,
  tenant_id text not null,
  status text not null,
  finished_at timestamptz,
  result_bucket text,
  result_key text,
  updated_at timestamptz not null default now()
);
create role retention_listener login;
`;

describeDatabase('adopting a live system', () => {
  const stack = useOperatorStack();

  test('goes as written, on a table with other names', { timeout: 600_000 }, async () => {
    const sql = (text: string): Promise<string> => stack.server().sql(text);
    await sql(JOBS);
    const guide = openStory('docs/adopting.md', {
      databaseUrl: () => stack.server().url(),
      variables: { ...stack.variables(), S3_RESULT_BUCKET: 'dpp-results' },
    });
    await guide.run('export PATH="$PWD/node_modules/.bin:$PATH"');
    // Before anything is mapped, the table of the runbook's name is looked at.
    await guide.run('retention init');
    await guide.run('export RETENTION_TABLE=jobs.job');
    await guide.run(
      'export RETENTION_COLUMNS=run_id=job_id,completed_at=finished_at,bucket=result_bucket,key=result_key',
    );
    const insert = async (days: number): Promise<string> => {
      const id = await sql(
        `insert into jobs.job (tenant_id, status, finished_at, result_bucket)
        values ('tenant_abc', 'COMPLETED', now() - interval '${days} days', 'dpp-results')
        returning job_id`,
      );
      await sql(`update jobs.job set result_key = 'results/' || job_id where job_id = ${id}`);
      stack.s3().putObject('dpp-results', `results/${id}`);
      return id;
    };
    for (let runs = 0; runs < 15; runs += 1) await insert(120);
    const held = await insert(150);
    const young = await insert(40);

    await guide.run(
      'DPP_RETENTION_ENABLED=false RETENTION_ROLE=retention_listener retention migrate up',
    );
    const migrations = await guide.run('retention migrate status');
    expect(migrations.stdout).toContain('0003_functions');

    await guide.run('retention doctor');
    const dry = await guide.run('retention reconcile --dry-run');
    expect(dry.stdout).toContain('17 results would go; nothing was changed.');
    const verbose = await guide.run('retention reconcile --dry-run --verbose');
    expect(verbose.stdout).toContain(`results/${young}`);
    guide.put('RUN', held);
    await guide.run('retention explain RUN');

    await guide.run(`retention policy set '*' 90d`);
    await guide.run('retention hold place --run RUN --reason "case 4711"');

    await guide.run('DPP_RETENTION_ENABLED=true retention migrate up');
    await guide.run('retention reconcile --limit 10');
    const left = async (): Promise<number> =>
      Number(await sql('select count(*) from jobs.job where result_cleared_at is null'));
    expect([await left(), stack.s3().countObjects('dpp-results')]).toEqual([7, 7]);
    await guide.run('retention reconcile --tenant tenant_abc --limit 1000');
    expect([await left(), stack.s3().countObjects('dpp-results')]).toEqual([2, 2]);

    // A small guard stands for the large backlog of a real table.
    for (let runs = 0; runs < 3; runs += 1) await insert(120);
    await sql('update retention.setting set surge_guard = 2');
    await sql('select retention.flag_expired(p_whole => true)');
    const surges = await guide.run('retention surge list');
    expect(surges.stdout).toContain('no walk over the results had been complete before');
    guide.put('200000', '3');
    await guide.run('retention surge show 1');
    const released = await guide.run('retention surge release 1 --expect 200000');
    expect(released.stdout).toContain('3 results are released');

    await guide.run('DPP_RETENTION_MAX_DELETES_PER_SECOND=200 retention listen', {
      until: 'Listening for notifications',
    });

    await guide.run('retention reconcile --verify --dry-run');
    stack.s3().putObject('dpp-results', 'results/orphan');
    const orphans = await guide.run('retention reconcile --orphans');
    expect(orphans.stdout).toMatch(/orphan/u);
    expect(stack.s3().countObjects('dpp-results')).toBe(3);
    guide.end();
  });
});
