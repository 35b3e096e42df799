/**
 * Reads the value of an option that is a whole number.
 *
 * @param least default: 1.
 * @throws UsageError for anything else, for less than `least` and for more than `most`.
 */
export async function readWholeNumber(
  text: string,
  option: string,
  most: number,
  least = 1,
): Promise<number> {
  const number = /^\d{1,12}$/u.test(text) ? Number(text) : -1;
  if (number >= least && number <= most) return number;
  const { UsageError } = await import('../errors.ts');
  throw new UsageError(
    `${option}: expected a whole number from ${least} to ${most}; given "${text}"`,
  );
}
