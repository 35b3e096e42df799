/**
 * Reads the value of an option that is a whole number from 1 up.
 *
 * @throws UsageError for anything else, and for more than `most`.
 */
export async function readWholeNumber(text: string, option: string, most: number): Promise<number> {
  const number = /^\d{1,12}$/u.test(text) ? Number(text) : 0;
  if (number >= 1 && number <= most) return number;
  const { UsageError } = await import('../errors.ts');
  throw new UsageError(`${option}: expected a whole number from 1 to ${most}; given "${text}"`);
}
