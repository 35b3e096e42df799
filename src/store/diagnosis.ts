import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';
import { type ClockFacts, readClock } from './clock.ts';
import { type Canary, readCanaries } from './canary.ts';
import { type StandingVerify, readStandingVerifies } from './standing.ts';
import { type CronFacts, readCron, readCronElsewhere } from './cron.ts';
import { type FenceState, readFence } from './fence.ts';
import { type GateReason, readGate } from './gate.ts';
import { type Unsettled, readUnsettled } from './selection.ts';
import { type Variable, readVariables } from './settings.ts';
import { type StampTrial, tryStamp } from './stamps.ts';
import { type KnownBucket, learnHabits, noteBucket, noteLook, readBuckets } from './buckets.ts';

/** Where a session ended up. */
export interface SessionFacts {
  readonly database: string;
  readonly role: string;
  readonly version: string;
  /** The same for two sessions: the same database of the same server. */
  readonly identity: string;
  /** A standby cannot be written to. */
  readonly is_standby: boolean;
}

/** A right of the SQL interface that a role lacks. */
export interface MissingRight {
  /** In the words of GRANT. */
  readonly missing: string;
  /** Who can grant it: the owner of the schema. */
  readonly granted_by: string;
}

/** What the catalogs say of the adopted table. */
export interface TableFacts {
  readonly table_name: string;
  readonly table_owner: string;
  readonly view_owner: string;
  readonly row_security: 'off' | 'on' | 'forced';
  /** Whether the policies are asked when the view's owner reads the table. */
  readonly is_filtered: boolean;
  /** How many policies let the view's owner see rows. */
  readonly policies: number;
}

/** A line of `retention.adoption_report`: what is odd about the adopted table. */
export interface TableOddity {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed';
  readonly found: string;
  readonly remedy: string | null;
}

/** One of our two indexes. */
export interface IndexState {
  readonly name: string;
  /** And valid. */
  readonly is_there: boolean;
}

/** What the tables of the schema say of the reactor's health. */
export interface HealthFacts {
  readonly enabled: boolean;
  readonly scheduler: 'pg_cron' | 'internal';
  /** Where pg_cron lives, when it is another database. */
  readonly cron_database: string | null;
  readonly ticked_seconds_ago: number | null;
  readonly ticked_by: string | null;
  readonly installed_seconds_ago: number;
  readonly loop_interval_seconds: number;
  /** Columns of type date or timestamp without time zone: `completed_at (timestamp ...)`. */
  readonly naive_columns: readonly string[];
  readonly default_bucket: string | null;
  readonly notify_queue_usage: number;
  readonly default_retain_days: number;
  readonly shortest_retain_days: number;
  readonly longest_retain_days: number;
  readonly tenant_policies: number;
  readonly pending_policies: readonly string[];
  readonly holds: number;
  /** The column that names the version of an object; null: the table has none. */
  readonly etag_column: string | null;
}

/** What comes next; see `retention.status`. */
export interface Outlook {
  readonly as_of: Date;
  readonly next_pass: Date | null;
  readonly next_pass_because: string;
  readonly newest_run: Instant | null;
  readonly cool_off: string | null;
  readonly cooling: number;
  readonly cooling_until: Date | null;
  readonly set_aside: number;
  readonly surges: number;
  /** What the last pass of a tick, or its cleaning up, ran into; null: nothing. */
  readonly tick_problem: string | null;
}

/** A role that was recorded, and the owner of the schema; keys as in SQL. */
export interface RoleFacts {
  readonly role: string;
  readonly may: 'owner' | 'operator' | 'listener' | 'observer' | 'reader';
  /** At most ten. */
  readonly lacks: readonly string[];
  /** What it may beyond that, also as a member of another role; at most ten. */
  readonly exceeds: readonly string[];
}

/** Dead results with the same error code. */
export interface DeadResults {
  readonly code: string;
  readonly results: number;
}

/** Runs that are completed and have an object, but no date. */
export interface UndatedFacts {
  /** At most {@link MOST_UNDATED}. */
  readonly results: number;
  readonly run_ids: readonly string[];
}

export const MOST_UNDATED = 1_000;

/** The questions of a diagnosis, bound to a database; each throws DatabaseError. */
export interface Diagnosis {
  /** Who and where a session is. */
  readSession(): Promise<SessionFacts>;
  /** `retention.missing_rights` */
  readMissingRights(role: string): Promise<readonly MissingRight[]>;
  /** `retention.list_roles` */
  readRoles(): Promise<readonly RoleFacts[]>;
  /** `retention.adopted_table`; undefined: it is detached or gone. */
  readTable(): Promise<TableFacts | undefined>;
  /** `retention.adoption_report`; none while the table is detached or gone. */
  readOddities(): Promise<readonly TableOddity[]>;
  /** `retention.index_state` */
  readIndexes(): Promise<readonly IndexState[]>;
  /** `retention.health` */
  readHealth(): Promise<HealthFacts>;
  /** `retention.dead_by_code` */
  readDead(): Promise<readonly DeadResults[]>;
  readClock(): Promise<ClockFacts>;
  readGate(): Promise<readonly GateReason[]>;
  /** `retention.fence` */
  readFence(): Promise<FenceState>;
  /** `retention.canary_state` */
  readCanaries(): Promise<readonly Canary[]>;
  /** `retention.standing_state` */
  readStandingVerifies(): Promise<readonly StandingVerify[]>;
  /** `retention.try_stamp` */
  tryStamp(): Promise<StampTrial>;
  readOutlook(): Promise<Outlook>;
  /** `retention.undated` */
  readUndated(): Promise<UndatedFacts>;
  readBuckets(): Promise<readonly KnownBucket[]>;
  /** `retention.unsettled`, as a process sees it that may delete from these buckets. */
  readUnsettled(buckets: readonly string[]): Promise<readonly Unsettled[]>;
  /** `retention.variables` */
  readVariables(given: Parameters<typeof readVariables>[1]): Promise<readonly Variable[]>;
  noteBucket(bucket: string, versioning: 'off' | 'enabled' | 'suspended'): Promise<void>;
  learnHabits(bucket: string, learned: Parameters<typeof learnHabits>[2]): Promise<void>;
  /** `retention.sample_keys` */
  sampleKeys(bucket: string, most: number): Promise<readonly string[]>;
  noteLook(bucket: string, look: Parameters<typeof noteLook>[2]): Promise<boolean>;
  /** `retention.has_key_under` */
  hasKeyUnder(prefix: string): Promise<boolean>;
  readCron(): Promise<CronFacts>;
  readCronElsewhere(ticked: string): Promise<CronFacts>;
}

/** Binds the functions of this file to a database. */
export function createDiagnosis(database: Queryable): Diagnosis {
  return {
    readSession: () => readSession(database),
    readMissingRights: (role) =>
      database.query<MissingRight>('select * from retention.missing_rights($1)', [role]),
    readRoles: () => database.query<RoleFacts>('select * from retention.list_roles()'),
    readTable: async () => {
      const [row] = await database.query<TableFacts>('select * from retention.adopted_table()');
      return row;
    },
    readOddities: () => database.query<TableOddity>('select * from retention.adoption_report()'),
    readIndexes: () => database.query<IndexState>('select * from retention.index_state()'),
    readHealth: () => readHealth(database),
    readDead: () => database.query<DeadResults>('select * from retention.dead_by_code()'),
    readClock: () => readClock(database),
    readGate: () => readGate(database),
    readFence: () => readFence(database),
    readCanaries: () => readCanaries(database),
    readStandingVerifies: () => readStandingVerifies(database),
    tryStamp: () => tryStamp(database),
    readOutlook: async () => {
      const [row] = await database.query<Outlook>(
        `select clock_timestamp() as as_of, s.next_pass, s.next_pass_because, s.newest_run,
          (select g.value from retention.list_guards() g where g.name = 'cool_off' and g.value <> 'none') as cool_off,
          s.cooling, s.cooling_until,
          s.set_aside, s.surges,
          nullif(concat_ws('; ', h.pass_problem, h.clean_up_problem, 'sealing: ' || l.problem), '') as tick_problem
        from retention.status s
        cross join retention.heartbeat h
        cross join retention.seal_head l`,
      );
      if (row === undefined) throw new Error('retention.status returned no row');
      return row;
    },
    readUndated: async () => {
      const [row] = await database.query<UndatedFacts>('select * from retention.undated($1)', [
        MOST_UNDATED,
      ]);
      return row ?? { results: 0, run_ids: [] };
    },
    readBuckets: () => readBuckets(database),
    readUnsettled: (buckets) => readUnsettled(database, { buckets }),
    readVariables: (given) => readVariables(database, given),
    noteBucket: (bucket, versioning) => noteBucket(database, bucket, versioning),
    learnHabits: (bucket, learned) => learnHabits(database, bucket, learned),
    sampleKeys: async (bucket, most) => {
      const rows = await database.query<{ key: string }>(
        'select key from retention.sample_keys($1, $2) as key',
        [bucket, most],
      );
      return rows.map(({ key }) => key);
    },
    noteLook: (bucket, look) => noteLook(database, bucket, look),
    hasKeyUnder: async (prefix) => {
      const [row] = await database.query<{ there: boolean }>(
        'select retention.has_key_under($1) as there',
        [prefix],
      );
      return row?.there ?? false;
    },
    readCron: () => readCron(database),
    readCronElsewhere: (ticked) => readCronElsewhere(database, ticked),
  };
}

async function readSession(database: Queryable): Promise<SessionFacts> {
  // Not a function of the schema: this is asked where the schema is missing too.
  const [row] = await database.query<SessionFacts>(
    `select current_database() as database,
      current_user as role,
      current_setting('server_version') as version,
      format('%s of %s, up since %s', d.oid, coalesce(inet_server_port()::text, 'a socket'),
        pg_postmaster_start_time()) as identity,
      pg_is_in_recovery() as is_standby
    from pg_database d
    where d.datname = current_database()`,
  );
  if (row === undefined) throw new Error('the session did not say where it is');
  return row;
}

async function readHealth(database: Queryable): Promise<HealthFacts> {
  const [row] = await database.query<HealthFacts>('select * from retention.health()');
  if (row === undefined) throw new Error('retention.adapter is empty');
  return row;
}
