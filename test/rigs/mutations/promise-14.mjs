const SEALS_TEST = 'test/database/seals.test.ts';
const VERIFY_TEST = 'test/database/proof-verify.test.ts';
const WATCH_TEST = 'test/database/seal-watch.test.ts';
const LEAVES = 'migrations/functions/26_leaves.sql';
const SEAL = 'migrations/functions/27_seal.sql';
const SEALED = 'migrations/functions/27_sealed.sql';
const VERIFY = 'migrations/functions/28_verify_seals.sql';
const HEADS = 'migrations/functions/28_verify_heads.sql';

const one = (file, search, replace) => [{ file, search, replace }];

/** Promise 14: what went can be proven. */
export const sealMutations = [
  {
    name: 'a leaf leaves out how its result ended',
    promise: 14,
    edits: one(LEAVES, "      coalesce(u.how, 'deleted'),\n", "      'deleted',\n"),
    testFile: VERIFY_TEST,
    test: 'names a receipt of which anything was changed',
  },
  {
    name: 'a seal does not cover changes',
    promise: 14,
    edits: one(SEAL, '    where c.change_id = any (v_new.changes)\n', '    where false\n'),
    testFile: SEALS_TEST,
    test: 'also what happened outside a batch, and every change',
  },
  {
    name: 'a seal says that it is complete while a transaction is open',
    promise: 14,
    edits: one(
      SEAL,
      '    when not exists (\n      select from pg_snapshot_xip',
      '    when true or not exists (\n      select from pg_snapshot_xip',
    ),
    testFile: SEALS_TEST,
    test: 'and says up to when everything is, once every transaction that was open has ended',
  },
  {
    name: 'a copy of the database makes seals of its own',
    promise: 14,
    edits: one(SEAL, ' or exists (select from retention._copy_reason()) then', ' then'),
    testFile: SEALS_TEST,
    test: 'a copy of the database seals nothing: the numbers go on elsewhere',
  },
  {
    name: 'a sealed receipt may be deleted',
    promise: 14,
    edits: one(SEALED, ' and s.pruned_at is not null)\n', ')\n'),
    testFile: SEALS_TEST,
    test: 'also for the owner, and a change from the beginning',
  },
  {
    name: 'verify does not look for what was added to a seal',
    promise: 14,
    edits: one(VERIFY, '    full join (\n', '    left join (\n'),
    testFile: VERIFY_TEST,
    test: 'names what was added: to a seal, to a seal that is not there, and to none',
  },
  {
    name: 'verify takes any removed receipt for one that was pruned',
    promise: 14,
    edits: one(VERIFY, ' and s.pruned_at is not null as is_pruned', ' as is_pruned'),
    testFile: VERIFY_TEST,
    test: 'names what was removed: a receipt, a change, a seal in between',
  },
  {
    name: 'a seal is not a digest of its header',
    promise: 14,
    edits: one(
      LEAVES,
      "|| sha256(convert_to(p_header, 'UTF8')) || sha256(p_members)",
      '|| sha256(p_members)',
    ),
    testFile: VERIFY_TEST,
    test: 'names a seal of which anything was changed',
  },
  {
    name: 'the end is not compared with the latest seal',
    promise: 14,
    edits: one(
      HEADS,
      '  where (h.seal_id, h.digest) is distinct from',
      '  where false and (h.seal_id, h.digest) is distinct from',
    ),
    testFile: VERIFY_TEST,
    test: 'finds that the end was cut off: at once, and with a head also where the trace is removed',
  },
  {
    name: 'a head is compared by its number alone',
    promise: 14,
    edits: one(
      HEADS,
      "        when s.digest = p_digest then 'holds'\n",
      "        when s.seal_id is not null then 'holds'\n",
    ),
    testFile: VERIFY_TEST,
    test: 'finds with yesterday’s head that everything was rewritten from a point on, with new seals',
  },
  {
    name: 'an object of another seal is taken for this one',
    promise: 14,
    edits: one(
      'src/proof/seal-watch.ts',
      '    if (digestOf(found?.body) === head.digest) return;\n',
      '    if (found !== undefined) return;\n',
    ),
    testFile: WATCH_TEST,
    test: 'an object of another seal is not written over: seals were rewritten, or this is a copy',
  },
];
