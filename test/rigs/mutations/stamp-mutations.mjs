const FOLDER = 'migrations/functions';
const STAMP = `${FOLDER}/10_stamp.sql`;
const STAMP_TEST = 'test/database/stamping.test.ts';

/** Promise 3, the other way round: no object is deleted that could not be stamped. */
export const stampMutations = [
  {
    name: 'nothing is tried before the first deletion',
    promise: 3,
    edits: [
      {
        file: `${FOLDER}/09_claim.sql`,
        search: ' or not retention._may_stamp() then',
        replace: ' then',
      },
    ],
    testFile: STAMP_TEST,
    test: 'another trial is made when the table was detached and attached again',
  },
  {
    name: 'what S3 has deleted is handed out again',
    promise: 3,
    edits: [
      {
        file: `${FOLDER}/10_unstamped.sql`,
        search: '      coalesce(p_batch.deleted_at, clock_timestamp()),\n',
        replace: '      null,\n',
      },
    ],
    testFile: STAMP_TEST,
    test: 'a row that cannot be stamped is never sent to S3 again, is dead in the end, listed, and revived by retry',
  },
  {
    name: 'a swallowed stamp is counted as cleared',
    promise: 3,
    edits: [
      {
        file: `${FOLDER}/10_unstamped.sql`,
        search: '    if stamped >= cardinality(p_run_ids) then\n',
        replace: '    if true then\n',
      },
    ],
    testFile: STAMP_TEST,
    test: 'a batch of which a trigger swallows some stamps is cleared of the others only',
  },
  {
    name: 'a stamp that a trigger takes back is counted',
    promise: 3,
    edits: [
      { file: STAMP, search: 'pg_catalog.count(s.cleared_at)', replace: 'pg_catalog.count(*)' },
    ],
    testFile: STAMP_TEST,
    test: [
      'a stamp that is swallowed is none: a trigger that %s closes the gate',
      'takes the stamp back',
    ],
  },
  {
    name: 'a deferred constraint is left to the commit',
    promise: 3,
    edits: [
      {
        file: STAMP,
        search:
          '  using p_run_ids, p_keys, p_bucket, p_completed, p_oldest, p_newest, p_default_bucket;\n  set constraints all immediate;\n',
        replace:
          '  using p_run_ids, p_keys, p_bucket, p_completed, p_oldest, p_newest, p_default_bucket;\n',
      },
    ],
    testFile: STAMP_TEST,
    test: 'a deferred constraint trigger finds the same, and what it refuses fails the result and not the commit',
  },
  {
    name: 'who asks again after a lost answer hears that the lease is lost',
    promise: 8,
    edits: [
      {
        file: `${FOLDER}/10_settle.sql`,
        search: '    and b.given_back = p_lease\n    and b.settled_at is not null;',
        replace: '    and b.lease = p_lease\n    and b.settled_at is not null;',
      },
    ],
    testFile: STAMP_TEST,
    test: 'who asks again after a settle hears what failed as well',
  },
];
