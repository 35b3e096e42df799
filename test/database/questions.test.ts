import type pg from 'pg';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { createDiagnosis } from '../../src/store/diagnosis.ts';
import { describeDatabase } from '../support/database.ts';
import { psql } from '../support/psql.ts';
import { LISTENER, OWNER, STRANGER, useGuarded } from '../support/rights-roles.ts';

/** Each question of the overview and of the diagnosis, and what psql prints while there is nothing to tell. */
const QUESTIONS: Readonly<Record<string, RegExp>> = {
  'from retention.vitals()': /\(1 row\)/u,
  'from retention.busy_buckets()': /\(0 rows\)/u,
  'from retention.known_buckets()': /\(0 rows\)/u,
  'from retention.troubles()': /\(0 rows\)/u,
  'from retention.working_listeners()': /\(0 rows\)/u,
  'from retention.active_holds()': /\(0 rows\)/u,
  'from retention.pending_policies()': /\(0 rows\)/u,
  'from retention.list_holds()': /\(0 rows\)/u,
  'from retention.list_policies()': /\* +\| +30 /u,
  'from retention.count_postponed()': / 0\n/u,
  'from retention.missing_rights()': /\(0 rows\)/u,
  'from retention.index_state()': /retention_key/u,
  'from retention.health()': /\(1 row\)/u,
  'from retention.dead_by_code()': /\(0 rows\)/u,
  'from retention.undated()': /0 \| \{\}/u,
  "from retention.sample_keys('dpp-results') as key": /\(0 rows\)/u,
  "from retention.has_key_under('results/')": /\n f\n/u,
  'from retention.cron_state()': /\(1 row\)/u,
  'from retention.tick_jobs()': /\(0 rows\)/u,
};

describeDatabase('the questions of the overview and of the diagnosis', () => {
  const database = useGuarded();
  let listener: pg.Client;

  beforeAll(async () => {
    listener = await database().connectAs(LISTENER);
  });

  const inPsql = (question: string): Promise<string> =>
    psql(database().urlAs(LISTENER), `select * ${question};`);

  test.each(Object.entries(QUESTIONS))(
    "can be asked in psql, as the listener's role: %s",
    async (question, answer) => {
      expect(await inPsql(question)).toMatch(answer);
    },
  );

  test('the adopted table is told with its row-level security', async () => {
    expect(await inPsql('from retention.adopted_table()')).toMatch(
      new RegExp(`runs +\\| ${OWNER} +\\| ${OWNER} +\\| on +\\| f +\\| +0\\n`, 'u'),
    );
  });

  test('are cut at the limit that is given, and whole where it is null', async () => {
    const { insertRuns, query } = database();
    await insertRuns({ count: 2, bucket: 'one' });
    await insertRuns({ count: 1, bucket: 'two' });
    await query('select retention.flag_expired()');
    await query(
      `update retention.batch set failed_at = now(), code = 'AccessDenied', dead_at = now()`,
    );
    const count = async (question: string): Promise<number> =>
      (await listener.query(`select * from ${question}`)).rows.length;
    for (const name of ['busy_buckets', 'troubles']) {
      expect([name, await count(`retention.${name}(1)`)]).toEqual([name, 1]);
      expect([name, await count(`retention.${name}(null)`)]).toEqual([name, 2]);
    }
    expect((await listener.query('select * from retention.dead_by_code()')).rows).toEqual([
      { code: 'AccessDenied', results: '3' },
    ]);
  });

  test('of live results are answered from them', async () => {
    const { insertRuns } = database();
    await insertRuns({ count: 2 });
    await insertRuns({ count: 1, completedAgo: null });
    await database().query(
      `update runs set tenant_id = 'held' where completed_at is null;
      insert into retention.hold (tenant_id, reason) values ('held', 'audit')`,
    );
    expect(await inPsql("from retention.has_key_under('results/')")).toMatch(/\n t\n/u);
    expect(await inPsql("from retention.has_key_under('resultsx')")).toMatch(/\n f\n/u);
    expect(await inPsql("from retention.sample_keys('dpp-results')")).toContain('results/');
    expect(await inPsql('from retention.undated()')).toMatch(/ 1 \| \{[0-9a-f-]+\}/u);
  });

  test('find nothing while the table is detached, and raise nothing', async () => {
    await database().insertRuns({ count: 3 });
    const owner = await database().connectAs(OWNER);
    await owner.query('select retention.detach()');
    try {
      const questions = Object.entries(QUESTIONS).filter(([name]) => !name.includes('buckets'));
      for (const [question, answer] of questions) expect(await inPsql(question)).toMatch(answer);
      expect(await inPsql('from retention.adopted_table()')).toMatch(/\(0 rows\)/u);
      expect(await inPsql('from retention.tenants_due()')).toMatch(/\(0 rows\)/u);
    } finally {
      await owner.query('select retention.attach()');
    }
  });

  describe('what a role lacks', () => {
    const missing = async (role: string): Promise<string[]> =>
      (
        await database().query<{ missing: string }>('select * from retention.missing_rights($1)', [
          role,
        ])
      ).map((row) => row.missing);

    test('is the whole interface for a stranger, nothing for the listener and the owner', async () => {
      expect(await missing(LISTENER)).toEqual([]);
      expect(await missing(OWNER)).not.toContain('usage on schema retention');
      const lacking = await missing(STRANGER);
      expect(lacking[0]).toBe('usage on schema retention');
      expect(lacking).toContain('execute on function retention.claim');
      expect(lacking).toContain('select on retention.status');
      expect(lacking.filter((right) => /retention\._|attach|detach/u.test(right))).toEqual([]);
    });

    test('is what was taken away, and who can give it again', async () => {
      const { query } = database();
      await query(`revoke select on retention.scan from ${LISTENER};
        revoke execute on function retention.settle from ${LISTENER}`);
      try {
        expect((await listener.query('select * from retention.missing_rights()')).rows).toEqual([
          { missing: 'execute on function retention.settle', granted_by: OWNER },
          { missing: 'select on retention.scan', granted_by: OWNER },
        ]);
      } finally {
        await query(`select retention._grant_rights()`);
      }
    });

    test('of a role that is not there is refused', async () => {
      await expect(
        listener.query(`select * from retention.missing_rights('nobody_of_that_name')`),
      ).rejects.toMatchObject({ code: '42704' });
    });
  });

  describe('what pg_cron knows', () => {
    /** What pg_cron's tables look like, without pg_cron. */
    const CRON = `create schema cron;
      create table cron.job (jobid bigint, schedule text, command text, database text, username text,
        active boolean, jobname name);
      create table cron.job_run_details (jobid bigint, runid bigint, status text, return_message text);
      insert into cron.job values
        (1, '* * * * *', 'select retention.tick()', current_database(), 'kim', false, null),
        (2, '* * * * *', 'select retention.tick()', current_database(), 'kim', true, 'retention-tick'),
        (3, '* * * * *', 'select retention.tick()', 'elsewhere', 'kim', true, 'retention-tick'),
        (4, '* * * * *', 'vacuum', current_database(), 'kim', true, 'vacuum');
      insert into cron.job_run_details
      select 2, n, 'failed', 'run ' || n from generate_series(1, 7) n;`;

    test('is nothing where its schema is closed to the role, and raises nothing', async () => {
      const { query } = database();
      await query(CRON);
      try {
        expect((await listener.query('select * from retention.cron_state()')).rows).toMatchObject([
          { extension: null, may_look: false },
        ]);
        expect((await listener.query('select * from retention.tick_jobs()')).rows).toEqual([]);
        await query(
          `grant usage on schema cron to ${LISTENER}; grant select on cron.job to ${LISTENER}`,
        );
        expect((await listener.query('select * from retention.tick_jobs()')).rows).toEqual([]);
      } finally {
        await query('drop schema cron cascade');
      }
    });

    test('is the same from here and from another database', async () => {
      const { query, url } = database();
      const pool = createPool({ url, applicationName: 'test', logger: silentLogger });
      onTestFinished(() => pool.close());
      await query(CRON);
      try {
        const diagnosis = createDiagnosis(pool);
        const here = await diagnosis.readCron();
        expect(here.jobs.map((job) => [job.job_id, job.name, job.active])).toEqual([
          [2, 'retention-tick', true],
          [1, 'select retention.tick()', false],
        ]);
        expect(here.jobs[0]?.last_runs.map((run) => run.message)).toEqual(
          [7, 6, 5, 4, 3].map((run) => `run ${run}`),
        );
        expect(await diagnosis.readCronElsewhere(database().name)).toEqual(here);
      } finally {
        await query('drop schema cron cascade');
      }
    });
  });
});
