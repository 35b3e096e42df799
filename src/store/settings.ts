import type { Queryable } from '../database/queryable.ts';

/** The settings that live in the database; what is undefined keeps its value there. */
export interface DatabaseSettings {
  readonly enabled?: boolean | undefined;
  readonly retentionDays?: number | undefined;
  readonly loopIntervalSeconds?: number | undefined;
  readonly batchSize?: number | undefined;
  /** The bucket of results whose row names none: taken where there is none yet. */
  readonly defaultBucket?: string | null | undefined;
}

/**
 * `retention.configure`: writes what is given and differs. Returns one line per change.
 *
 * @throws DatabaseError
 */
export async function configure(
  database: Queryable,
  settings: DatabaseSettings,
): Promise<readonly string[]> {
  const { enabled, retentionDays, loopIntervalSeconds, batchSize, defaultBucket } = settings;
  // JSON leaves out what is undefined, and so does configure.
  const given = {
    enabled,
    retain: retentionDays === undefined ? undefined : `${retentionDays} days`,
    loop_interval: loopIntervalSeconds === undefined ? undefined : `${loopIntervalSeconds} seconds`,
    batch_size: batchSize,
    default_bucket: defaultBucket,
  };
  const rows = await database.query<{ change: string }>(
    'select * from retention.configure($1::jsonb) as change',
    [JSON.stringify(given)],
  );
  return rows.map((row) => row.change);
}
