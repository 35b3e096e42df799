/** The bare UPDATE: the least that stamps rows, by their run ids. */
export const STAMP = `update runs set result_cleared_at = now(), updated_at = now() where run_id = any($1)`;
