import { expect } from 'vitest';
import type { DeletionReport } from '../../src/objects/deletion-report.ts';
import { ObjectStoreError } from '../../src/objects/store-failure.ts';

/** Checks that a call deleted these keys, in whatever order, and has nothing to tell of others. */
export function expectAllDeleted(report: DeletionReport, keys: readonly string[]): void {
  const { learned: _learned, ends: _ends, requestIds: _requestIds, ...told } = report;
  const sorted = { ...told, deleted: report.deleted.toSorted() };
  expect(sorted).toEqual({ deleted: keys.toSorted(), all: true, failures: [], unanswered: [] });
}

/** The error of a request that the store throttled. */
export function slowDown(bucket = 'b'): ObjectStoreError {
  return new ObjectStoreError({
    bucket,
    kind: 'throttled',
    code: 'SlowDown',
    reason: 'slow',
    outcome: 'failed',
    concerns: 'bucket',
    final: false,
  });
}
