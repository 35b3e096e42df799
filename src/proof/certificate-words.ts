/** What may become of a result of the population, in the order of the certificate, each in words for its reader. */
export const CATEGORIES: Readonly<Record<string, string>> = {
  gone: 'deleted, and a receipt says so',
  held: 'kept: a hold covers it',
  dead: 'not deleted: every attempt failed, and it waits for a person',
  shared: 'kept: another run that may not go yet needs the same object',
  kept: 'kept: another table of the application needs the object',
  surge: 'set aside: it fell due unexpectedly, and waits for a person to release it',
  not_yet: 'not deleted yet: it waits for its turn',
  spared: 'kept: the store holds another version of the object than the run wrote',
  without_place: 'nothing could be deleted: the row names no object that a store can hold',
  unreadable: 'not deleted: its row cannot be read, so no pass takes it',
  stamped_before_adoption: 'stamped before this product was adopted, so without a receipt',
  stamped_receipt_pruned: 'stamped, and the time for which receipts are kept is over',
  stamped_without_receipt: 'stamped without a receipt: by hand, or by another program',
  unstamped: 'deleted, as a receipt says, but the row has no stamp any more',
};

/** What is counted beside the population: what happened in the period to other results. */
export const BESIDE: Readonly<Record<string, string>> = {
  early: 'deleted in the period before it fell due, because a person asked for it',
  due_outside: 'deleted in the period, and by the rule of today it falls due outside it',
  row_gone: 'deleted in the period, and the application has removed the row since',
  earlier: 'deleted in the period, and restored or written again since',
  restored: 'brought back in the period',
  stamp_taken_away: 'its stamp was taken away in the period',
};

/** How objects ended, by what the store said: behind their number. */
export const ENDS: Readonly<Record<string, string>> = {
  deleted: 'named as deleted by the store',
  gone: 'already gone, as the store said',
  marker: 'covered with a delete marker',
  purged: 'deleted with every version',
};

/** Why results went, behind their number. */
export const KINDS: Readonly<Record<string, string>> = {
  policy: 'by the policy',
  early: 'asked for before their time',
  verify: 'whose object had come back',
  after_restore: 'restored before, and due again',
  found_gone: 'whose object was found gone',
};

/** How the figures come about. */
export const METHOD = [
  'Every completed run of the tenant that fell due in the period, by the rule that is in force now, is counted once by the query below. What became of each was read in the same snapshot of the database.',
  'A result counts as deleted only where a receipt names it. A receipt is written after the store has named the key as deleted, or as already gone, and in the transaction that stamps the row.',
  'Receipts are sealed: each seal is a SHA-256 digest over receipts, changes and the seal before it. Changing, removing or inventing a receipt changes the head, which is written down outside the database.',
  'leaves.jsonl shows the share of this tenant of each receipt, with the salts of its results. Of others it holds salted digests alone. CHECK.md says how to recompute all of it.',
];

/** How keys are kept where they are hashed. */
export const HASHED_KEYS =
  'Receipts keep a salted digest of each key in place of the key, so this certificate shows no key. Who has a key can have it compared with its digest, as long as the receipt is kept.';

/** What no certificate can say, whatever was deleted. */
export const NOT_COVERED = [
  'Backups of the store and of the database, and copies elsewhere, such as replicas in another bucket or region: this product neither knows nor deletes them.',
  'Versions that a bucket keeps beside the current one, of results that were covered with a delete marker.',
  'Whether the store really removed what it named as deleted.',
  'Results that the application never wrote down as rows.',
];
