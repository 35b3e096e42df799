import { SOCKET_CODES, SQLSTATE } from './sqlstate.ts';

/*
The faults that pass, in one table. PostgreSQL: appendix A of its manual. PgBouncer: doc/usage.md, src/client.c and
src/objects.c. RDS Proxy: "RDS Proxy concepts and terminology". Supavisor: lib/supavisor/client_handler.ex. pgcat:
src/errors.rs. Odyssey: sources/frontend.c.
*/

/** SQLSTATEs after which the same thing may succeed. */
const PASSING_SQLSTATES: ReadonlySet<string> = new Set([
  SQLSTATE.serialization_failure,
  SQLSTATE.deadlock_detected,
  SQLSTATE.lock_not_available,
  SQLSTATE.query_canceled,
  SQLSTATE.admin_shutdown,
  SQLSTATE.crash_shutdown,
  SQLSTATE.cannot_connect_now,
  SQLSTATE.idle_session_timeout,
  SQLSTATE.idle_in_transaction_session_timeout,
  SQLSTATE.transaction_timeout,
  // After a failover, the old primary is a standby until the next connection finds the new one.
  SQLSTATE.read_only_sql_transaction,
  // Poolers use the code of an internal error for many messages. Some of PostgreSQL's own internal errors end with
  // their session. Trying again does no harm.
  SQLSTATE.internal_error,
]);

/** Connection exceptions, and insufficient resources: disk, memory, connections. */
const PASSING_CLASSES: ReadonlySet<string> = new Set(['08', '53']);

/** What poolers give to refusals of every kind, so that only the words tell "busy" from "never". */
const CODES_OF_POOLERS: ReadonlySet<string> = new Set([
  SQLSTATE.protocol_violation,
  SQLSTATE.feature_not_supported,
  SQLSTATE.invalid_authorization_specification,
  SQLSTATE.system_error,
]);

/** What is said of a lost, refused or busy connection where the code does not tell. */
const PASSING_WORDS: readonly RegExp[] = [
  // pg and pg-pool.
  /connection terminated|connection ended|not queryable|query read timeout/iu,
  /timeout expired|timeout exceeded when trying to connect/iu,
  // PgBouncer.
  /no more connections|query_wait_timeout|server_lifetime|client_login_timeout|idle.*timeout/iu,
  /server (conn(ection)? )?(crashed|login)|(is|database) paused|pooler is shut ?down|bouncer config error/iu,
  // PostgreSQL, Supavisor, RDS Proxy, pgcat, Odyssey.
  /too many (clients|connections)|max(imum)? (client|number of) .*(connections|reached)/iu,
  /unable to (check ?out|get) .*(connection|client)|timed[- ]?out waiting .*connection/iu,
  /could not get connection from the pool|all servers? (are|is) down|no (available|healthy) (server|backend)/iu,
];

/**
 * Whether the same thing may succeed later, by the code and the words of one error.
 *
 * @param code a SQLSTATE, a socket's code, or none.
 */
export function isPassingFault(code: string | undefined, message: string): boolean {
  if (code !== undefined && SOCKET_CODES.has(code)) return true;
  const says = (): boolean => PASSING_WORDS.some((words) => words.test(message));
  if (code === undefined || CODES_OF_POOLERS.has(code)) return says();
  if (!/^[0-9A-Z]{5}$/u.test(code)) return false;
  return PASSING_SQLSTATES.has(code) || PASSING_CLASSES.has(code.slice(0, 2));
}
