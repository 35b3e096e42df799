import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { type ApplicationSessions, epochMs, isExpected } from './application-sessions.ts';
import type { Violation } from './checker.ts';
import type { DeletionRecord } from './deletion-record.ts';
import type { Draws } from './draws.ts';

/*
Somebody empties a table. The runs come back from a backup some seconds later; of the reactor's own tables nothing comes
back. While a run is not there its object may not go, but for requests that were on their way already.
*/

/** The reactor's own tables that may be emptied; the memory of what was late is a guard of its own. */
const OWN_TABLES = [
  'retention.surge, retention.surge_part, retention.surge_release',
  'retention.progress',
  'retention.scan',
  'retention.allowance',
  'retention.shared_object, retention.spared_object, retention.held_object',
] as const;

/** Those whose emptying is refused: receipts, and what nothing can be decided without. */
const GUARDED_TABLES = ['retention.batch', 'retention.receipt', 'retention.policy'] as const;

/** What a listener may be asking S3 for. */
const IN_FLIGHT = `
select b.bucket || '/' || r.key as name
from retention.batch b cross join lateral retention._results(b) r
where b.lease is not null and b.settled_at is null
union
select u.bucket || '/' || retention._unpack_key(k.key, k.run_id::text)
from retention.unanswered u cross join lateral unnest(u.keys, u.run_ids) as k (key, run_id)`;

/** A dump holds locks for as long as it takes, and who waits for one keeps everybody else waiting. */
const IMPATIENT = `set local lock_timeout = '3s'`;

/** So long a claim may take that began before. */
const CLAIM_MS = 500;

interface Gap {
  readonly from: number;
  readonly until: number;
  readonly what: string;
  /** The objects of the runs that were not there. */
  readonly objects: ReadonlySet<string>;
}

/** Empties tables, and judges what went meanwhile. */
export interface Emptyings {
  /** Takes all runs away, or those of a tenant, for some seconds. */
  readonly takeRuns: (tenant: string | undefined) => Promise<void>;
  readonly emptyOwnTable: () => Promise<void>;
  /** Puts back what is away. */
  readonly putBack: () => Promise<void>;
  readonly judge: (record: DeletionRecord) => Violation[];
}

/** Works with the sessions of the application, whose mistakes these are. */
export function createEmptyings(sessions: ApplicationSessions, draws: Draws): Emptyings {
  const gaps: Gap[] = [];
  const emptied: string[] = [];

  const names = async (sql: string): Promise<Set<string>> =>
    new Set((await sessions.query(sql)).map(({ name }) => String(name)));
  const isAway = async (): Promise<boolean> =>
    (await sessions.query(`select to_regclass('history.taken') is not null as away`))[0]?.[
      'away'
    ] === true;

  const putBack = async (): Promise<void> => {
    for (;;) {
      try {
        if (!(await isAway())) return;
        await sessions.query(
          'insert into runs select * from history.taken; drop table history.taken',
        );
        return;
      } catch (error) {
        // It was lost, or the server is down: whether it was done shows when it is asked again.
        if (!isExpected(error)) throw error;
        await pause(200);
      }
    }
  };

  return {
    putBack,
    takeRuns: async (tenant) => {
      try {
        await sessions.query(
          tenant === undefined
            ? `${IMPATIENT}; lock table runs in access exclusive mode; create table history.taken as table runs; truncate runs`
            : `create table history.taken (like runs);
              with gone as (delete from runs where tenant_id = '${tenant}' returning *)
              insert into history.taken select * from gone`,
        );
        await pause(CLAIM_MS);
        const from = epochMs();
        const inFlight = await names(IN_FLIGHT);
        const taken = await names(
          `select result_s3_bucket || '/' || result_s3_key as name from history.taken where result_cleared_at is null`,
        );
        await pause(draws.integer(1_500, 5_000));
        gaps.push({
          from,
          until: epochMs(),
          what: tenant === undefined ? 'the table was empty' : `tenant ${tenant} had no runs`,
          objects: new Set([...taken].filter((name) => !inFlight.has(name))),
        });
      } finally {
        await putBack();
      }
    },
    emptyOwnTable: async () => {
      const tables = draws.pick([...OWN_TABLES, ...GUARDED_TABLES]);
      const isGuarded = GUARDED_TABLES.some((table) => table === tables);
      try {
        await sessions.query(`${IMPATIENT}; truncate ${tables}`);
        if (isGuarded) emptied.push(tables);
      } catch (error) {
        if (!isGuarded || !isRefusal(error)) throw error;
      }
    },
    judge: ({ deletions }) => [
      ...emptied.map((table) => ({
        promise: '13: a slip is not a deletion',
        what: `${table} could be emptied`,
      })),
      ...gaps.flatMap(({ from, until, what, objects }) =>
        deletions
          .filter(
            ({ bucket, key, arrivedAt, arrivedFrom }) =>
              arrivedFrom > from && arrivedAt < until && objects.has(`${bucket}/${key}`),
          )
          .slice(0, 3)
          .map(({ bucket, key }) => ({
            promise: '3: no object is deleted that could not be stamped',
            what: `${bucket}/${key} was asked for while ${what}`,
          })),
      ),
    ],
  };
}

/** By the schema itself. */
function isRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(?:RR|23)/u.test(error.code ?? '');
}
