import { RetentionError, describeError } from '../../errors.ts';

/** How one thing stands. `warning`: it works, but not as one may think. */
export type CheckState = 'ok' | 'warning' | 'failed';

/** One thing that was looked at; keys as in the command line's JSON. */
export interface Check {
  readonly name: string;
  readonly state: CheckState;
  /** One line. */
  readonly found: string;
  /** What to do; null where nothing is to be done. */
  readonly remedy: string | null;
}

/** What a doctor found; keys as in the command line's JSON. */
export interface Findings {
  /** Whether nothing failed. */
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

export function ok(name: string, found: string): Check {
  return { name, state: 'ok', found, remedy: null };
}

export function warning(name: string, found: string, remedy: string): Check {
  return { name, state: 'warning', found, remedy };
}

export function failed(name: string, found: string, remedy: string): Check {
  return { name, state: 'failed', found, remedy };
}

/** Runs one check; an error that it throws becomes a failed check. */
export async function attempt(
  name: string,
  look: () => Promise<Check | readonly Check[]>,
): Promise<readonly Check[]> {
  try {
    const found = await look();
    return 'name' in found ? [found] : found;
  } catch (error) {
    const remedy = error instanceof RetentionError ? error.remedy : undefined;
    return [failed(name, describeError(error), remedy ?? 'Fix this, and run doctor again.')];
  }
}
