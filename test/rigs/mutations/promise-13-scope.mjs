const SCOPE = 'migrations/functions/06_scope.sql';
const VARIABLES = 'migrations/functions/12_variables.sql';
const SCOPE_TEST = 'test/database/scope.test.ts';
const VARIABLES_TEST = 'test/database/variables.test.ts';
const ALLOWED_TEST = 'test/system/scope.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** Scope is said, the allow-list binds, and variables do not undo people. */
export const scopeMutations = [
  {
    name: 'nothing named means everything',
    promise: 13,
    edits: one(
      SCOPE,
      '  if not p_narrowed and p_all is not true then\n',
      '  if p_narrowed is null then\n',
    ),
    testFile: SCOPE_TEST,
    test: [
      'retention.%s is refused in one message, and changes nothing',
      "flag_selected(p_older_than => '1 day', p_early => true, p_expected => 1000)",
    ],
  },
  {
    name: 'an early deletion goes whatever number was expected',
    promise: 13,
    edits: one(
      SCOPE,
      '  if v_early > coalesce(p_expected, 0) then\n',
      '  if p_expected is null and v_early > 0 then\n',
    ),
    testFile: SCOPE_TEST,
    test: 'what has come in meanwhile is not confirmed with it',
  },
  {
    name: 'a variable as before undoes a person',
    promise: 13,
    edits: one(
      VARIABLES,
      '    when p_known.value = p_value and x.by_person\n',
      '    when p_known.value = p_value and x.by_person and false\n',
    ).concat(
      one(
        VARIABLES,
        "    when p_known.value = p_value\n    then 'it is as before'\n",
        '    when p_known.value = p_value\n    then null\n',
      ),
    ),
    testFile: VARIABLES_TEST,
    test: ['a pod %s does not switch on what a person has switched off', 'that started before'],
  },
  {
    name: 'a first variable undoes what a person had set before',
    promise: 13,
    edits: one(
      VARIABLES,
      '    when p_known.value is null and p_known.set_at is not null\n',
      '    when p_known.value is null and false\n',
    ),
    testFile: VARIABLES_TEST,
    test: [
      'the shipped variables do not take back a default policy that was set %s',
      'before the first start',
    ],
  },
  {
    name: 'a shorter default policy out of a variable goes by the guard of people',
    promise: 13,
    edits: one(VARIABLES, '        else 0\n', '        else 1000\n'),
    testFile: VARIABLES_TEST,
    test: 'a shorter one that makes a single result due waits for a person',
  },
  {
    name: 'processes with different variables take turns',
    promise: 13,
    edits: one(
      VARIABLES,
      "    when p_value = any (p_known.brought) and p_name <> 'retain'\n",
      '    when false\n',
    ),
    testFile: VARIABLES_TEST,
    test: 'two processes with different variables come to rest',
  },
  {
    name: 'verify stamps in a bucket that is not allowed',
    promise: 13,
    edits: one(
      'src/reactor/verify.ts',
      'allowedBuckets?.includes(bucket) !== false;',
      "allowedBuckets?.includes(bucket) !== false || bucket !== '';",
    ),
    testFile: ALLOWED_TEST,
    test: 'binds verify: no row of another bucket is stamped',
  },
];
