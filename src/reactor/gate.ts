import { ClosedError } from '../errors.ts';
import type { GateReason } from '../store/gate.ts';

/** Reasons for which a dry run cannot look either. */
const CANNOT_LOOK: ReadonlySet<string> = new Set(['detached', 'index missing']);

/**
 * Refuses what would flag, delete or stamp while the gate is closed. Looking still works.
 *
 * @throws ClosedError with the gate's first reason and its remedy.
 */
export async function refuseWhileClosed(store: {
  readGate(): Promise<readonly GateReason[]>;
}): Promise<void> {
  const [closed] = await store.readGate();
  if (closed === undefined) return;
  const canLook = !CANNOT_LOOK.has(closed.reason);
  throw refusal(closed.because, closed.remedy, canLook);
}

/** Reasons that speak against a deletion, and not against bringing an object back. */
const CAN_RESTORE: ReadonlySet<string> = new Set([
  'disabled',
  'halted',
  'objects missing',
  'keeper fails',
  'stamps fail',
  'subscriber',
]);

/**
 * Refuses to bring results back where this is not known to be the database, and the table, that they belong to. In an
 * incident, with everything halted, it works.
 *
 * @throws ClosedError with the gate's reason and its remedy.
 */
export async function refuseElsewhere(store: {
  readGate(): Promise<readonly GateReason[]>;
}): Promise<void> {
  const gate = await store.readGate();
  const closed = gate.find(({ reason }) => !CAN_RESTORE.has(reason));
  if (closed === undefined) return;
  throw new ClosedError(`Nothing was restored: ${closed.because}`, { remedy: closed.remedy });
}

/**
 * Asks the variable, which holds for this process also where the database says otherwise.
 *
 * @throws ClosedError while it is false.
 */
export function refuseWhileDisabled(config: { readonly enabled: boolean }): void {
  if (config.enabled) return;
  throw refusal(
    'retention is disabled',
    'DPP_RETENTION_ENABLED is false here; set it to true',
    true,
  );
}

function refusal(because: string, remedy: string, canLook: boolean): ClosedError {
  return new ClosedError(`Nothing was flagged and nothing deleted: ${because}`, {
    remedy: canLook ? `${remedy}. Or look with --dry-run.` : remedy,
  });
}
