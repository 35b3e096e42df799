/*
Promise 13: a slip is not a deletion. Keepers, and the version that a row names.
*/

const one = (file, search, replace) => [{ file, search, replace }];

const FUNCTIONS = 'migrations/functions/';
const KEEPERS = 'test/database/keepers.test.ts';
const FAULTS = 'test/database/keeper-faults.test.ts';
const ETAGS = 'test/database/conditional.test.ts';
const S3 = 'test/unit/s3-conditional.test.ts';

export const keeperMutations = [
  {
    name: 'a claim asks no keeper',
    promise: 13,
    edits: one(
      `${FUNCTIONS}09_spared.sql`,
      'if cardinality(p_keys) > 0 and exists (select from retention.keeper) then',
      'if false then',
    ),
    testFile: KEEPERS,
    test: 'is not deleted, and its result is spared with the reason',
  },
  {
    name: 'a row of a keeper whose date has passed keeps its object',
    promise: 13,
    edits: one(
      `${FUNCTIONS}08_keeper_asked.sql`,
      "and coalesce(%5$s, ''infinity'') > now()",
      "and coalesce(%5$s, ''infinity'') > ''-infinity''",
    ),
    testFile: KEEPERS,
    test: 'is kept until the date of its row, and not after it',
  },
  {
    name: 'a keeper that cannot be asked is passed by',
    promise: 13,
    edits: one(
      `${FUNCTIONS}08_keeper_asked.sql`,
      '  where retention._is_keeper_as_seen(k) is not true\n    and f.fault is not null',
      '  where false',
    ),
    testFile: FAULTS,
    test: [
      'that %s afterwards keeps everything: nothing is flagged or deleted until a person has looked',
      'is dropped',
    ],
  },
  {
    name: 'an index that is not valid is good enough for a keeper',
    promise: 13,
    edits: one(
      `${FUNCTIONS}08_keeper.sql`,
      '          and i.indisvalid\n          and i.indisready',
      '          and i.indisready',
    ),
    testFile: FAULTS,
    test: [
      'whose only index is %s is refused, with the statement that makes one',
      'one that is not valid',
    ],
  },
  {
    name: 'a dry run shows what a keeper has',
    promise: 13,
    edits: one(
      `${FUNCTIONS}14_list_few.sql`,
      'unnest(retention._without_kept(p_rows)) with',
      'unnest(p_rows) with',
    ),
    testFile: KEEPERS,
    test: 'is in no dry run, and no narrowed or early reconcile takes it',
  },
  {
    name: 'what has changed is flagged again at every pass',
    promise: 13,
    edits: one(
      `${FUNCTIONS}09_spared.sql`,
      'and (o.kept_by is not null or o.etag = retention._object_condition(p_bucket, p_key))',
      'and o.kept_by is not null',
    ),
    testFile: ETAGS,
    test: 'that has changed is not asked for at every pass: it waits an hour, then twice as long',
  },
  {
    name: 'a star is an etag, and any version meets it',
    promise: 13,
    edits: one(
      `${FUNCTIONS}09_spared.sql`,
      "|[A-Za-z0-9+/=_.:~-]+)$' then",
      "|[A-Za-z0-9+/=_.:~*-]+)$' then",
    ),
    testFile: ETAGS,
    test: ['that is none is kept, since S3 could not tell which version is meant: %s', '*'],
  },
  {
    name: 'an object that has changed counts as failed',
    promise: 13,
    edits: one(
      `${FUNCTIONS}10_settle.sql`,
      'p_failed @> \'[{"outcome": "changed"}]\'',
      'p_failed @> \'[{"outcome": "never"}]\'',
    ),
    testFile: ETAGS,
    test: 'that has changed in S3 is spared: not stamped, not failed, and told',
  },
  {
    name: 'a key that goes alone goes whatever its version',
    promise: 13,
    edits: one(
      'src/objects/s3/delete-requests.ts',
      '...(etag === undefined ? {} : { IfMatch: quote(etag) }),',
      '',
    ),
    testFile: S3,
    test: 'goes as If-Match where a key goes alone',
  },
  {
    name: 'a store that refuses etags is asked again without them',
    promise: 13,
    edits: one(
      'src/objects/s3/deletion.ts',
      'throw learnRefusal(bucket, keys, call, error);',
      'return this.#deleteAll(bucket, keys, { ...call, etags: undefined });',
    ),
    testFile: S3,
    test: [
      'and says %s deletes nothing: it is learned, and a person decides',
      '501 NotImplemented',
    ],
  },
];
