import type { Queryable } from './queryable.ts';

/** Why no session can be had that a restart of this process, or a person, may help with. */
export interface SessionFault {
  readonly kind: 'read-only' | 'login refused' | 'another database';
  readonly since: Date;
}

/** A Postgres database. */
export interface Database extends Queryable {
  /** `host:port/database`, for messages. */
  readonly target: string;

  /**
   * Lends one session for as long as `work` takes. A session that comes back broken or in an open
   * transaction is ended, which rolls back.
   */
  withClient<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result>;

  /**
   * Runs `work` in one transaction: committed when it returns, rolled back when it throws or when
   * one of its statements failed, even if it caught that.
   */
  withTransaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result>;

  /** Runs `work` in one transaction that writes nothing, and whose statements all see the same rows. */
  withSnapshot<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result>;

  /** Whether a pooler stands between us and the server. */
  isPooled(): Promise<boolean>;

  /** What keeps sessions from being opened at present; undefined: nothing that is known. */
  fault(): SessionFault | undefined;

  /**
   * Waits for what is under way, a few seconds at most, and ends every session. May be repeated.
   */
  close(): Promise<void>;

  /** Closes without waiting: what is under way fails now. */
  cut(): Promise<void>;
}
