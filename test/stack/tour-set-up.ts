import { RetentionError } from '../../src/errors.ts';
import { pause } from '../../src/lifecycle/pause.ts';
import { startCommand } from './retention-command.ts';
import { runsTableSql } from './runs-table.ts';
import { type SampleGroup, countRuns, insertRuns, SAMPLE_RUNS } from './sample-runs.ts';
import { type Tour, countObjects } from './tour-state.ts';
import { until } from './until.ts';

/** What is announced; a psql prints it. */
const CHANNELS = ['retention_expired', 'retention_cleared', 'retention_failed'] as const;

const START_LIMIT_SECONDS = 20;

/** What migrations, psql and listener may take together. */
const SET_UP_MILLISECONDS = 8_000;
const MINUTE = 60_000;

/** The application's table, its runs and their objects; then the migrations. */
export async function prepare(tour: Tour): Promise<void> {
  const { narrator, stack, signal } = tour;
  narrator.step('An application: a table of runs, and their results in S3');
  await stack.database.query(runsTableSql);
  const all = Object.values(SAMPLE_RUNS).flat();
  const { objects, firstRunId } = await insertRuns(stack.database, all);
  tour.sampleRunId = firstRunId;
  for (const { bucket, key } of objects) {
    stack.s3.putObject(bucket, key, Buffer.from(`{"result": "${key}"}`));
  }
  tellRuns(tour);
  narrator.say(`S3 holds ${countObjects(stack)} objects now. One of the due runs:`);
  await showSample(tour);
  signal.throwIfAborted();

  narrator.step('The migrations: schema "retention", and one pg_cron job');
  await awaitNextMinute(tour);
  const ran = await migrateUp(tour);
  narrator.say(`${ran.length} migrations ran, from ${ran[0]} to ${ran.at(-1)}.`);
  await tour.psql.ask('select jobname, schedule, command from cron.job;');
  signal.throwIfAborted();
}

/** Runs the command and returns the names that it prints, those of the migrations that ran. */
async function migrateUp({ stack, tidyUp }: Tour): Promise<readonly string[]> {
  const printed: string[] = [];
  const command = startCommand(['migrate', 'up'], stack.environment, (line) => printed.push(line));
  tidyUp.add(() => command.stop());
  const code = await command.ended;
  const said = printed.join('\n');
  if (code !== 0) throw new RetentionError(`"retention migrate up" ended with ${code}:\n${said}`);
  return printed.filter((line) => /^\d{4}_\w+$/u.test(line));
}

/** Lets a minute that is nearly over pass, so that its tick does not come before all is in place. */
async function awaitNextMinute({ narrator, signal }: Tour): Promise<void> {
  const left = MINUTE - (Date.now() % MINUTE);
  if (left > SET_UP_MILLISECONDS) return;
  const seconds = Math.ceil(left / 1_000);
  narrator.say(`This minute is nearly over, and its tick would be too soon: waiting ${seconds} s.`);
  await pause(left, signal);
  signal.throwIfAborted();
}

function tellRuns({ narrator }: Tour): void {
  const rows: readonly (readonly [readonly SampleGroup[], string])[] = [
    [SAMPLE_RUNS.due, 'due: COMPLETED more than 30 days ago, of three tenants, in two buckets'],
    [SAMPLE_RUNS.fresh, 'fresh: COMPLETED less than 30 days ago'],
    [SAMPLE_RUNS.failed, 'FAILED, long ago, with an object all the same'],
    [SAMPLE_RUNS.alreadyCleared, 'already cleared: the object is gone, the row is stamped'],
    [SAMPLE_RUNS.withoutBucket, 'without a bucket: nobody can say where its object is'],
  ];
  for (const [groups, what] of rows) {
    narrator.say(`${String(countRuns(groups)).padStart(4)} ${what}`);
  }
}

/** What is known of one due run; the same question before and after. */
export function showSample({ psql, sampleRunId }: Tour): Promise<void> {
  return psql.ask(
    `select tenant_id, status, completed_at::date, result_cleared_at\nfrom runs where run_id = '${sampleRunId}';`,
  );
}

/** A person's view: a psql that listens. */
export async function watchInPsql({ narrator, psql }: Tour): Promise<void> {
  narrator.step('A psql that listens, as anybody may');
  for (const channel of CHANNELS) await psql.ask(`listen ${channel};`);
}

/** The listener, as a process of its own; its log is shown. */
export async function startListener(tour: Tour): Promise<void> {
  const { narrator, signal } = tour;
  narrator.step('The listener: retention listen');
  narrator.command('retention listen');
  await launchListener(tour, tour.stack.environment);
  signal.throwIfAborted();
}

/** Starts a listener and waits until it has said that it runs. */
export async function launchListener(
  tour: Tour,
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  tour.listenerLog = [];
  const listener = startCommand(['listen'], environment, (line) => {
    tour.listenerLog.push(line);
    tour.narrator.hear('listener', line);
  });
  tour.listener = listener;
  tour.tidyUp.add(() => listener.stop());
  await until('the listener to start', () => seeLogged(tour, 'Starting Retention Loop'), {
    signal: tour.signal,
    limitSeconds: START_LIMIT_SECONDS,
  });
}

/**
 * Whether the listener has logged a line with these words.
 *
 * @throws RetentionError when it has ended, since then there is nothing to wait for.
 */
export function seeLogged({ listener, listenerLog }: Tour, words: string): true | undefined {
  if (listenerLog.some((line) => line.includes(words))) return true;
  if (listener?.exitCode === undefined) return undefined;
  throw new RetentionError(`The listener ended by itself, with ${listener.exitCode}.`);
}
