import { RetentionError } from '../../src/errors.ts';
import { startCommand } from './retention-command.ts';
import { countRuns, insertRuns, LATER_RUNS } from './sample-runs.ts';
import { lookNow, type Moment, type Tour } from './tour-state.ts';

/** Results come of age and are flagged and announced while no listener is there. */
export async function missAnEvent(tour: Tour): Promise<void> {
  const { narrator, psql, signal, stack } = tour;
  narrator.step('A missed event: the listener is down');
  await tour.listener?.stop();
  signal.throwIfAborted();
  const { objects } = await insertRuns(stack.database, LATER_RUNS);
  for (const { bucket, key } of objects) stack.s3.putObject(bucket, key);
  narrator.say(
    `Meanwhile ${countRuns(LATER_RUNS)} more runs have turned 30 days old. We flag them by hand;`,
    'psql hears the NOTIFY, and nobody else does:',
  );
  await psql.ask('select retention.flag_expired();');
  const { objects: left } = await lookNow(tour);
  narrator.say(`Nothing is deleted: S3 still holds ${left} objects. A NOTIFY is not repeated,`);
  narrator.say('but it was only a hint: the flagged results wait in the tables.');
  await psql.ask('select flagged, leased, batches, cleared_today from retention.status;');
  signal.throwIfAborted();
}

/** What was missed is made good. Returns how things stand then. */
export async function reconcileNow(tour: Tour): Promise<Moment> {
  const { narrator } = tour;
  narrator.step('retention reconcile makes good what was missed');
  narrator.say('First what it would do:');
  await runCommand(tour, ['reconcile', '--dry-run']);
  narrator.say('Then for real, still without a listener:');
  await runCommand(tour, ['reconcile']);
  // A statement brings up whatever psql has not printed yet.
  await tour.psql.ask('select flagged, leased, batches, cleared_today from retention.status;');
  return lookNow(tour);
}

/** Runs the command as a person would and waits for its end. */
async function runCommand(tour: Tour, parameters: readonly string[]): Promise<void> {
  const { narrator, signal, stack, tidyUp } = tour;
  const line = `retention ${parameters.join(' ')}`;
  narrator.command(line);
  const command = startCommand(parameters, stack.environment, (text) => {
    if (text.trim() !== '') narrator.hear('retention', text);
  });
  tidyUp.add(() => command.stop());
  const stop = (): void => void command.stop();
  signal.addEventListener('abort', stop, { once: true });
  const code = await command.ended;
  signal.removeEventListener('abort', stop);
  signal.throwIfAborted();
  if (code !== 0) throw new RetentionError(`"${line}" ended with ${code}.`);
}
