const FOLDER = 'migrations/functions';
const CEILINGS = `${FOLDER}/08_ceilings.sql`;
const TEST = 'test/database/ceilings.test.ts';

/** Promise 11: cost follows the work; a ceiling that a person has set is kept by all together. */
export const ceilingMutations = [
  {
    name: 'what a ceiling did not use is saved up',
    promise: 11,
    edits: [
      {
        file: CEILINGS,
        search: "        clock_timestamp() - interval '125 milliseconds'\n",
        replace: "        clock_timestamp() - interval '1 hour'\n",
      },
    ],
    testFile: TEST,
    test: ['lets no burst go %s', 'after an hour without work'],
  },
  {
    name: 'the turn of a bucket is taken without its lock',
    promise: 11,
    edits: [
      {
        file: CEILINGS,
        search: ' for update skip locked;\n    if not found',
        replace: ';\n    if not found',
      },
    ],
    testFile: TEST,
    test: 'is kept by claims that come all at once',
  },
  {
    name: 'a bucket at its ceiling ends the claim for all',
    promise: 11,
    edits: [
      {
        file: `${FOLDER}/09_next_batch.sql`,
        search: "      continue when v_turn <> 'go';\n",
        replace: "      exit when v_turn <> 'go';\n",
      },
    ],
    testFile: TEST,
    test: 'holds up no other bucket, and each has its own',
  },
];
