import { RefusedError } from '../errors.ts';

/** What it means that retention is disabled. Looking still works. */
export const DISABLED = 'Retention is disabled: nothing is flagged and nothing deleted';

/** What enables it again, for good. */
export const ENABLE = 'DPP_RETENTION_ENABLED=true retention migrate up';

/** The refusal of what would change something while retention is disabled in the database. */
export function disabledInDatabase(): RefusedError {
  return new RefusedError(DISABLED, { remedy: `Enable it: ${ENABLE}. Or look with --dry-run.` });
}

/**
 * Asks the variable, which holds for this process also where the database says otherwise.
 *
 * @throws RefusedError while it is false.
 */
export function refuseWhileDisabled(config: { readonly enabled: boolean }): void {
  if (config.enabled) return;
  throw new RefusedError(DISABLED, {
    remedy: 'DPP_RETENTION_ENABLED is false here; set it to true, or look with --dry-run.',
  });
}
