import pg from 'pg';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { createStore } from '../../src/store/store.ts';
import { type TestDatabase, createDatabase } from './database.ts';
import { type MigratedDatabase, migrateUp, withHelpers } from './migrated.ts';

// Roles belong to the whole server, and test files share it.
/** The application's owner, who migrates: no superuser. */
export const OWNER = `owner_${process.pid}`;
/** The role that RETENTION_ROLE names. */
export const LISTENER = `listener_${process.pid}`;
/** The role that RETENTION_OPERATOR_ROLE names. */
export const OPERATOR = `operator_${process.pid}`;
/** Another person with the operators' rights, as a member of that role. */
export const SECOND_OPERATOR = `second_operator_${process.pid}`;
/** The role that RETENTION_OBSERVER_ROLE names. */
export const OBSERVER = `observer_${process.pid}`;
/** An application that asks which results may be read. */
export const READER = `reader_${process.pid}`;
/** A role that may connect and nothing else. */
export const STRANGER = `stranger_${process.pid}`;

const ROLES = [LISTENER, OPERATOR, SECOND_OPERATOR, OBSERVER, READER, STRANGER, OWNER];

/** A migrated database whose application table lets nobody but its owner see a row. */
export interface GuardedDatabase extends MigratedDatabase {
  /** A session as one of the roles; ended with the database. */
  readonly connectAs: (role: string) => Promise<pg.Client>;
}

/** Makes one for the tests of the `describe` that calls it, with its roles. */
export function useGuarded(): () => GuardedDatabase {
  let database: TestDatabase | undefined;
  let pool: Database | undefined;
  let guarded: GuardedDatabase | undefined;
  const clients: pg.Client[] = [];

  beforeAll(async () => {
    database = await createDatabase();
    const { query, name, urlAs } = database;
    await query(
      `${ROLES.map((role) => `create role ${role} login;`).join(' ')}
      grant ${OPERATOR} to ${SECOND_OPERATOR};
      alter table runs owner to ${OWNER};
      grant create on database ${name} to ${OWNER};
      grant create on schema public to ${OWNER};
      alter table runs enable row level security`,
    );
    const roles = { role: LISTENER, operatorRole: OPERATOR, observerRole: OBSERVER };
    await migrateUp(urlAs(OWNER), roles);
    await query(`select retention.grant_rights('${READER}', 'reader')`);
    pool = createPool({ url: urlAs(LISTENER), applicationName: 'test', logger: silentLogger });
    guarded = {
      ...withHelpers(database, createStore(pool)),
      connectAs: async (role) => {
        const client = new pg.Client({ connectionString: urlAs(role) });
        await client.connect();
        clients.push(client);
        return client;
      },
    };
  });
  beforeEach(() => guarded?.clear());
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
    await pool?.close();
    for (const role of ROLES) {
      await database?.query(`drop owned by ${role} cascade; drop role ${role}`);
    }
    await database?.drop();
  });
  return () => {
    if (guarded === undefined) throw new Error('The database is only there inside tests.');
    return guarded;
  };
}
