/** Runs SQL: a migration's `pgm.db`, or a client. */
interface Session {
  query(text: string): Promise<unknown>;
}

/**
 * Takes the time limits of a role or a database off this session: they would end the build of an index on a
 * large table each time. What must not wait for long has a limit of its own.
 */
export async function setLimits(session: Session): Promise<void> {
  await session.query(
    `select set_config(s.name, '0', false)
    from (
      values ('statement_timeout'),
        ('lock_timeout'),
        ('idle_in_transaction_session_timeout'),
        ('idle_session_timeout'),
        ('transaction_timeout')
    ) s (name)
    where current_setting(s.name, true) is not null`,
  );
}
