import { DatabaseError, RetentionError, describeError } from '../errors.ts';
import { sayFailure } from '../failure-words.ts';
import { type AbortableLoop, createAbortableLoop } from '../lifecycle/abortable-loop.ts';
import { createFailureLog } from '../lifecycle/failure-log.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import type { Logger } from '../logger.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { sealKey } from '../objects/own-keys.ts';
import { ObjectStoreError } from '../objects/store-failure.ts';
import { type Instant } from '../instant.ts';
import type { Head } from '../store/seals.ts';
import type { Store } from '../store/store.ts';
import { showHead } from './heads.ts';

/** What watches seals. */
export interface SealWatchOptions {
  readonly store: Pick<Store, 'listHeads' | 'sealsToWrite' | 'noteSealsWritten'>;
  readonly objects: Pick<ObjectStore, 'conditional' | 'inspection'>;
  readonly logger: Logger;
  /** Where each seal is to be an object. Default: nowhere. */
  readonly bucket?: string | undefined;
  /** How often it looks for seals that no notification announced, where there is a bucket. */
  readonly pollSeconds: number;
}

const REMEDY =
  'Allow s3:PutObject and s3:GetObject on .retention/seals/* of that bucket, and s3:PutObjectRetention where it has object lock';

/**
 * Brings heads out of the database: the latest is a line in the log of each listener that hears of it, and each seal
 * is an object, written by whichever listener comes first. `wake` says that there may be a new one.
 */
export function createSealWatch(options: SealWatchOptions): AbortableLoop {
  const { store, objects, logger, bucket, pollSeconds } = options;
  const failures = createFailureLog({
    logger,
    failed: 'Seals could not be brought out of the database',
    recovered: 'Seals are brought out of the database again',
  });
  let said: number | undefined;
  let isLocked: boolean | undefined;

  const sayLatest = async (): Promise<void> => {
    const [head] = await store.listHeads();
    // The one that was there when this listener began is news of another.
    said ??= head?.seal ?? 0;
    if (head === undefined || head.seal <= said) return;
    said = head.seal;
    logger.info(`Sealed: ${showHead(head)}`, {
      sealed_at: head.sealed_at,
      database: head.database,
    });
  };

  const writeAll = async (to: string, signal: AbortSignal): Promise<void> => {
    for (;;) {
      const missing = await store.sealsToWrite(to);
      let written: number | undefined;
      try {
        for (const { head, keptUntil } of missing) {
          if (signal.aborted) return;
          await write(to, head, keptUntil, signal);
          written = head.seal;
        }
      } catch (error) {
        if (signal.aborted) return;
        const before = (missing[0]?.head.seal ?? 1) - 1;
        await store.noteSealsWritten(to, written ?? before, describe(error));
        throw error;
      } finally {
        if (signal.aborted && written !== undefined) await store.noteSealsWritten(to, written);
      }
      if (written === undefined) return;
      await store.noteSealsWritten(to, written);
    }
  };

  const write = async (
    to: string,
    head: Head,
    keptUntil: Instant,
    signal: AbortSignal,
  ): Promise<void> => {
    const { conditional } = objects;
    if (conditional === undefined || head.database === null) {
      throw new RetentionError(
        'RETENTION_SEAL_BUCKET needs an object store with conditional writes',
      );
    }
    const key = sealKey(head.database, head.seal);
    // Read first: Ceph takes a conditional write for a new version where the bucket keeps versions.
    const before = await conditional.readObject(to, key, { signal });
    isLocked ??= await asksForLock(to, signal);
    const lockedUntil = isLocked && typeof keptUntil !== 'string' ? keptUntil : undefined;
    const object = { key, body: `${JSON.stringify(head)}\n`, lockedUntil };
    if (before === undefined && (await conditional.writeObject(to, object, { signal }))) return;
    // Another listener was first, or the reply was lost.
    const found = before ?? (await conditional.readObject(to, key, { signal }));
    if (digestOf(found?.body) === head.digest) return;
    throw new RetentionError(
      `${key} in bucket ${to} holds another digest than seal ${head.seal} has here: ` +
        'seals were rewritten, or this database is a copy or was recovered to an earlier state. See: retention proof verify',
    );
  };

  /** A bucket that gives each new object a retention by itself needs none from here. */
  const asksForLock = async (to: string, signal: AbortSignal): Promise<boolean> => {
    const described = await objects.inspection?.describeBucket(to, { signal });
    return described?.objectLock === true && described.defaultRetention === undefined;
  };

  return createAbortableLoop({
    name: 'the watch over seals',
    turn: async (signal) => {
      await sayLatest();
      if (bucket !== undefined) await writeAll(bucket, signal);
      failures.works();
    },
    intervalMilliseconds:
      bucket === undefined ? MILLISECONDS.day : pollSeconds * MILLISECONDS.second,
    onError: (error, { retryInMilliseconds }) => {
      // The listener says what the database has.
      if (error instanceof DatabaseError) logger.debug(`Seals: ${describeError(error)}`);
      else {
        const remedy = remedyOf(error);
        failures.failed(error, { retry_in_milliseconds: retryInMilliseconds, remedy });
      }
    },
  });
}

function remedyOf(error: unknown): string | undefined {
  return error instanceof ObjectStoreError && error.outcome === 'refused' ? REMEDY : undefined;
}

function describe(error: unknown): string {
  if (error instanceof ObjectStoreError) return sayFailure(error.code, error.reason);
  return describeError(error);
}

function digestOf(body: string | undefined): unknown {
  try {
    return (JSON.parse(body ?? '') as { readonly digest?: unknown }).digest;
  } catch {
    return undefined;
  }
}
