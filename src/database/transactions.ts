import { DatabaseError } from '../errors.ts';
import type { Queryable } from './queryable.ts';

/**
 * Runs `work` in a transaction of a session that `begin` begins. Rolls back when it throws, and when it went on after a failed statement: Postgres
 * answers such a COMMIT with a rollback and no error.
 */
export async function inTransaction<Result>(
  client: Queryable,
  work: (client: Queryable) => Promise<Result>,
  begin: string,
): Promise<Result> {
  let failure: unknown;
  const watched: Queryable = {
    query: async (...statement) => {
      try {
        return await client.query(...statement);
      } catch (error) {
        failure ??= error;
        throw error;
      }
    },
  };
  await client.query(begin);
  try {
    const result = await work(watched);
    if (failure !== undefined) {
      throw new DatabaseError('the transaction had failed before its commit', {
        cause: failure,
      });
    }
    await client.query('commit');
    return result;
  } catch (error) {
    // The owner ends a session that cannot roll back, which rolls back as well.
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}
