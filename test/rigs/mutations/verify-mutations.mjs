const LARGE_TEST = 'test/database/verify-large.test.ts';
const INVENTORY_TEST = 'test/database/verify-inventory.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** What a verify must look at twice, and what it must not judge. */
export const verifyMutations = [
  {
    name: 'a stretch is not looked at again before its rows are stamped',
    promise: 3,
    edits: one(
      'src/reactor/second-look.ts',
      '    for (const { key } of page) gone.delete(key);\n',
      '    for (const { key } of page) gone.has(key);\n',
    ),
    testFile: LARGE_TEST,
    test: 'what is missing by the thousand is looked for by listing its stretch again',
  },
  {
    name: 'an inventory judges rows that are younger than it',
    promise: 3,
    edits: one(
      'migrations/functions/17_verify_progress.sql',
      "    (case when p_kind = 'inventory' then v_run.began_at else now() end) - interval '1 hour',\n",
      "    now() - interval '1 hour',\n",
    ),
    testFile: INVENTORY_TEST,
    test: 'judges no row that was completed, changed or cleared since it was made',
  },
  {
    name: 'what a killed verify had found is forgotten',
    promise: 2,
    edits: one(
      'migrations/functions/17_verify_progress.sql',
      "  if p_run_ids <> '{}' then\n    insert into retention.verify_stretch",
      "  if p_run_ids = '{}' then\n    insert into retention.verify_stretch",
    ),
    testFile: LARGE_TEST,
    test: 'killed and started again, it repeats at most one page, and forgets nothing of what it found',
  },
  {
    name: 'a listener that comes late writes over the step of another',
    promise: 3,
    edits: one(
      'migrations/functions/18_standing_steps.sql',
      '    and retention._hold_verify(p_verify_id, p_holder)\n',
      '    and p_holder is not null\n',
    ),
    testFile: 'test/database/standing-verify.test.ts',
    test: 'a late answer is refused, and so is one for a verify that an operator has begun',
  },
  {
    name: "a listener may write into an operator's verify",
    promise: 10,
    edits: one('migrations/functions/18_standing_steps.sql', " and r.kind = 'standing')", ')'),
    testFile: 'test/database/standing-verify.test.ts',
    test: 'a late answer is refused, and so is one for a verify that an operator has begun',
  },
];
