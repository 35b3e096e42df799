/** Collects the values of an option that may be said several times. */
export function collect(value: string, values: readonly string[] = []): readonly string[] {
  return [...values, value];
}

/**
 * Looks whether options that narrow have a value. An empty text, as a variable of a script that is not set leaves it,
 * never means everything.
 *
 * @param options by their names on the command line.
 * @throws UsageError that names the option.
 */
export async function refuseEmpty(
  options: Readonly<Record<string, string | readonly string[] | undefined>>,
): Promise<void> {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const texts = typeof value === 'string' ? [value] : value;
    if (texts.length > 0 && texts.every((text) => text.trim() !== '')) continue;
    const { UsageError } = await import('../errors.ts');
    throw new UsageError(`${name}: expected what to narrow to; given an empty text`, {
      remedy: 'An empty text never means everything. Leave the option out.',
    });
  }
}

/**
 * Looks whether a selection and `--all` are not both named.
 *
 * @throws UsageError
 */
export async function refuseBoth(
  isAll: boolean,
  named: Readonly<Record<string, unknown>>,
): Promise<void> {
  const names = Object.keys(named).filter((name) => named[name] !== undefined);
  if (!isAll || names.length === 0) return;
  const { UsageError } = await import('../errors.ts');
  throw new UsageError(`--all: expected alone; given with ${names.join(', ')}`, {
    remedy: 'Leave out one of them.',
  });
}
