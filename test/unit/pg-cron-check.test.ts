import { describe, expect, test } from 'vitest';
import type { DoctorPorts } from '../../src/reactor/doctor/ports.ts';
import { checkScheduler } from '../../src/reactor/doctor/scheduler-checks.ts';
import type { Diagnosis, HealthFacts } from '../../src/store/diagnosis.ts';

describe("doctor, when pg_cron's runs fail", () => {
  async function remedyFor(message: string, usesWorkers: boolean) {
    const facts = {
      home: 'app',
      may_see_settings: true,
      extension: '1.6',
      may_look: true,
      uses_workers: usesWorkers,
      jobs: [
        {
          job_id: 1,
          name: 'retention-tick',
          owner: 'app_owner',
          schedule: '* * * * *',
          active: true,
          last_runs: [{ status: 'failed', message }],
        },
      ],
    };
    const reader = { readCron: () => Promise.resolve(facts) } as unknown as Diagnosis;
    const health = {
      scheduler: 'pg_cron',
      cron_database: null,
      ticked_seconds_ago: 1,
      loop_interval_seconds: 60,
    };
    const ports = { cron: undefined } as unknown as DoctorPorts;
    const checks = await checkScheduler(ports, reader, health as unknown as HealthFacts, 'app');
    return checks.find(({ name }) => name === 'pg_cron');
  }

  test.each([
    'connection failed',
    'could not connect to server: Connection refused',
    'fe_sendauth: no password supplied',
    'FATAL: Peer authentication failed for user "app_owner"',
  ])('because it may not log in ("%s"), background workers are the remedy', async (message) => {
    const check = await remedyFor(message, false);
    expect(check?.state).toBe('failed');
    expect(check?.found).toContain(message);
    expect(check?.remedy).toMatch(/cron\.use_background_workers = on.*pg_hba/u);
  });

  test('for another reason, or with background workers already, that is not the remedy', async () => {
    expect((await remedyFor('relation "x" does not exist', false))?.remedy).not.toContain(
      'workers',
    );
    expect((await remedyFor('connection failed', true))?.remedy).not.toContain('workers');
  });
});
