import { type LibraryOptions, withStore } from './assembly.ts';
import { UsageError } from './errors.ts';
import { silentLogger } from './logger.ts';
import { type SealExport, exportSeals } from './proof/export-seals.ts';
import { readHeads } from './proof/heads.ts';
import { type SealVerification, sealFirst, verifySeals } from './proof/verify-seals.ts';
import type { Head } from './store/seals.ts';

/** What of the proof is asked for, and who watches. */
export interface ProofRequest extends Omit<LibraryOptions, 'objects'> {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, known: number) => void;
}

/** What is verified. */
export interface ProofVerifyRequest extends ProofRequest {
  /** Heads that were kept outside: texts, or files with them. Default: none. */
  readonly heads?: readonly string[];
  /** Only the seals that were made since. Default: all. */
  readonly since?: Date | undefined;
}

/**
 * Seals what has settled, computes every seal again, and names each receipt and change that was changed, removed or
 * added since, each seal that was rewritten, and an end that was cut off.
 *
 * @throws UsageError for a head that is none.
 * @throws DatabaseError
 */
export async function verifyProof(request: ProofVerifyRequest): Promise<SealVerification> {
  const { heads = [], since, signal, onProgress, config, logger = silentLogger } = request;
  const kept = (await Promise.all(heads.map((head) => readHeads(head)))).flat();
  return withStore({ config, logger }, (store) =>
    verifySeals({
      store,
      heads: kept,
      since,
      signal,
      ...(onProgress === undefined ? {} : { onProgress }),
    }),
  );
}

/**
 * Seals what has settled, and returns the latest seal as what is to be kept outside. Null: nothing was ever sealed.
 *
 * @throws DatabaseError
 */
export async function proofHead(request: ProofRequest): Promise<{
  readonly head: Head | null;
  /** Why what has settled since was not sealed first; null: it was. */
  readonly unsealed_because: string | null;
}> {
  return withStore(request, async (store) => {
    const unsealed = await sealFirst(store, request.signal);
    const [head] = await store.listHeads();
    return { head: head ?? null, unsealed_because: unsealed };
  });
}

/**
 * Sets how receipts that are sealed from now on keep keys: as they are, or as salted digests. Returns what changed, a
 * line each; none: it was so already. What is sealed stays as it is.
 *
 * @throws UsageError for anything but `plain` or `hashed`.
 * @throws DatabaseError
 */
export async function setReceiptKeys({
  config,
  logger = silentLogger,
  receiptKeys,
}: ProofRequest & { readonly receiptKeys: 'plain' | 'hashed' }): Promise<readonly string[]> {
  if (!['plain', 'hashed'].includes(receiptKeys)) {
    throw new UsageError(`receipt keys: expected plain or hashed; given ${receiptKeys}`);
  }
  return withStore({ config, logger, mustWrite: true }, (store) =>
    store.configure({ receiptKeys }),
  );
}

/**
 * Writes all seals with what they are digests of as JSON Lines, for a checker without this software.
 *
 * @param request `out`: a folder that is there, or a file that is not.
 * @throws UsageError when the file is there already, or cannot be written.
 * @throws DatabaseError
 */
export async function exportProof(
  request: ProofRequest & { readonly out: string },
): Promise<SealExport> {
  const { out, signal, onProgress, config, logger = silentLogger } = request;
  return withStore({ config, logger }, (store) =>
    exportSeals({ store, out, signal, ...(onProgress === undefined ? {} : { onProgress }) }),
  );
}
