import { RefusedError } from '../errors.ts';
import type { GateReason } from '../store/gate.ts';

/**
 * Refuses what would flag, delete or stamp while the gate is closed. Looking still works.
 *
 * @throws RefusedError with the gate's first reason and its remedy.
 */
export async function refuseWhileClosed(store: {
  readGate(): Promise<readonly GateReason[]>;
}): Promise<void> {
  const [closed] = await store.readGate();
  if (closed !== undefined) throw refusal(closed.because, closed.remedy);
}

/**
 * Asks the variable, which holds for this process also where the database says otherwise.
 *
 * @throws RefusedError while it is false.
 */
export function refuseWhileDisabled(config: { readonly enabled: boolean }): void {
  if (config.enabled) return;
  throw refusal('retention is disabled', 'DPP_RETENTION_ENABLED is false here; set it to true');
}

function refusal(because: string, remedy: string): RefusedError {
  return new RefusedError(`Nothing was flagged and nothing deleted: ${because}`, {
    remedy: `${remedy}. Or look with --dry-run.`,
  });
}
