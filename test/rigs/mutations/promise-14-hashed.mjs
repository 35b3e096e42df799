const HASHED = 'migrations/functions/10_hashed_keys.sql';
const LEAVES = 'migrations/functions/26_leaves.sql';
const INVENTED = 'migrations/functions/28_invented.sql';
const HASHED_TEST = 'test/database/hashed-keys.test.ts';

const one = (file, search, replace) => [{ file, search, replace }];

/** Promise 14: keys that are hashed, the length of the policy, and receipts that were invented. */
export const hashedMutations = [
  {
    name: 'a hashed key has no salt',
    promise: 14,
    edits: one(
      HASHED,
      '      retention._leaf_salt(p_salt, u.n)\n        || convert_to(',
      '      convert_to(',
    ),
    testFile: HASHED_TEST,
    test: 'from its seal on a receipt holds no key: likely keys find nothing without the salt, and the row’s own key still matches',
  },
  {
    name: 'any key of the row passes for the one that was hashed',
    promise: 14,
    edits: one(
      HASHED,
      '      and retention._hashed_key(retention._leaf_salt(p_salt, p_place), r.key::text) = p_kept\n',
      '',
    ),
    testFile: HASHED_TEST,
    test: 'from its seal on a receipt holds no key: likely keys find nothing without the salt, and the row’s own key still matches',
  },
  {
    name: 'a leaf leaves out how long the policy kept its result',
    promise: 14,
    edits: one(
      LEAVES,
      "      coalesce(s.policies ->> u.tenant_id, s.policies ->> '*')\n",
      '      null\n',
    ),
    testFile: 'test/database/receipts.test.ts',
    test: 'a receipt says how long the policy kept each result, whatever becomes of the policy, or after how long a person asked for it',
  },
  {
    name: 'a receipt without a claim behind it passes',
    promise: 14,
    edits: one(
      INVENTED,
      'when b.leased_at is null and b.deleted_at is null then',
      'when false then',
    ),
    testFile: 'test/database/proof-verify.test.ts',
    test: 'names a receipt that was invented for the present: by its number, its claim, its session and its times',
  },
];
