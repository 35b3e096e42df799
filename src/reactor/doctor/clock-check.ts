import { MILLISECONDS, formatDuration } from '../../lifecycle/duration.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import { type Check, attempt, ok, warning } from './check.ts';

const name = 'clock';

/** By less the clocks of two machines may differ. */
const TOLERANCE_MILLISECONDS = 30 * MILLISECONDS.second;

/** Whether the clock of the database's host is right, and whether it was. */
export async function checkClock(reader: Diagnosis): Promise<readonly Check[]> {
  return attempt(name, async () => {
    const {
      skewMilliseconds: skew,
      uncertainMilliseconds,
      corrected,
      ahead,
    } = await reader.readClock();
    if (Math.abs(skew) > TOLERANCE_MILLISECONDS + uncertainMilliseconds) {
      const how = skew > 0 ? 'ahead of' : 'behind';
      return warning(
        name,
        `the clock of the database's host is ${formatDuration(Math.abs(skew))} ${how} this machine's`,
        'Set both by a time server. What is due is decided by the clock of the database.',
      );
    }
    if (ahead.length > 0) {
      const what = ahead.map(
        ({ what: kind, places, until }) => `${kind} (${places}, until ${until.toISOString()})`,
      );
      return warning(
        name,
        `further ahead than they can be, so the clock of the database's host was wrong: ${what.join(', ')}`,
        'The next tick brings them back. Look at holds that were placed meanwhile: they may end too late.',
      );
    }
    if (corrected !== undefined && Date.now() - corrected.at.getTime() < MILLISECONDS.day) {
      return warning(
        name,
        `the clock of the database's host was ${formatDuration(corrected.aheadSeconds * MILLISECONDS.second)} ` +
          `ahead; what lay in the future was brought back at ${corrected.at.toISOString()}`,
        'Look at what was flagged meanwhile, and at holds that were placed: retention hold list.',
      );
    }
    return ok(name, "the database's host and this machine agree");
  });
}
