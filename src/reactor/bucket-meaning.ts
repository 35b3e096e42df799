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
