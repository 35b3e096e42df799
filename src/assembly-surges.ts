import { type LibraryOptions, withStore } from './assembly.ts';
import type { Surge, SurgeGroup } from './store/surges.ts';

/**
 * Late results that are set aside as surges, oldest first.
 *
 * @throws DatabaseError
 */
export async function listSurges(
  options: Omit<LibraryOptions, 'objects'> & { readonly all?: boolean },
): Promise<readonly Surge[]> {
  return withStore(options, (store) => store.listSurges({ all: options.all ?? false }));
}

/**
 * One surge by tenant and bucket. Results that are no longer due leave it first.
 *
 * @throws DatabaseError when there is no such surge.
 */
export async function showSurge(
  options: Omit<LibraryOptions, 'objects'> & { readonly surgeId: number },
): Promise<readonly SurgeGroup[]> {
  return withStore(options, (store) => store.showSurge(options.surgeId));
}

/**
 * Lets exactly the results of a surge go that were counted, or those of one tenant in it. Returns how many.
 *
 * @throws DatabaseError when there are not exactly `expected` of them; nothing is released then.
 */
export async function releaseSurge(
  options: Omit<LibraryOptions, 'objects'> & {
    readonly surgeId: number;
    readonly expected: number;
    readonly tenantId?: string;
  },
): Promise<number> {
  const { surgeId, expected, tenantId } = options;
  return withStore({ ...options, mustWrite: true }, (store) =>
    store.releaseSurge(surgeId, expected, tenantId),
  );
}
