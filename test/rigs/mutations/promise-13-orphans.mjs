const ORPHANS = 'migrations/functions/17_orphans.sql';
const LISTS = 'migrations/functions/17_orphan_lists.sql';
const HELD = 'migrations/functions/07_held_objects.sql';
const DELETION = 'src/reactor/orphans/deletion.ts';
const DATABASE_TEST = 'test/database/orphans.test.ts';
const HELD_TEST = 'test/database/held-objects.test.ts';
const BOUND = 'both sides of each bound: %s';

/** Promise 13 for orphans, and promise 5 for objects whose row has gone. */
export const orphanMutations = [
  {
    name: 'a list is deleted at once',
    promise: 13,
    edits: [
      {
        file: LISTS,
        search: "clock_timestamp() - interval '1 hour' then",
        replace: "'infinity' then",
      },
    ],
    testFile: DATABASE_TEST,
    test: [BOUND, 'made 59 minutes ago'],
  },
  {
    name: 'any share of a bucket goes without a number',
    promise: 13,
    edits: [
      {
        file: LISTS,
        search: 'when p_list.orphans * 10 > p_list.listed then',
        replace: 'when false then',
      },
    ],
    testFile: DATABASE_TEST,
    test: [BOUND, '4 of 30'],
  },
  {
    name: 'any number goes where it is a small share',
    promise: 13,
    edits: [
      {
        file: LISTS,
        search: "when p_list.orphans > 10000 then 'more",
        replace: "when false then 'more",
      },
      { file: LISTS, search: 'p_list.orphans + v_recent > 10000', replace: 'false' },
    ],
    testFile: DATABASE_TEST,
    test: [BOUND, '10,001'],
  },
  {
    name: 'many small lists are a way past the bound',
    promise: 13,
    edits: [{ file: LISTS, search: 'p_list.orphans + v_recent > 10000', replace: 'false' }],
    testFile: DATABASE_TEST,
    test: 'several lists that are begun at once count together',
  },
  {
    name: 'a bucket that no row names is emptied',
    promise: 13,
    edits: [
      {
        file: LISTS,
        search: 's.default_bucket from retention.setting s)) = p_list.bucket',
        replace: 's.default_bucket from retention.setting s)) = p_list.bucket or true',
      },
    ],
    testFile: DATABASE_TEST,
    test: [BOUND, 'of another bucket'],
  },
  {
    name: 'more keys are given out than the list names',
    promise: 13,
    edits: [
      {
        file: ORPHANS,
        search: 'v_list.deleted + cardinality(p_keys) > v_list.orphans',
        replace: 'false',
      },
    ],
    testFile: DATABASE_TEST,
    test: 'no more keys are given out than the list names, whoever asks',
  },
  {
    name: 'a row that came after the list is not looked for',
    promise: 13,
    edits: [{ file: ORPHANS, search: "then 'has_run'", replace: 'then null' }],
    testFile: DATABASE_TEST,
    test: 'each reason for which an object stays, at the moment of its deletion',
  },
  {
    name: 'a hold finds no object',
    promise: 5,
    edits: [{ file: HELD, search: "  if v_held = '{}' then", replace: '  if true then' }],
    testFile: HELD_TEST,
    test: 'a run that shares the object of a held run whose row was deleted is spared',
  },
  {
    name: 'orphans are given out while a hold is being placed',
    promise: 5,
    edits: [
      { file: ORPHANS, search: '    lock table retention.hold in row share mode;\n', replace: '' },
    ],
    testFile: DATABASE_TEST,
    test: 'promise 5: keys are given out only when no hold is being placed',
  },
  {
    name: 'a hold does not see the orphans that are being deleted',
    promise: 5,
    edits: [
      {
        file: 'migrations/functions/13_hold.sql',
        search: '(v_setting.check_shared_objects or f.run_ids is null)',
        replace: 'v_setting.check_shared_objects',
      },
    ],
    testFile: DATABASE_TEST,
    test: 'promise 5: a hold placed while an orphan is being deleted says that it is too late',
  },
  {
    name: 'a request is not written down before it is sent',
    promise: 13,
    edits: [
      { file: DELETION, search: '    this.#progress.ask(number, claim.keys);\n', replace: '' },
    ],
    testFile: 'test/system/orphans.test.ts',
    test: 'each page is written down before it is deleted; killed in the middle, it goes on',
  },
  {
    name: 'an object that was written again is deleted as well',
    promise: 13,
    edits: [
      {
        file: 'src/reactor/orphans/look.ts',
        search: "return isSame ? 'unchanged' : 'changed';",
        replace: "return isSame ? 'unchanged' : 'unchanged';",
      },
    ],
    testFile: 'test/system/orphans.test.ts',
    test: 'an object that was written again, or is gone, is left and counted',
  },
];
