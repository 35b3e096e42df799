const FOLDER = 'migrations/functions';
const INDEX_TEST = 'test/database/missing-index.test.ts';

/** What the table, a session or a clock may come to after adoption. */
export const leftoverMutations = [
  {
    name: 'a missing index is no reason to stand still',
    promise: 11,
    edits: [
      {
        file: `${FOLDER}/04_result.sql`,
        search: '  if v_table.lacks_index then\n',
        replace: '  if false then\n',
      },
    ],
    testFile: INDEX_TEST,
    test: ['%s: the gate closes, says which, and migrate up opens it', 'dropped: both'],
  },
  {
    name: 'an invalid index is taken for one that is there',
    promise: 11,
    edits: [
      {
        file: `${FOLDER}/04_result.sql`,
        search: '          and i.indisvalid\n          and d.description = m.mark\n',
        replace: '          and d.description = m.mark\n',
      },
    ],
    testFile: INDEX_TEST,
    test: [
      '%s: the gate closes, says which, and migrate up opens it',
      'left invalid by a build that failed',
    ],
  },
  {
    name: 'status looks at the table without its index',
    promise: 11,
    edits: [
      {
        file: `${FOLDER}/04_indexes.sql`,
        search: ' and retention._missing_indexes() is null;',
        replace: ';',
      },
    ],
    testFile: INDEX_TEST,
    test: ['%s does not read the whole table', 'status'],
  },
  {
    name: 'named runs are looked for among all live results',
    promise: 11,
    edits: [
      {
        file: `${FOLDER}/14_list.sql`,
        search: 'where l.run_id = u.run_id offset 0) r',
        replace: 'where l.run_id = u.run_id) r',
      },
    ],
    testFile: 'test/database/plans.test.ts',
    test: ['that %s, each question reads what it answers', 'was never analysed'],
  },
  {
    name: 'a table that others inherit from is worked on',
    promise: 1,
    edits: [
      {
        file: `${FOLDER}/04_result.sql`,
        search: '  if v_table.may_be_unsupported then\n',
        replace: '  if false then\n',
      },
    ],
    testFile: 'test/database/unsupported-tables.test.ts',
    test: [
      '%s: the gate closes and says so, and nothing is flagged',
      'one that others inherit from',
    ],
  },
  {
    name: 'a clock of the database that is ahead is believed',
    promise: 1,
    edits: [
      {
        file: `${FOLDER}/23_clock.sql`,
        search: "  where clock_timestamp() > p_at + interval '1 hour'\n",
        replace: '  where false\n',
      },
    ],
    testFile: 'test/database/clock.test.ts',
    test: 'closes the gate for this process alone: no claim, no pulse that calls for work, and it says so',
  },
  {
    name: 'a claim is made as before after one that was lost',
    promise: 6,
    edits: [
      {
        file: 'src/reactor/careful-claims.ts',
        search: '        if (isLostSession(error)) left = CAREFUL_CLAIMS;\n',
        replace: '',
      },
    ],
    testFile: 'test/database/lost-claims.test.ts',
    test: 'is the first one twice, and keeps no other from being worked off',
  },
  {
    name: 'a batch that ends its session is never taken apart',
    promise: 6,
    edits: [
      {
        file: `${FOLDER}/09_turn.sql`,
        search: "    exit when v_batch.code is distinct from 'ClaimLost';\n",
        replace: '    exit;\n',
      },
    ],
    testFile: 'test/database/lost-claims.test.ts',
    test: 'is taken apart until the bad result stands alone, dead and named; retry brings it back',
  },
  {
    name: 'a date beyond the last timestamp raises',
    promise: 6,
    edits: [
      {
        file: `${FOLDER}/02_columns.sql`,
        search: "then timestamp ''infinity'' else",
        replace: 'then %1$I::timestamp else',
      },
    ],
    testFile: 'test/database/unreadable-rows.test.ts',
    test: [
      "%s: the application's INSERT, passes, claims and reports go on, and the run is kept for ever",
      '5874897-12-31',
    ],
  },
  {
    name: 'a result waits for ever in a bucket that its row names no more',
    promise: 2,
    edits: [
      {
        file: `${FOLDER}/08_tick.sql`,
        search: "    'select retention._forget_moved()',\n",
        replace: '',
      },
    ],
    testFile: 'test/database/wrong-buckets.test.ts',
    test: [
      'a %s where nobody may delete: nothing goes meanwhile, and all go once it is put right',
      'bucket',
    ],
  },
];
