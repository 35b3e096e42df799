import { codeOf } from '../errors.ts';
import type { Vitals } from '../store/overview.ts';
import type { Reading } from './cached-read.ts';
import type { ListenerState } from './listening.ts';

/** Whether everything that the reactor depends on is there, and what is not. */
export interface Readiness {
  readonly ready: boolean;
  /** Whole sentences; nothing in them says where anything is. */
  readonly reasons: readonly string[];
}

/** A scheduler ticks every minute, and where it is silent a listener ticks after three. */
const LONGEST_SILENCE_MILLISECONDS = 300_000;

/** Judges readiness by what was read of the database and by what the listener says of itself. */
export function judgeReadiness(reading: Reading<Vitals>, listener: ListenerState): Readiness {
  const reasons: string[] = [];
  if (listener.stopping) reasons.push('This listener is stopping.');
  if (!reading.ok) reasons.push(`The database does not answer (${nameFailure(reading.error)}).`);
  if (!listener.listening) {
    reasons.push('It is not proven that notifications arrive; the log says why.');
  }
  if (reading.ok) reasons.push(...judgeTicks(reading.value));
  return { ready: reasons.length === 0, reasons };
}

function judgeTicks({ asOf, status }: Vitals): readonly string[] {
  if (!status.enabled) return [];
  if (status.last_tick === null) return ['The scheduler has never ticked.'];
  const silence = asOf.getTime() - status.last_tick.getTime();
  if (silence <= LONGEST_SILENCE_MILLISECONDS) return [];
  return [`No tick has come for ${Math.round(silence / 60_000)} minutes.`];
}

/** The code of a failure: its message could name hosts and roles. */
function nameFailure(error: unknown): string {
  return codeOf(error) ?? 'no code';
}
