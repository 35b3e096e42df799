import { SILENT_SCHEDULER_SECONDS } from '../../config/ticks.ts';
import { showCount, showNumber } from '../../numbers.ts';
import type { CronFacts } from '../../store/cron.ts';
import type { Diagnosis, HealthFacts } from '../../store/diagnosis.ts';
import { type Check, attempt, failed, ok, warning } from './check.ts';
import type { DoctorPorts } from './ports.ts';

/** What a failed run of a job says when pg_cron may not connect to its own server. */
const CANNOT_CONNECT = /connection (?:refused|failed)|password|authentication|could not connect/iu;

/** Who ticks, whether there is a job for it, and when it ticked last. */
export async function checkScheduler(
  ports: DoctorPorts,
  reader: Diagnosis,
  health: HealthFacts,
  database: string,
): Promise<readonly Check[]> {
  const name = 'pg_cron';
  const ticks = checkTicks(health);
  if (health.scheduler === 'internal') {
    return [ok('scheduler', 'internal: listeners tick by themselves'), ticks];
  }
  const { cron_database: cronDatabase } = health;
  const job = await attempt(name, async () => {
    if (cronDatabase === null) return checkJob(await reader.readCron(), database);
    if (ports.cron === undefined) {
      return warning(
        name,
        `the job was scheduled from database ${cronDatabase}, which cannot be looked into from here`,
        'Set CRON_DATABASE_URL to it.',
      );
    }
    return checkJob(await ports.cron.diagnosis.readCronElsewhere(database), cronDatabase);
  });
  return [...job, ticks];
}

function checkJob(facts: CronFacts, where: string): Check {
  const name = 'pg_cron';
  if (facts.home === null && !facts.may_see_settings) {
    return failed(
      name,
      `the extension is not there in database ${where}, and this role may not see where pg_cron lives`,
      'Run doctor as a superuser, or grant pg_read_all_settings to the role that runs it.',
    );
  }
  if (facts.home === null) {
    return failed(
      name,
      'the server does not load pg_cron',
      `Set shared_preload_libraries = 'pg_cron' and cron.database_name = '${where}', and restart the server.`,
    );
  }
  if (facts.extension === null) {
    return failed(
      name,
      `the extension is not there in database ${where}; pg_cron lives in ${facts.home}`,
      `As a superuser, in database ${facts.home}: create extension pg_cron; then schedule the job again: ${AGAIN}`,
    );
  }
  if (!facts.may_look) {
    return warning(
      name,
      `version ${facts.extension}; this role may not look at its jobs`,
      'Set DATABASE_MIGRATE_URL to the role that migrated, or go by the last tick.',
    );
  }
  const [job, ...others] = facts.jobs;
  if (job === undefined) {
    return failed(
      name,
      `version ${facts.extension}; no job that ticks is to be seen (a role sees its own jobs only)`,
      `Schedule it again: ${AGAIN}`,
    );
  }
  const about = `version ${facts.extension}, job ${job.job_id} "${job.name}" of ${job.owner}, ${job.schedule}`;
  if (!job.active) {
    return failed(
      name,
      `${about}: it is switched off`,
      `In database ${where}: select cron.alter_job(${job.job_id}, active := true);`,
    );
  }
  if (others.length > 0) {
    return warning(
      name,
      `${about}; ${others.length} more tick as well: ${others.map((it) => it.job_id).join(', ')}`,
      `In database ${where}: select cron.unschedule(${others[0]?.job_id});`,
    );
  }
  const [last] = job.last_runs;
  if (last === undefined) return ok(name, `${about}; no run is on record yet`);
  const bad = job.last_runs.filter(({ status }) => status === 'failed').length;
  if (last.status === 'failed') {
    const remedy =
      CANNOT_CONNECT.test(last.message ?? '') && !facts.uses_workers
        ? 'Set cron.use_background_workers = on and restart the server, or let its jobs in by pg_hba.conf.'
        : 'Fix what the message says; cron.job_run_details has the earlier ones.';
    return failed(
      name,
      `${about}; ${bad} of its last ${showCount(job.last_runs.length, 'run')} failed: ${last.message ?? 'no message'}`,
      remedy,
    );
  }
  return ok(
    name,
    `${about}; ${job.last_runs.length - bad} of its last ${showCount(job.last_runs.length, 'run')} went well`,
  );
}

const AGAIN = 'retention migrate up';

function checkTicks(health: HealthFacts): Check {
  const name = 'ticks';
  const { ticked_seconds_ago: tickedSecondsAgo, ticked_by: tickedBy, scheduler } = health;
  const remedy =
    scheduler === 'internal'
      ? 'Start a listener: retention listen'
      : "Look at pg_cron's check above and at the server's log (the launcher says why it fails there).";
  if (tickedSecondsAgo === null) {
    if (health.installed_seconds_ago < SILENT_SCHEDULER_SECONDS) {
      return warning(
        name,
        'none yet; the schema is only just there',
        'Look again in a few minutes.',
      );
    }
    return failed(name, 'there has never been a tick', remedy);
  }
  const last = `the last one ${Math.round(tickedSecondsAgo)} s ago, by ${tickedBy ?? 'unknown'}`;
  if (tickedSecondsAgo > SILENT_SCHEDULER_SECONDS)
    return failed(name, `${last}: they have stopped`, remedy);
  if (scheduler === 'pg_cron' && tickedBy === 'listener') {
    return failed(name, `${last}: listeners tick because pg_cron is silent`, remedy);
  }
  return ok(name, `${last}; passes every ${showNumber(health.loop_interval_seconds)} s`);
}
