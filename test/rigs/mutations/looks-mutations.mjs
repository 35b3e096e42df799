/*
Promise 12: every figure that it prints is one that it counted. First looks as sets.
*/

const one = (file, search, replace) => [{ file, search, replace }];

const LOOK = 'migrations/functions/14_look.sql';
const LOOKS = 'test/database/looks.test.ts';
const SAME = 'as sets, by index and row by row they list the same: %s';

export const looksMutations = [
  {
    name: 'a look at many forgets what other runs need',
    promise: 12,
    edits: one(LOOK, 'where coalesce(n.not_due, 0) <= (', 'where 0 <= ('),
    testFile: LOOKS,
    test: [SAME, 'everything'],
  },
  {
    name: 'a look at many forgets keepers',
    promise: 12,
    edits: one(LOOK, 'keys := keys || v_found.keys;', ''),
    testFile: LOOKS,
    test: [SAME, 'everything'],
  },
  {
    name: 'a look at many forgets held objects',
    promise: 12,
    edits: one(LOOK, 'when exists (select from retention.held_object)', 'when false'),
    testFile: LOOKS,
    test: [SAME, 'everything'],
  },
  {
    name: 'a look at many counts what waits for a person',
    promise: 12,
    edits: one(
      LOOK,
      'when p_is_exact and exists (select from retention._waiting_run_ids())',
      'when false',
    ),
    testFile: LOOKS,
    test: 'a dry run lists exactly what then goes',
  },
  {
    name: 'upcoming as sets takes a result for free that another run still needs',
    promise: 12,
    edits: one(
      'migrations/functions/15_upcoming_many.sql',
      'case when o.run_id <> f.run_id then o.free_at else o.next_free_at end',
      'null::timestamptz',
    ),
    testFile: LOOKS,
    test: 'upcoming says the same as sets and by tenant: seed',
  },
  {
    name: 'the runs of a dry run are read from other rows than its groups',
    promise: 12,
    edits: one(
      'src/database/pool.ts',
      "const mode = 'isolation level repeatable read, read only';",
      "const mode = 'isolation level read committed';",
    ),
    testFile: LOOKS,
    test: 'runs come page by page, and are the ones that were counted, whatever commits meanwhile',
  },
];
