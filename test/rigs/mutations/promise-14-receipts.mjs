const SETTLE = 'migrations/functions/10_settle.sql';
const UNSTAMPED = 'migrations/functions/10_unstamped.sql';
const CLAIM = 'migrations/functions/09_claim.sql';
const FOUND_GONE = 'migrations/functions/17_found_gone.sql';
const ORPHANS = 'migrations/functions/17_orphans.sql';
const ACCOUNT = 'migrations/functions/28_account.sql';
const RECEIPTS_TEST = 'test/database/receipts.test.ts';
const KINDS =
  'each kind is counted apart, with its runs and its words, and status shows the last count';

/** Promise 14: what receipts say, and that each stamp has one. */
export const receiptMutations = [
  {
    name: 'a receipt says of everything that it was deleted',
    promise: 14,
    edits: [{ file: SETTLE, search: '    ends = v_batch.ends,\n', replace: '' }],
    testFile: RECEIPTS_TEST,
    test: 'asked again after its answer was lost, a settle writes nothing twice; ends that are none change nothing',
  },
  {
    name: 'what could not be stamped at once loses how it ended',
    promise: 14,
    edits: [
      {
        file: UNSTAMPED,
        search: 'case when p_batch.ends is not null then array(',
        replace: 'case when false then array(',
      },
    ],
    testFile: RECEIPTS_TEST,
    test: 'what is deleted and cannot be stamped keeps what its receipt will say, over retries too',
  },
  {
    name: 'what was restored is deleted again as if for the first time',
    promise: 14,
    edits: [
      {
        file: CLAIM,
        search:
          'elsif p_before.kind is null and exists (select from retention.returned_result) then',
        replace: 'elsif false then',
      },
    ],
    testFile: RECEIPTS_TEST,
    test: 'what was restored, or found again by a verify, says so when it is deleted again, and only it',
  },
  {
    name: 'a verify stamps what a listener is deleting',
    promise: 14,
    edits: [
      {
        file: FOUND_GONE,
        search:
          'where v_run_ids[n] not in (select a.run_id from retention._being_deleted(p_bucket) a)',
        replace: 'where true',
      },
    ],
    testFile: RECEIPTS_TEST,
    test: 'what a verify found gone has its own receipts, a thousand in each; what a listener is deleting is left to it',
  },
  {
    name: 'an orphan that is found gone again has two receipts',
    promise: 14,
    edits: [
      {
        file: ORPHANS,
        search: 'when p_request_id is null then retention._without_receipt(v_list, p_keys)',
        replace: 'when p_request_id is null then p_keys',
      },
    ],
    testFile: RECEIPTS_TEST,
    test: 'each orphan that went has one receipt, also where its answer was lost and it was found gone later',
  },
  {
    name: 'a stamp that was set by hand passes for one of ours',
    promise: 14,
    edits: [
      {
        file: ACCOUNT,
        search: "when x.stamped_at is not null then 'no_receipt'",
        replace: "when x.stamped_at is not null then 'accounted'",
      },
    ],
    testFile: 'test/database/stamp-account.test.ts',
    test: KINDS,
  },
  {
    name: 'a marker in the reply is taken for a deletion',
    promise: 14,
    edits: [
      {
        file: 'src/objects/s3/deletion-reply.ts',
        search: 'if (isMarker === true && asked === undefined)',
        replace: 'if (isMarker === undefined && asked === undefined)',
      },
    ],
    testFile: 'test/unit/deletion-ends.test.ts',
    test: 'in a bucket with versions each end names its marker, together and alone',
  },
];
