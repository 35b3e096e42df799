import { showCount } from '../../numbers.ts';
import type { SessionFacts } from '../../store/diagnosis.ts';
import { type Check, attempt, failed, ok, warning } from './check.ts';
import type { Connection, DoctorPorts } from './ports.ts';

/** What was found of the three addresses. */
export interface Reached {
  readonly checks: readonly Check[];
  /** Undefined: it cannot be reached. */
  readonly main: SessionFacts | undefined;
  readonly listen: SessionFacts | undefined;
  readonly migrate: SessionFacts | undefined;
}

/** Opens each address, and compares where they lead. */
export async function checkConnections(ports: DoctorPorts): Promise<Reached> {
  const checks: Check[] = [];
  const found = new Map<string, SessionFacts>();
  for (const connection of [ports.main, ports.listen, ports.migrate]) {
    checks.push(...(await attempt(connection.name, () => reach(connection, found))));
  }
  return {
    checks,
    main: found.get(ports.main.name),
    listen: found.get(ports.listen.name),
    migrate: found.get(ports.migrate.name),
  };
}

async function reach(connection: Connection, found: Map<string, SessionFacts>): Promise<Check> {
  const { name, sameAs, target } = connection;
  if (sameAs !== undefined) {
    const same = found.get(sameAs);
    if (same === undefined) {
      return failed(name, `the same address as ${sameAs}, which failed`, `Fix ${sameAs}.`);
    }
    found.set(name, same);
    return ok(name, `the same address as ${sameAs}`);
  }
  const session = await connection.diagnosis.readSession();
  const pooled = await connection.isPooled();
  found.set(name, session);
  const { role, version, identity } = session;
  const where = `${target} as ${role}, PostgreSQL ${version}, ${pooled ? 'through a pooler' : 'directly'}`;
  const other = [...found].find(([, facts]) => facts.identity !== identity);
  if (other !== undefined) {
    return failed(
      name,
      `${where}; that is another database than ${other[0]}'s`,
      'Point both at the same database of the same server.',
    );
  }
  if (session.is_standby) {
    return failed(
      name,
      `${where}; it is a standby, which cannot be written to`,
      `Point ${name} at the primary.`,
    );
  }
  if (pooled && name === 'DATABASE_MIGRATE_URL') {
    return warning(
      name,
      `${where}; migrations keep a lock and settings in their session, which a transaction pooler shares with others`,
      "Set DATABASE_MIGRATE_URL to the server's own address, past the pooler.",
    );
  }
  return ok(name, where);
}

/** Whether notifications arrive; only one sent from another session proves it. */
export async function checkListening(ports: DoctorPorts): Promise<readonly Check[]> {
  const name = 'listening';
  return attempt(name, async () => {
    const { arrived, pooled, milliseconds } = await ports.proveListening();
    const took = `${Math.round(milliseconds)} ms`;
    if (arrived) {
      const how = pooled ? ', through a pooler that keeps sessions' : '';
      return ok(name, `a notification from another session arrived after ${took}${how}`);
    }
    return pooled
      ? failed(
          name,
          `LISTEN is accepted, but a notification from another session did not arrive within ${took}: ` +
            'a transaction pooler stands before the server (the process that greets is not the one ' +
            'that answers). Until this is fixed, listeners poll',
          "Set DATABASE_LISTEN_URL to the server's own address, past the pooler.",
        )
      : failed(
          name,
          `a notification from another session did not arrive within ${took}`,
          'Check that DATABASE_LISTEN_URL and DATABASE_URL are the same database.',
        );
  });
}

/** What was found of the schema. */
export interface SchemaFound {
  readonly checks: readonly Check[];
  /** The migrations that it has; undefined: it is incomplete, so later checks are left out. */
  readonly migrations: readonly string[] | undefined;
}

/** Which migrations are there. */
export async function checkSchema(connection: Connection): Promise<SchemaFound> {
  const name = 'schema';
  let migrations: readonly string[] | undefined;
  const checks = await attempt(name, async () => {
    const { applied, pending, unknown } = await connection.readMigrationState();
    if (applied.length === 0) {
      return failed(name, 'the schema retention is not there', 'Run: retention migrate up');
    }
    if (pending.length > 0) {
      return failed(
        name,
        `${showCount(pending.length, 'migration')} pending: ${pending.join(', ')}`,
        'Run: retention migrate up',
      );
    }
    migrations = applied.map((migration) => migration.name);
    const last = applied.at(-1);
    const version = `${showCount(applied.length, 'migration')}, the last ${last?.name} of ${last?.at.toISOString()}`;
    if (unknown.length === 0) return ok(name, version);
    return warning(
      name,
      `${version}; not known to this version: ${unknown.join(', ')}`,
      'Bring the program up to the version that migrated this database.',
    );
  });
  return { checks, migrations };
}
