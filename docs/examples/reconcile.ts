import { preview, readConfig, reconcile } from 'retention-reactor';

const config = readConfig(process.env, { command: 'reconcile' });
const selection = { tenantId: 'acme' };

for (const { bucket, results } of await preview({ config, selection })) {
  console.log(`${results} results in ${bucket} would go`);
}

const { cleared, failed, waiting } = await reconcile({ config, selection });
console.log(`${cleared} cleared, ${failed} failed`);
for (const { results, reason } of waiting) console.log(`${results} wait: ${reason}`);
