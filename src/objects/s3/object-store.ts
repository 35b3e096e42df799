import { safeNow } from '../../lifecycle/clock.ts';
import { withDeadline } from '../../lifecycle/deadline.ts';
import {
  type DeletionOptions,
  type DeletionReport,
  MAX_KEYS_PER_REQUEST,
} from '../deletion-report.ts';
import type { ObjectStore } from '../object-store.ts';
import { describeBucket } from './bucket-description.ts';
import { probeConditions } from './condition-probe.ts';
import { S3Connection, type S3ObjectStoreOptions } from './connection.ts';
import { ObjectStoreError } from '../store-failure.ts';
import { CallHabits, type LearnedHabits, type StoreHabits } from '../store-habits.ts';
import { readObject, writeObject } from './conditional.ts';
import { type DeletionCall, S3DeleteRequests } from './delete-requests.ts';
import { probeDeleteRight } from './delete-right.ts';
import { DeletionNotes } from './deletion-notes.ts';
import { type KeyOutcomes, S3Deletion } from './deletion.ts';
import { listPages, unsortedPages } from './listing.ts';
import { readFirstByte, readObjectState } from './object-state.ts';
import { S3Purge } from './purge.ts';
import { restoreObject } from './restore.ts';

/** An object store with every ability. */
export type S3ObjectStore = Required<ObjectStore>;

/**
 * An object store over S3 or anything that speaks its language, with the AWS default credential
 * chain; all that it does goes over one connection. The AWS SDK is loaded by `prepare` or the first
 * call, not by importing this file.
 */
export function createS3ObjectStore(options: S3ObjectStoreOptions = {}): S3ObjectStore {
  const connection = new S3Connection(options);
  const requests = new S3DeleteRequests(connection);
  const deletion = new S3Deletion(connection, requests);
  const purge = new S3Purge(connection, requests);
  const budget = connection.budgetMilliseconds;

  const deleteInTime = async (
    bucket: string,
    keys: readonly string[],
    { signal, endsAt, habits: given, etags }: DeletionOptions,
    run: (call: DeletionCall) => Promise<KeyOutcomes>,
  ): Promise<DeletionReport> => {
    if (keys.length > MAX_KEYS_PER_REQUEST) {
      throw new RangeError(
        `expected at most ${MAX_KEYS_PER_REQUEST} keys per call, got ${keys.length}`,
      );
    }
    const unanswered = new Set<string>();
    const notes = new DeletionNotes();
    // The timer of the deadline stands still while the machine is suspended.
    const overAt = Math.min(endsAt ?? Infinity, safeNow() + budget);
    const habits = habitsFor(bucket, given);
    try {
      const { deleted, failures } = await withDeadline(budget, signal, (inTime) =>
        run({ signal: inTime, endsAt: overAt, unanswered, notes, habits, etags }),
      );
      const report = {
        deleted,
        all: failures.length === 0,
        failures,
        unanswered: [...unanswered],
        ...notes.toldOf(deleted),
      };
      const learned = learnedIn(bucket, habits);
      return learned === undefined ? report : { ...report, learned };
    } catch (error) {
      if (!(error instanceof ObjectStoreError)) throw error;
      const learned = learnedIn(bucket, habits);
      throw error.with({ unanswered: [...unanswered], requestIds: notes.requestIds, learned });
    }
  };
  /** What the caller knows, or else what this process has learned. */
  const habitsFor = (bucket: string, given: StoreHabits | undefined): CallHabits => {
    const known = given ?? connection.habits.of(bucket);
    connection.address(bucket, known.addressing);
    return new CallHabits(known);
  };
  const learnedIn = (bucket: string, habits: CallHabits): LearnedHabits | undefined => {
    const addressing = connection.addressingOf(bucket);
    if (addressing !== undefined) {
      habits.learn('addressing', addressing, `the bucket is to be addressed by ${addressing}`);
    }
    if (habits.learned !== undefined) connection.habits.note(bucket, habits.known);
    return habits.learned;
  };
  return {
    place: connection.place,
    deleteObjects: (bucket, keys, call = {}) =>
      deleteInTime(bucket, keys, call, (inTime) => deletion.run(bucket, keys, inTime)),
    listing: {
      listObjects: (bucket, request) => listPages(connection, bucket, request),
      listUnsorted: (bucket, request) => unsortedPages(connection, bucket, request),
      headObject: (bucket, key, { signal, without } = {}) =>
        without === 'listing'
          ? readFirstByte(connection, bucket, key, signal)
          : readObjectState(connection, bucket, key, signal),
    },
    versions: {
      purgeKeys: (bucket, keys, call = {}) =>
        deleteInTime(bucket, keys, call, (inTime) => purge.run(bucket, keys, inTime)),
    },
    inspection: {
      describeBucket: (bucket, { signal, habits } = {}) => {
        connection.address(bucket, habits?.addressing);
        return describeBucket(connection, bucket, signal);
      },
      probeConditions: (bucket, { prefix = '', signal, habits } = {}) =>
        withDeadline(budget, signal, (inTime) => {
          const known = habitsFor(bucket, habits).known;
          const trial = { connection, deletion, purge, bucket, prefix, habits: known };
          return probeConditions({ ...trial, signal: inTime });
        }),
      probeDeleteRight: (bucket, { prefix = '', signal, habits } = {}) =>
        withDeadline(budget, signal, (inTime) =>
          probeDeleteRight(requests, bucket, prefix, habitsFor(bucket, habits), inTime),
        ),
    },
    restoration: {
      restoreObject: (bucket, key, { signal } = {}) =>
        restoreObject(connection, requests, bucket, key, signal),
    },
    conditional: {
      readObject: (bucket, key, { signal } = {}) => readObject(connection, bucket, key, signal),
      writeObject: (bucket, { key, body, instead, lockedUntil }, { signal } = {}) =>
        writeObject(connection, bucket, { key, body, instead, lockedUntil }, signal),
    },
    prepare: () => requests.prepare(),
    close: () => connection.close(),
  };
}
