import { UsageError } from '../errors.ts';

const EVERYTHING =
  'A key that is there has a value. Leave it out, and where everything is meant, say so.';

/**
 * Looks whether what is to narrow a call has a value: a key whose value is undefined, null or an empty text was
 * meant to say something, and never means everything.
 *
 * @param name what the object is called in the message.
 * @param given as a program passed it, whatever its type says.
 * @throws UsageError that names the key.
 */
export function refuseMissing(name: string, given: unknown, keys: readonly string[]): void {
  if (typeof given !== 'object' || given === null) throw missing(name, given, 'what is selected');
  for (const key of keys) {
    if (!(key in given)) continue;
    const value = (given as Readonly<Record<string, unknown>>)[key];
    if (!Array.isArray(value)) {
      if (isEmpty(value)) throw missing(`${name}.${key}`, value, 'a value');
      continue;
    }
    const places = value as readonly unknown[];
    const empty = places.findIndex((each) => isEmpty(each));
    if (empty >= 0) throw missing(`${name}.${key}[${empty}]`, places[empty], 'a value');
  }
}

const SELECTION_KEYS = [
  'tenantId',
  'runIds',
  'all',
  'olderThanSeconds',
  'early',
  'expected',
  'limit',
] as const;

/**
 * Checks that a selection is complete.
 *
 * @throws UsageError for a key without a value, for an unknown key, and where neither or both of a selection and all are named.
 */
export function checkSelection(selection: unknown): void {
  refuseMissing('selection', selection, SELECTION_KEYS);
  const given = Object.keys(selection as object);
  const unknown = given.find((key) => !SELECTION_KEYS.some((known) => known === key));
  if (unknown !== undefined) {
    throw new UsageError(`selection: expected ${SELECTION_KEYS.join(', ')}; given ${unknown}`);
  }
  const isNarrowed = given.includes('tenantId') || given.includes('runIds');
  const isAll = (selection as { readonly all?: unknown }).all === true;
  if (isNarrowed !== isAll) return;
  const which = isAll ? 'both' : 'neither';
  throw new UsageError(`selection: expected tenantId or runIds, or all: true; given ${which}`, {
    remedy: 'Say what is meant: a tenant, runs, or all: true for everything that is due.',
  });
}

function isEmpty(value: unknown): boolean {
  return (
    value === undefined || value === null || (typeof value === 'string' && value.trim() === '')
  );
}

function missing(name: string, value: unknown, expected: string): UsageError {
  const given = value === undefined ? 'undefined' : JSON.stringify(value);
  return new UsageError(`${name}: expected ${expected}; given ${given}`, { remedy: EVERYTHING });
}
