import type { BucketInspection, ObjectListing } from '../../objects/abilities.ts';
import type { Diagnosis } from '../../store/diagnosis.ts';
import type { FenceToCheck } from './fence-check.ts';

/** One way into a database. */
export interface Connection {
  /** The variable that names it. */
  readonly name: string;
  /** `host:port/database`. */
  readonly target: string;
  /** The variable that names the same address and was looked at before. */
  readonly sameAs: string | undefined;
  readonly diagnosis: Diagnosis;
  isPooled(): Promise<boolean>;
  readMigrationState(): Promise<MigrationFacts>;
}

/** Which migrations a database has. */
export interface MigrationFacts {
  readonly applied: readonly { readonly name: string; readonly at: Date }[];
  readonly pending: readonly string[];
  /** Applied, but not known to this version. */
  readonly unknown: readonly string[];
}

/** What a doctor looks through, and with what settings. */
export interface DoctorPorts {
  /** The variables that were set, with their values for people. */
  readonly given: ReadonlyMap<string, string>;
  readonly main: Connection;
  readonly listen: Connection;
  readonly migrate: Connection;
  /** Where pg_cron lives, if elsewhere. */
  readonly cron: Connection | undefined;
  /** Listens at `listen`, sends by way of `main`. */
  proveListening(): Promise<{
    readonly arrived: boolean;
    readonly pooled: boolean;
    readonly milliseconds: number;
  }>;
  readonly inspection: BucketInspection;
  /** Undefined: the store cannot list. */
  readonly listing?: ObjectListing | undefined;
  /** How people call the store. */
  readonly place?: string | undefined;
  readonly fence: FenceToCheck;
  /** From `S3_RESULT_BUCKET`; none: it is not set. `*`: any. */
  readonly allowedBuckets: readonly string[];
  /** The variables of what the database keeps, as a start would bring them. */
  readonly stored: Readonly<Record<string, string | number | boolean | null>>;
  readonly leaseSeconds: number;
  /** The most seconds that one S3 call can take. */
  readonly s3BudgetSeconds: number;
}
