/**
 * Runs a function of the schema with arguments that a person typed, and turns its refusal of one into
 * a usage error with the function's own words.
 *
 * @throws UsageError when an argument was refused.
 * @throws RefusedError when more would go than was confirmed.
 */
export async function withUsage<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    const { DatabaseError, RefusedError, SQLSTATE, UsageError } = await import('../errors.ts');
    const refusals: readonly (string | undefined)[] = [
      SQLSTATE.invalid_parameter_value,
      SQLSTATE.no_data_found,
      SQLSTATE.check_violation,
    ];
    if (!(error instanceof DatabaseError)) throw error;
    if (error.sqlState === SQLSTATE.not_confirmed) {
      throw new RefusedError(error.message, { remedy: error.remedy, cause: error });
    }
    if (!refusals.includes(error.sqlState)) throw error;
    throw new UsageError(
      `${error.message}; nothing was changed`,
      error.remedy === undefined ? {} : { remedy: error.remedy },
    );
  }
}

/**
 * Like {@link withUsage}, for what a person confirms by its number: with another number by now it is refused.
 *
 * @throws RefusedError when the number is another one.
 * @throws UsageError when an argument was refused.
 */
export async function withExpected<Result>(work: Promise<Result>): Promise<Result> {
  return withUsage(
    work.catch(async (error: unknown) => {
      const { DatabaseError, RefusedError, SQLSTATE } = await import('../errors.ts');
      if (!(error instanceof DatabaseError) || error.sqlState !== SQLSTATE.check_violation) {
        throw error;
      }
      const { remedy } = error;
      throw new RefusedError(error.message, {
        cause: error,
        ...(remedy === undefined ? {} : { remedy }),
      });
    }),
  );
}
