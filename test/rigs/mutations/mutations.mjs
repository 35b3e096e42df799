import { codeMutations } from './code-mutations.mjs';
import { adoptionMutations, claimMutations, schemaMutations } from './schema-mutations.mjs';
import { copyMutations } from './promise-13-copies.mjs';
import { stampMutations } from './stamp-mutations.mjs';

/** Every way of breaking a promise that is known, in the order of the promises. */
export const mutations = [
  ...claimMutations,
  ...adoptionMutations,
  ...schemaMutations,
  ...stampMutations,
  ...copyMutations,
  ...codeMutations,
].toSorted((one, other) => one.promise - other.promise);

export function titleOf({ test }) {
  return typeof test === 'string' ? test : test[0].replace('%s', test[1]);
}
