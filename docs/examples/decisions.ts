import {
  listSurges,
  placeHolds,
  previewPolicy,
  readConfig,
  releaseHolds,
  releaseSurge,
  setPolicy,
} from 'retention-reactor';

const config = readConfig(process.env);

const holds = await placeHolds({ config, tenantIds: ['acme'], reason: 'case 114' });
for (const { too_late } of holds) console.log(`${too_late} results could not be called back`);
await releaseHolds({ config, holdIds: holds.map(({ hold_id }) => hold_id) });

// A person looks at the number, and the number is confirmed with it.
const shorter = { config, tenantId: 'acme', retainDays: 7 };
const newlyDue = await previewPolicy(shorter);
console.log(`${newlyDue.reduce((sum, { results }) => sum + results, 0)} results fall due`);
await setPolicy({ ...shorter, confirmed: true });

for (const { surge_id: surgeId, results } of await listSurges({ config })) {
  if (surgeId !== null) await releaseSurge({ config, surgeId, expected: results });
}
