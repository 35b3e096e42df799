import { MISSING_TICKS_SECONDS } from '../config/ticks.ts';
import { codeOf } from '../errors.ts';
import type { Pulse } from '../store/flagging.ts';
import type { Reading } from './cached-read.ts';
import type { ListenerState } from './listening.ts';

/** Whether everything that the reactor depends on is there, and what is not. */
export interface Readiness {
  readonly ready: boolean;
  /** Whole sentences, without hosts and names. */
  readonly reasons: readonly string[];
}

/** Without the names that the gate's own words have. */
const REMEDY_OF_COPY =
  ' This database may be a copy of the one that deletes; if it is that one: retention fence accept.';

/**
 * Judges readiness by a pulse of the database, which counts nothing, and by what the listener says of itself.
 */
export function judgeReadiness(reading: Reading<Pulse>, listener: ListenerState): Readiness {
  const reasons: string[] = [];
  if (listener.stopping) reasons.push('This listener is stopping.');
  if (listener.fault !== undefined) {
    reasons.push(`No session of the database can work: ${listener.fault.kind}.`);
  }
  if (!reading.ok) reasons.push(`The database does not answer (${nameFailure(reading.error)}).`);
  if (listener.waits !== undefined) {
    reasons.push('This listener claims nothing until it holds the fence in S3; the log says why.');
  }
  if (!listener.listening) {
    reasons.push('It is not proven that notifications arrive; the log says why.');
  }
  if (reading.ok) reasons.push(...judgeGate(reading.value), ...judgeTicks(reading.value));
  return { ready: reasons.length === 0, reasons };
}

/** What a person has chosen leaves the listener ready; what keeps it from working does not. */
function judgeGate({ halted }: Pulse): readonly string[] {
  return halted
    .filter((reason) => reason !== 'disabled' && reason !== 'halted')
    .map(
      (reason) =>
        `Nothing is flagged and nothing deleted: ${reason}.${reason === 'copy' ? REMEDY_OF_COPY : ''}`,
    );
}

function judgeTicks({ enabled, tickedBy, tickedSecondsAgo: silence }: Pulse): readonly string[] {
  if (!enabled) return [];
  if (tickedBy === undefined) return ['The scheduler has never ticked.'];
  // A tick of the future says nothing.
  if (silence === undefined || silence <= MISSING_TICKS_SECONDS) return [];
  return [`No tick has come for ${Math.round(silence / 60)} minutes.`];
}

/** The code of a failure: its message could name hosts and roles. */
function nameFailure(error: unknown): string {
  return codeOf(error) ?? 'no code';
}
