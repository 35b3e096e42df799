import type { HealthFacts } from '../../store/diagnosis.ts';
import { checkBuckets } from './bucket-checks.ts';
import { checkCanaries } from './canary-check.ts';
import { checkStandingVerify } from './standing-check.ts';
import { type Check, type Findings, attempt, ok } from './check.ts';
import { checkClock } from './clock-check.ts';
import { checkConnections, checkListening, checkSchema } from './connection-checks.ts';
import { checkOutlook } from './outlook-checks.ts';
import type { DoctorPorts } from './ports.ts';
import { checkScheduler } from './scheduler-checks.ts';
import { checkSchemaHealth } from './schema-checks.ts';
import { checkAllowed, checkStored } from './variable-checks.ts';

/**
 * Looks at everything that a reactor depends on. Changes nothing, except that it notes which
 * buckets keep versions, asks S3 to delete a key that does not exist, and where rows name etags tries once with a
 * small object of its own whether S3 minds them.
 *
 * Leaves out a check that cannot run because an earlier one failed; the report has that failure.
 */
export async function examine(ports: DoctorPorts): Promise<Findings> {
  const reached = await checkConnections(ports);
  const checks: Check[] = [checkVariables(ports), checkAllowed(ports), ...reached.checks];
  const { main, listen, migrate } = reached;
  // The owner of the schema sees more than a listener, such as its own job.
  const connection = migrate === undefined ? ports.main : ports.migrate;
  const reader = connection.diagnosis;
  let health: HealthFacts | undefined;
  let migrations: readonly string[] | undefined;

  if (main !== undefined && listen !== undefined) checks.push(...(await checkListening(ports)));
  if (main !== undefined || migrate !== undefined) {
    const schema = await checkSchema(connection);
    ({ migrations } = schema);
    checks.push(...schema.checks);
  }
  if (main !== undefined && migrations !== undefined) {
    const reading = await attempt('settings', async () => {
      health = await reader.readHealth();
      return [];
    });
    checks.push(
      ...reading,
      ...(await checkStored(reader, ports.stored)),
      ...(await checkClock(reader)),
      ...(await checkSchemaHealth(ports, reader, health, main.role)),
    );
    if (health !== undefined) {
      checks.push(...(await checkScheduler(ports, reader, health, main.database)));
      checks.push(...(await checkOutlook(reader)), ...(await checkCanaries(reader)));
      checks.push(...(await checkStandingVerify(reader)));
    }
  }
  const { inspection, listing, place, allowedBuckets } = ports;
  const buckets = {
    inspection,
    listing,
    place,
    allowedBuckets,
    health,
    reader: migrations === undefined ? undefined : reader,
  };
  checks.push(...(await checkBuckets(buckets)));
  return { ok: checks.every(({ state }) => state !== 'failed'), checks };
}

/** What the environment says; faults in it have ended the command before. */
function checkVariables({ given }: DoctorPorts): Check {
  return ok('variables', [...given].map(([variable, value]) => `${variable}=${value}`).join(', '));
}
