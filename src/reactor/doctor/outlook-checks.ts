import { QUIET_SECONDS } from '../../config/ticks.ts';
import { millisecondsOf, showInstant } from '../../instant.ts';
import { MILLISECONDS, formatDuration } from '../../lifecycle/duration.ts';
import { countOf, showCount } from '../../numbers.ts';
import type { Diagnosis, Outlook } from '../../store/diagnosis.ts';
import { type Check, attempt, ok, warning } from './check.ts';

/** When the next pass comes, and whether runs still complete. */
export async function checkOutlook(reader: Diagnosis): Promise<readonly Check[]> {
  return attempt('next pass', async () => {
    const outlook = await reader.readOutlook();
    return [
      checkNextPass(outlook),
      checkSurges(outlook),
      ...checkCoolOff(outlook),
      checkNewestRun(outlook),
    ];
  });
}

function checkNextPass(outlook: Outlook): Check {
  const { next_pass: next, next_pass_because: because, tick_problem: problem } = outlook;
  const name = 'next pass';
  if (problem !== null) {
    return warning(
      name,
      `the last tick ran into this, and went on: ${problem}`,
      'Fix what the message names; the next tick tries again.',
    );
  }
  if (next !== null) return ok(name, `at ${showInstant(next)}: ${because}`);
  return warning(name, `none comes by itself: ${because}`, 'The check that failed above says how.');
}

/** Nothing where there is none. */
function checkCoolOff({
  cool_off: coolOff,
  cooling,
  cooling_until: until,
}: Outlook): readonly Check[] {
  if (coolOff === null) return [];
  const waits =
    until === null
      ? 'nothing waits for it'
      : `${showCount(cooling, 'result waits', 'results wait')} for it; the first may go at ${showInstant(until)}`;
  return [ok('cool-off', `a flagged result waits for ${coolOff}; ${waits}`)];
}

function checkSurges({ set_aside: results, surges }: Outlook): Check {
  const name = 'late results';
  if (results === 0) return ok(name, 'none is set aside');
  return warning(
    name,
    `${countOf(results, 'result')} set aside in ${countOf(surges, 'surge')}: more than may go at once without a question`,
    'Look at them with: retention surge list; then release them, or undo the change that made them due.',
  );
}

function checkNewestRun({ newest_run: newest, as_of: asOf }: Outlook): Check {
  const name = 'newest run';
  if (newest === null) return ok(name, 'no run with a result is known yet');
  const age = asOf.getTime() - millisecondsOf(newest);
  const found = `completed at ${showInstant(newest)}`;
  if (age <= QUIET_SECONDS * MILLISECONDS.second) return ok(name, found);
  return warning(
    name,
    `${found}; none has completed for ${formatDuration(age)}`,
    'Check that the application still writes to the adopted table; where it has moved: retention migrate up.',
  );
}
