import { countRuns, SAMPLE_BATCH_SIZE, SAMPLE_RUNS } from './sample-runs.ts';
import { seeLogged, showSample } from './tour-set-up.ts';
import { lookNow, type Moment, type Tour } from './tour-state.ts';
import { until } from './until.ts';

/** A tick comes at the start of a minute; pg_cron takes a moment to start its worker. */
const TICK_LIMIT_SECONDS = 75;
const SECONDS_BETWEEN_SIGNS_OF_LIFE = 10;
const CLEARING_LIMIT_SECONDS = 30;
const LOOK_MILLISECONDS = 20;

/** What the listener logs when nothing visible is left. */
const CLEANED_UP = 'Retention cleanup completed';

/** What it logs of a pass. */
const FOUND = 'expired runs for retention cleanup';

/** Waits for the real tick and follows what it sets off. Returns how things stand then. */
export async function followTick(tour: Tour): Promise<Moment> {
  const { narrator, psql } = tour;
  narrator.step('The tick');
  const before = await lookNow(tour);
  await waitForTick(tour);
  await waitForClearing(tour);

  narrator.say('', 'That was all. pg_cron keeps a record of the tick; the tables keep theirs:');
  await psql.ask(
    "select command, status, return_message\nfrom cron.job_run_details where status <> 'running';",
  );
  await psql.ask('select asked_by, flagged, batches, without_place, ms from retention.scan;');
  narrator.say('The run from before has lost its object; the row is still there, and stamped:');
  await showSample(tour);
  const after = await lookNow(tour);
  narrator.say(`S3 holds ${after.objects} objects now, ${before.objects} before.`);
  await showLeftAlone(tour);
  return after;
}

async function waitForTick(tour: Tour): Promise<void> {
  const { narrator, signal, stack } = tour;
  narrator.say(
    'pg_cron ticks at the start of every minute. Waiting for the real one, at most 60 s.',
    'The tick calls retention.tick(), which flags what is due, in batches of at most',
    `${SAMPLE_BATCH_SIZE} results of one bucket, and sends one NOTIFY. The listener wakes, claims`,
    'batch after batch, deletes each with one DeleteObjects, and stamps the runs.',
    'These are few. Were more than 1,000 results of a tenant due at a first start, the tick would set them',
    'aside, and nothing of them would go until a person had released that number: retention surge list.',
  );
  let saidAt = performance.now();
  await until(
    'a tick of pg_cron',
    async () => {
      seeLogged(tour, CLEANED_UP);
      if (performance.now() - saidAt >= SECONDS_BETWEEN_SIGNS_OF_LIFE * 1_000) {
        saidAt = performance.now();
        narrator.say(`... ${60 - new Date().getSeconds()} s to go`);
      }
      const [row] = await stack.database.query<{ ticked_at: Date | null }>(
        'select ticked_at from retention.heartbeat',
      );
      return row?.ticked_at ?? undefined;
    },
    { signal, limitSeconds: TICK_LIMIT_SECONDS },
  );
}

/** Waits until every due run is stamped and the listener has said so; tells how it goes. */
async function waitForClearing(tour: Tour): Promise<void> {
  const { narrator, signal, stack } = tour;
  const due = countRuns(SAMPLE_RUNS.due);
  let told = 0;
  await until(
    `result_cleared_at in ${due} runs`,
    async () => {
      const [row] = await stack.database.query<{ stamped: number; flagged: number }>(
        `select (
          select count(*) from public.runs where result_cleared_at > now() - interval '1 day'
        ) as stamped,
        (select count(*) from retention.flagged) as flagged`,
      );
      const { stamped = 0, flagged = 0 } = row ?? {};
      if (stamped !== told) narrator.hear('runs', `result_cleared_at: set in ${stamped} of ${due}`);
      told = stamped;
      const isLogged = seeLogged(tour, CLEANED_UP);
      return stamped >= due && flagged === 0 ? isLogged : undefined;
    },
    { signal, limitSeconds: CLEARING_LIMIT_SECONDS, pollMilliseconds: LOOK_MILLISECONDS },
  );
  // It also tells what the pass found, and what it could not take.
  await until('the listener to log what the pass found', () => seeLogged(tour, FOUND), {
    signal,
    limitSeconds: CLEARING_LIMIT_SECONDS,
  });
}

/** Which runs were left alone and why, by the rules that the view `retention._live` holds. */
async function showLeftAlone({ narrator, psql }: Tour): Promise<void> {
  narrator.say('The runs that were left alone, and why, from the tables:');
  await psql.ask(
    `select count(*) as runs, why, min(due_at)::date as due_from
from (
  select l.due_at,
    case
      when r.result_cleared_at is not null then 'already cleared, long ago'
      when l.status <> 'COMPLETED' then 'not COMPLETED: ' || l.status
      when l.bucket is null then 'no place: the row names no bucket'
      when l.due_at > now() then 'fresh: not yet due'
    end as why
  from runs r left join retention._live l using (run_id)
  where r.result_cleared_at is null or r.result_cleared_at < now() - interval '1 day'
) left_alone
group by why order by runs desc;`,
  );
}
