const FOLDER = 'migrations/functions';
const LATE = `${FOLDER}/07_late.sql`;
const DUE = `${FOLDER}/07_due.sql`;
const PASS = `${FOLDER}/07_pass.sql`;
const ALLOWANCE = `${FOLDER}/11_allowance.sql`;
const SURGE = `${FOLDER}/13_surge.sql`;
const SELECT = `${FOLDER}/14_select.sql`;
const NOT_EMPTIED = `${FOLDER}/13_not_emptied.sql`;
const SURGES_TEST = 'test/database/surges.test.ts';
const ALLOWANCES_TEST = 'test/database/surge-allowances.test.ts';
const WAYS_IN_TEST = 'test/database/surge-ways-in.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** Late results: what makes one, what lets it go. */
export const surgeMutations = [
  {
    name: 'the guard lets one result more through',
    promise: 13,
    edits: one(
      LATE,
      'l.uncovered + l.before > s.surge_guard as',
      'l.uncovered + l.before > s.surge_guard + 1 as',
    ),
    testFile: SURGES_TEST,
    test: '1,000 late results of a tenant are ordinary, and 1,001 are all set aside',
  },
  {
    name: 'what was set aside does not count in the next 24 hours',
    promise: 13,
    edits: one(
      LATE,
      "      where l.at > now() - interval '24 hours'\n      group by l.tenant_key",
      "      where l.at > now() - interval '24 hours'\n        and l.rule is null\n      group by l.tenant_key",
    ),
    testFile: SURGES_TEST,
    test: 'frees exactly what was counted, and a row that joins later does not ride along',
  },
  {
    name: 'all tenants together have no guard',
    promise: 13,
    edits: one(LATE, ') > j.surge_guard_all', ') > 100 * j.surge_guard_all'),
    testFile: WAYS_IN_TEST,
    test: 'late results of all tenants together are set aside, from the first above 10,000',
  },
  {
    name: 'what comes back from a hold is late only until the next walk',
    promise: 13,
    edits: one(
      DUE,
      'case when e.ended > n.seen_at - s.release_spread then least(n.seen_at, e.ended) else n.seen_at end',
      'n.seen_at',
    ),
    testFile: ALLOWANCES_TEST,
    test: 'that is released grants what is due, says how many, and all come back',
  },
  {
    name: 'a surge is released whatever number is expected',
    promise: 13,
    edits: one(SURGE, 'if v_found <> p_expected then', 'if false then'),
    testFile: SURGES_TEST,
    test: 'is refused with another number, or none, and changes nothing',
  },
  {
    name: 'an allowance is never dropped',
    promise: 13,
    edits: one(ALLOWANCE, '      or a.walk_at <= p_began_at\n', '      or false\n'),
    testFile: ALLOWANCES_TEST,
    test: 'an allowance that no result has used is dropped by the next complete walk',
  },
  {
    name: 'a policy that goes back and forth grants each time',
    promise: 13,
    edits: one(
      ALLOWANCE,
      '          when a.counted_from < s.counted_to and a.counted_to > s.counted_from\n',
      '          when false\n',
    ),
    testFile: ALLOWANCES_TEST,
    test: 'a policy that goes back and forth grants once',
  },
  {
    name: 'late results are judged before the walk is complete',
    promise: 13,
    edits: one(PASS, '  if not v_more then\n', '  if true then\n'),
    testFile: WAYS_IN_TEST,
    test: 'a walk that is not complete shows what it has parked, and lets nothing of it go',
  },
  {
    name: 'a narrowed reconcile passes the guard by',
    promise: 13,
    edits: one(
      SELECT,
      'case when not p_early then p_expected end',
      '(select count(*) from retention.selection)',
    ),
    testFile: WAYS_IN_TEST,
    test: 'a narrowed reconcile sets them aside, and takes what was on time',
  },
  {
    name: 'a result that is held leaves its surge',
    promise: 13,
    edits: one(
      SURGE,
      'and coalesce(r.due_at < p_found_at, false)',
      'and coalesce(r.due_at < p_found_at, false) and r.is_due',
    ),
    testFile: WAYS_IN_TEST,
    test: 'a held result stays in its surge, and the end of its hold releases nothing',
  },
  {
    name: 'the policies can be emptied at once',
    promise: 13,
    edits: one(NOT_EMPTIED, "array['policy', 'batch'", "array['batch'"),
    testFile: 'test/database/emptied-tables.test.ts',
    test: 'policies, settings and what the reactor knows of itself cannot be emptied at once',
  },
];
