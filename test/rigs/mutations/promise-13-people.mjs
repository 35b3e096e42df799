const FOLDER = 'migrations/functions';
const TWO_PEOPLE = `${FOLDER}/05_two_people.sql`;
const GUARDS = `${FOLDER}/13_guards.sql`;
const COOL_OFF = `${FOLDER}/13_cool_off.sql`;
const FOUR_EYES_TEST = 'test/database/four-eyes.test.ts';
const COOL_OFF_TEST = 'test/database/cool-off.test.ts';

/** Promise 13, as far as people keep it: four eyes, roles, the cool-off, and what is said of the days to come. */
export const peopleMutations = [
  {
    name: 'an approval covers another number',
    promise: 13,
    edits: [
      {
        file: TWO_PEOPLE,
        search: '    and a.what = p_what\n    and a.asked_by = session_user\n    and a.approved_by',
        replace: '    and a.asked_by = session_user\n    and a.approved_by',
      },
    ],
    testFile: FOUR_EYES_TEST,
    test: 'what differs by one is another act',
  },
  {
    name: 'an approval serves twice',
    promise: 13,
    edits: [
      {
        file: TWO_PEOPLE,
        search: "and p_kind in ('policy', 'setting', 'purge', 'hold', 'keeper'))",
        replace: 'or true)',
      },
    ],
    testFile: FOUR_EYES_TEST,
    test: ['%s is approved by its numbers, and only once', 'surge'],
  },
  {
    name: 'whoever approved may do it',
    promise: 13,
    edits: [
      {
        file: TWO_PEOPLE,
        search: '    and a.asked_by = session_user\n    and a.approved_by <> session_user\n',
        replace: '    and a.approved_by is not null\n',
      },
    ],
    testFile: FOUR_EYES_TEST,
    test: ['%s needs two people, and goes once when approved', 'the release of a hold'],
  },
  {
    name: 'a guard is switched off by one person',
    promise: 13,
    edits: [
      {
        file: GUARDS,
        search: 'coalesce(new.surge_guard > old.surge_guard, true)',
        replace: 'coalesce(new.surge_guard > old.surge_guard, false)',
      },
    ],
    testFile: FOUR_EYES_TEST,
    test: ['%s needs two people, and goes once when approved', 'a guard switched off'],
  },
  {
    name: 'a hold is made shorter by one person',
    promise: 13,
    edits: [
      {
        file: GUARDS,
        search: '        retention._hold_end(new.released_at, new.expires_at) >=',
        replace:
          '        new.released_at is null or retention._hold_end(new.released_at, new.expires_at) >=',
      },
    ],
    testFile: FOUR_EYES_TEST,
    test: [
      'also where it is written directly: %s',
      "update retention.hold set expires_at = now() + interval '1 minute'",
    ],
  },
  {
    name: 'a longer cool-off holds for what is flagged later alone',
    promise: 13,
    edits: [
      {
        file: COOL_OFF,
        search: '  if v_after = v_before then',
        replace: '  if v_after >= v_before then',
      },
    ],
    testFile: COOL_OFF_TEST,
    test: 'a longer one holds at once for what is flagged and waits',
  },
  {
    name: 'a pass under way flags by the former cool-off',
    promise: 13,
    edits: [{ file: COOL_OFF, search: '  perform retention._take_pass_lock();\n', replace: '' }],
    testFile: COOL_OFF_TEST,
    test: 'also where a pass is flagging while it is set',
  },
  {
    name: 'a corrected clock cuts the cool-off',
    promise: 13,
    edits: [
      {
        file: `${FOLDER}/23_clock.sql`,
        search: "then coalesce(v_setting.cool_off, '0')",
        replace: "then interval '0'",
      },
    ],
    testFile: COOL_OFF_TEST,
    test: 'the clock that brings back what lies too far ahead does not cut it',
  },
  {
    name: "the listener does operators' work",
    promise: 13,
    edits: [
      {
        file: `${FOLDER}/19_rights.sql`,
        search: "('operators', 'operator'))",
        replace: "('operators', 'listener'))",
      },
    ],
    testFile: 'test/database/roles.test.ts',
    test: 'the variables name them, and doctor says who may what',
  },
  {
    name: 'a result in flight may be shown',
    promise: 13,
    edits: [
      {
        file: `${FOLDER}/16_readable.sql`,
        search: '    where b.lease is not null\n',
        replace: '    where b.lease is not null and false\n',
      },
    ],
    testFile: 'test/database/readable.test.ts',
    test: 'a held one is, as long as no deletion of it is on its way',
  },
  {
    name: 'what is to come forgets the holds that end',
    promise: 13,
    edits: [
      {
        file: `${FOLDER}/15_upcoming.sql`,
        search: '      where h.run_id = p_run_id\n',
        replace: '      where h.run_id = p_run_id and h.expires_at is null\n',
      },
    ],
    testFile: 'test/database/upcoming.test.ts',
    test: 'without a cool-off',
  },
];
