import { DatabaseError } from '../errors.ts';
import type { Queryable } from './queryable.ts';

/**
 * Runs `work` in a READ COMMITTED transaction of a session, whatever the role or the database has
 * for a default. Rolled back when it throws, and when a statement of it
 * failed and it went on: Postgres would answer such a COMMIT with a silent rollback.
 */
export async function inTransaction<Result>(
  client: Queryable,
  work: (client: Queryable) => Promise<Result>,
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
  await client.query('begin isolation level read committed');
  try {
    const result = await work(watched);
    if (failure !== undefined) {
      throw new DatabaseError('the transaction had failed before it was to be committed', {
        cause: failure,
      });
    }
    await client.query('commit');
    return result;
  } catch (error) {
    // A session that cannot even roll back is ended by its owner, which does the same.
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}
