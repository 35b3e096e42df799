import { showCount } from '../numbers.ts';
import type { Habits, KnownBucket } from '../store/buckets.ts';

/** What a deletion means in a bucket, in words. */
export function describeDeletion(
  versioning: 'off' | 'enabled' | 'suspended',
  onVersioned: 'marker' | 'purge',
): string {
  if (versioning === 'off') return 'versioning is off: a deletion removes the object for good';
  const state = versioning === 'enabled' ? 'versioning is on' : 'versioning is suspended';
  if (onVersioned === 'purge') {
    return `${state}, and a deletion removes every version for good`;
  }
  return versioning === 'enabled'
    ? `${state}: a deletion only hides the object behind a delete marker, its bytes stay until a lifecycle rule removes them`
    : `${state}: a deletion removes what was written since and hides older versions, whose bytes stay`;
}

/** What the store of a bucket does otherwise than S3, in words; empty: nothing. */
export function describeHabits(habits: KnownBucket['habits']): string {
  return (Object.keys(HABIT_WORDS) as (keyof Habits)[])
    .flatMap((name) => {
      const habit = habits[name];
      if (habit === undefined) return [];
      const how = habit.by === 'hand' ? 'set by hand' : 'learned';
      return [`${HABIT_WORDS[name](habit.value)} (${how})`];
    })
    .join(', ');
}

/** The ceilings of a bucket in words; empty: it has none. */
export function describeCeilings({
  max_per_second: perSecond,
  max_in_flight: inFlight,
}: Pick<KnownBucket, 'max_per_second' | 'max_in_flight'>): string {
  return [
    ...(perSecond === null ? [] : [`at most ${showCount(perSecond, 'result')} a second`]),
    ...(inFlight === null ? [] : [`at most ${showCount(inFlight, 'batch', 'batches')} at once`]),
  ].join(', ');
}

const HABIT_WORDS: Readonly<Record<keyof Habits, (value: number | string) => string>> = {
  keys_per_request: (value) => `${value} keys a request`,
  keys_in_time: (value) => `${value} keys in time`,
  deletes: (value) => (value === 'singly' ? 'one key a request, by DeleteObject' : 'DeleteObjects'),
  checksum: (value) => `checksum ${value}`,
  addressing: (value) => (value === 'path' ? 'addressed by path' : 'addressed by virtual host'),
  conditional: (value) =>
    value === 'honoured'
      ? 'deletes the version of an etag'
      : value === 'ignored'
        ? 'deletes whatever version, also where an etag is given'
        : 'refuses etags, so nothing is deleted',
};

/** The habits alone, as an object store takes them. */
export function valuesOf(habits: KnownBucket['habits'] = {}): Habits {
  return Object.fromEntries(Object.entries(habits).map(([name, { value }]) => [name, value]));
}
