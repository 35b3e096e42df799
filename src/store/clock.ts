import type { Queryable } from '../database/queryable.ts';

/** Something that lies further ahead than it can. */
export interface TimesAhead {
  readonly what: string;
  readonly places: number;
  readonly until: Date;
}

/** What is known of the clock of the database's host. */
export interface ClockFacts {
  /** How far it is ahead of this machine's; negative: behind. */
  readonly skewMilliseconds: number;
  /** How long the answer took, by which the skew may be wrong. */
  readonly uncertainMilliseconds: number;
  /** When something that lay too far ahead was last brought back, and how far ahead it lay. */
  readonly corrected: { readonly at: Date; readonly aheadSeconds: number } | undefined;
  readonly ahead: readonly TimesAhead[];
}

/**
 * `retention.clock_state` and `retention.times_ahead`
 *
 * @throws DatabaseError
 */
export async function readClock(database: Queryable): Promise<ClockFacts> {
  const ahead = await database.query<TimesAhead>(
    'select what, places, until from retention.times_ahead()',
  );
  const askedAt = Date.now();
  const [row] = await database.query<{
    at_milliseconds: number;
    corrected_at: Date | null;
    ahead_seconds: number | null;
  }>(
    `select extract(epoch from c.at)::double precision * 1000 as at_milliseconds,
      c.corrected_at,
      extract(epoch from c.was_ahead)::double precision as ahead_seconds
    from retention.clock_state() c`,
  );
  if (row === undefined) throw new Error('retention.clock_state returned no row');
  const uncertainMilliseconds = Date.now() - askedAt;
  return {
    skewMilliseconds: row.at_milliseconds - askedAt - uncertainMilliseconds / 2,
    uncertainMilliseconds,
    corrected:
      row.corrected_at === null
        ? undefined
        : { at: row.corrected_at, aheadSeconds: row.ahead_seconds ?? 0 },
    ahead,
  };
}
