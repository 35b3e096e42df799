import { explain, gate, history, readConfig, status, upcoming } from 'retention-reactor';

const config = readConfig(process.env);

const { due, flagged, dead } = await status({ config });
console.log(`${due} due, ${flagged} flagged, ${dead} dead`);

for (const { because, remedy } of await gate({ config })) {
  console.log(`Nothing is deleted: ${because}. Remedy: ${remedy}`);
}

for (const { run_id, state, because } of await explain({ config, runIds: ['run-1'] })) {
  console.log(`${run_id} is ${state}: ${because}`);
}

for (const { day, tenant_id, results } of await upcoming({ config, days: 30 })) {
  console.log(`${day}: ${results} results of ${tenant_id}`);
}

for (const { at, what, done_by } of await history({ config, tenantId: 'acme', limit: 10 })) {
  console.log(`${at.toISOString()} ${what}, by ${done_by}`);
}
