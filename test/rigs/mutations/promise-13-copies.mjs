const FENCE_TEST = 'test/database/fence.test.ts';
const COPIES_TEST = 'test/database/copies.test.ts';
const IDENTITY = 'migrations/functions/04_identity.sql';
const PROOF = 'src/reactor/fence-proof.ts';
const COPY_TOLD =
  'a copy that looks identical claims nothing in ten minutes and is told; the original goes on';

/** Promise 13: a copy of the database deletes nothing. */
export const copyMutations = [
  {
    name: 'the gate does not ask whether this is a copy',
    promise: 13,
    edits: [
      {
        file: 'migrations/functions/05_gate.sql',
        search: '  from retention._copy_reason() c;\n',
        replace: '  from retention._copy_reason() c\n  where false;\n',
      },
    ],
    testFile: COPIES_TEST,
    test: [
      '%s is a copy: nothing is flagged or claimed, and it says what differs',
      'another database',
    ],
  },
  {
    name: 'an installation writes the identity again',
    promise: 13,
    edits: [
      {
        file: IDENTITY,
        search: '  on conflict (singleton) do nothing\n',
        replace:
          '  on conflict (singleton) do update set database_oid = excluded.database_oid, database_name = excluded.database_name\n',
      },
      {
        file: IDENTITY,
        search: '  where not exists (select from retention.installed)\n',
        replace: '  where true\n',
      },
    ],
    testFile: COPIES_TEST,
    test: 'is written down when it is adopted, and migrate up never writes it again',
  },
  {
    name: 'a token that is merely known is enough to claim',
    promise: 13,
    edits: [
      {
        file: PROOF,
        search: 'if (!isRenewedHere && !isLeft && !released) {',
        replace: 'if (token === undefined) {',
      },
    ],
    testFile: FENCE_TEST,
    test: COPY_TOLD,
  },
  {
    name: 'a fence is held for ever once it was held',
    promise: 13,
    edits: [
      {
        file: PROOF,
        search: 'return this.#isProven && now < this.#validUntil;',
        replace: 'return this.#isProven && now >= 0;',
      },
    ],
    testFile: FENCE_TEST,
    test: 'a listener that was suspended for twenty minutes claims nothing before it has looked again',
  },
  {
    name: 'an unknown token closes no gate',
    promise: 13,
    edits: [
      {
        file: 'migrations/functions/24_fence.sql',
        search: '    perform retention._note_lost_fence(because);\n',
        replace: '',
      },
    ],
    testFile: FENCE_TEST,
    test: COPY_TOLD,
  },
  {
    name: 'a process takes any loss for that of a failover',
    promise: 13,
    edits: [
      {
        file: 'migrations/functions/24_fence.sql',
        search: '    and v_fence.tokens[1] = any (p_remembered)\n',
        replace: '',
      },
    ],
    testFile: FENCE_TEST,
    test: 'a recovery to an hour ago is no lost second, also for the process that goes on',
  },
  {
    name: 'who takes the fence claims at once',
    promise: 13,
    edits: [
      {
        file: 'src/reactor/fence.ts',
        search: '      this.#proof.taken(token, (judged.newest ?? 0) + 1, now);\n',
        replace: '      this.#proof.renewed(startedAt);\n',
      },
    ],
    testFile: FENCE_TEST,
    test: 'halts the original, says so there, and the copy claims only when the original has stopped',
  },
  {
    name: 'S3 is asked although the fence was lost after the claim',
    promise: 13,
    edits: [
      {
        file: 'src/reactor/batch-deletion.ts',
        search: '  if (whyNot !== undefined) return notAsked(',
        replace: "  if (whyNot === '') return notAsked(",
      },
    ],
    testFile: FENCE_TEST,
    test: 'a worker claims nothing without it, and asks S3 nothing when it is lost after the claim',
  },
];
