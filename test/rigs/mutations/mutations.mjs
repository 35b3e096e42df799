import { codeMutations } from './code-mutations.mjs';
import { keeperMutations } from './promise-13-keepers.mjs';
import { orphanMutations } from './promise-13-orphans.mjs';
import { peopleMutations } from './promise-13-people.mjs';
import { looksMutations } from './looks-mutations.mjs';
import { leftoverMutations } from './leftover-mutations.mjs';
import { scopeMutations } from './promise-13-scope.mjs';
import { surgeMutations } from './promise-13-surges.mjs';
import { receiptMutations } from './promise-14-receipts.mjs';
import { adoptionMutations, claimMutations, schemaMutations } from './schema-mutations.mjs';
import { historyMutations } from './promise-14-history.mjs';
import { copyMutations } from './promise-13-copies.mjs';
import { sealMutations } from './promise-14.mjs';
import { stampMutations } from './stamp-mutations.mjs';
import { verifyMutations } from './verify-mutations.mjs';

/** Every way of breaking a promise that is known, in the order of the promises. */
export const mutations = [
  ...claimMutations,
  ...adoptionMutations,
  ...schemaMutations,
  ...stampMutations,
  ...copyMutations,
  ...orphanMutations,
  ...leftoverMutations,
  ...looksMutations,
  ...codeMutations,
  ...keeperMutations,
  ...peopleMutations,
  ...scopeMutations,
  ...surgeMutations,
  ...sealMutations,
  ...receiptMutations,
  ...historyMutations,
  ...verifyMutations,
].toSorted((one, other) => one.promise - other.promise);

export function titleOf({ test }) {
  return typeof test === 'string' ? test : test[0].replace('%s', test[1]);
}
