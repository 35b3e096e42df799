import pg from 'pg';

/** The application's sessions, and when it had which answer. */
export interface ApplicationSessions {
  /** By transaction id, when it had its answer; epoch milliseconds. */
  readonly acknowledged: ReadonlyMap<string, number>;
  /** Runs one transaction and notes when its answer came. */
  readonly query: (text: string, values?: readonly unknown[]) => Promise<Record<string, unknown>[]>;
  readonly end: () => Promise<void>;
}

/** Connects when first asked for something. */
export function openSessions(url: string, applicationName: string): ApplicationSessions {
  const acknowledged = new Map<string, number>();
  const pool = new pg.Pool({
    connectionString: url,
    application_name: applicationName,
    max: 2,
    connectionTimeoutMillis: 5_000,
  });
  // A server that goes down ends idle sessions.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return {
    acknowledged,
    query: async (text, values = []) => {
      const client = await pool.connect();
      let failure: Error | undefined;
      try {
        await client.query('begin');
        const { rows } = await client.query<Record<string, unknown>>(text, [...values]);
        const id = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
        await client.query('commit');
        const xid = id.rows[0]?.xid;
        if (xid !== undefined) acknowledged.set(xid, epochMs());
        return rows;
      } catch (error) {
        failure = error instanceof Error ? error : new Error(String(error));
        await client.query('rollback').catch(() => undefined);
        throw error;
      } finally {
        client.release(isGone(failure) ? undefined : failure);
      }
    },
    end: () => pool.end(),
  };
}

/** Now, by a clock that never steps. */
export function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

/** No such run, tenant or hold. */
export function isGone(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === 'P0002';
}

/** Connections, resources, shut-downs, locks, a renamed table: everything but a fault of this program or of the SQL. */
export function isExpected(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return error instanceof Error;
  return /^(?:08|53|57|40|55|58|42P01)/u.test(error.code ?? '');
}
