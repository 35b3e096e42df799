import type { TestProject } from 'vitest/node';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';
import { runsTableSql } from '../stack/runs-table.ts';

/** What every test file is told about the run's PostgreSQL. */
export type SharedPostgres =
  | {
      readonly kind: 'running';
      readonly host: string;
      readonly port: number;
      readonly psqlPath: string;
      readonly binFolder: string;
      readonly socketFolder: string;
      readonly major: number;
    }
  | { readonly kind: 'missing'; readonly reason: string };

declare module 'vitest' {
  /** Vitest's way of typing what a set-up provides. */
  export interface ProvidedContext {
    postgres: SharedPostgres;
  }
}

/** The database that each test file's own one is a copy of: the application's empty table. */
export const TEMPLATE_DATABASE = 'runs_template';

// Each vitest project loads this module for itself, in one process; they share one server.
interface Shared {
  users: number;
  server: Promise<PrivatePostgres> | undefined;
}
const sharedKey = Symbol.for('retention-reactor.test-postgres');
const holder = globalThis as { [sharedKey]?: Shared };
const shared = (holder[sharedKey] ??= { users: 0, server: undefined });

/** Starts the run's one PostgreSQL, or tells the tests why there is none. */
export async function setup(project: TestProject): Promise<void> {
  shared.users += 1;
  try {
    shared.server ??= startTemplateServer();
    const { host, port, psqlPath, binFolder, socketFolder, major } = await shared.server;
    project.provide('postgres', {
      kind: 'running',
      host,
      port,
      psqlPath,
      binFolder,
      socketFolder,
      major,
    });
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`Tests that need PostgreSQL are skipped: ${reason}\n`);
    project.provide('postgres', { kind: 'missing', reason });
  }
}

/** Stops it when the last project is done. */
export async function teardown(): Promise<void> {
  shared.users -= 1;
  if (shared.users > 0) return;
  const server = await shared.server?.catch(() => undefined);
  shared.server = undefined;
  await server?.stop();
}

async function startTemplateServer(): Promise<PrivatePostgres> {
  const server = await startPrivatePostgres({
    cron: true,
    settings: { autovacuum_naptime: '5min' },
  });
  await server.sql(`create database ${TEMPLATE_DATABASE}`);
  await server.sql(runsTableSql, TEMPLATE_DATABASE);
  // A connection to a template makes every copying of it fail.
  await server.sql(`alter database ${TEMPLATE_DATABASE} with allow_connections false`);
  return server;
}
