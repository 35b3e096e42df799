import { expect, test } from 'vitest';
import type { Deletion } from '../rigs/chaos/deletion-record.ts';
import type { RunState } from '../rigs/chaos/history.ts';
import {
  checkReceipts,
  type ReceiptEvidence,
  type ReceiptLine,
} from '../rigs/chaos/receipt-checker.ts';

// An object that was put at 400, of which S3 said at 2,100 that it is gone; its run was stamped at 2,200.
const deletion: Deletion = {
  bucket: 'b',
  key: 'k',
  arrivedAt: 2_050,
  arrivedFrom: 2_045,
  doneAt: 2_090,
  toldGoneAt: 2_100,
};
const line: ReceiptLine = {
  name: 'batch-1',
  runId: 'run',
  bucket: 'b',
  key: 'k',
  settledAt: 2_150,
};
const stamp = { runId: 'run', bucket: 'b', key: 'k', committedAt: 2_200 };
const state: RunState = {
  runId: 'run',
  tenantId: 'acme',
  status: 'COMPLETED',
  completedAt: 500,
  bucket: 'b',
  key: 'k',
  clearedAt: undefined,
};
const version = { state, from: 600, surelyFrom: 600, until: 2_200, surelyUntil: 2_200 };

function given(more: Partial<ReceiptEvidence> = {}, stamps = [stamp], until = 2_200): string[] {
  return checkReceipts({
    history: { runs: new Map([['run', [{ ...version, until }]]]), stamps },
    deletions: [deletion],
    puts: new Map([['b/k', [400]]]),
    receipts: [line],
    ...more,
  }).map(({ what }) => what);
}

test('the checker of receipts finds nothing where each acknowledged key has one', () => {
  expect(given()).toEqual([]);
  // Asked for again, since the first answer was never settled.
  expect(given({ deletions: [deletion, { ...deletion, toldGoneAt: 2_120 }] })).toEqual([]);
  // Put there again, and deleted again.
  const again = {
    deletions: [deletion, { ...deletion, toldGoneAt: 3_100 }],
    puts: new Map([['b/k', [400, 3_000]]]),
    receipts: [line, { ...line, name: 'batch-2', settledAt: 3_150 }],
  };
  expect(given(again, [stamp, { ...stamp, committedAt: 3_200 }])).toEqual([]);
  // The row went before it could be stamped: the batch has left it out, or names it.
  expect(given({ receipts: [] }, [])).toEqual([]);
  expect(given({}, [])).toEqual([]);
});

test.each<readonly [string, string[], RegExp]>([
  ['no receipt of a stamp', given({ receipts: [] }), /no receipt says so/u],
  [
    'no receipt of a run that still waits',
    given({ receipts: [] }, [], Infinity),
    /no receipt says so/u,
  ],
  ['a receipt without a word of S3', given({ deletions: [] }), /S3 had not said so/u],
  [
    'a receipt before the word of S3',
    given({ receipts: [{ ...line, settledAt: 2_090 }] }),
    /S3 had not said so/u,
  ],
  [
    'two receipts of one deletion',
    given({ receipts: [line, { ...line, name: 'batch-2', settledAt: 2_300 }] }),
    /batch-1 and batch-2 both say/u,
  ],
  [
    'one receipt that names it twice',
    given({ receipts: [line, line] }),
    /batch-1 and batch-1 both say/u,
  ],
])('the checker of receipts finds %s', (_what, found, words) => {
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(words);
});
