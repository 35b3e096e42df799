import { showCount, showNumber } from '../../numbers.ts';
import {
  type Diagnosis,
  type HealthFacts,
  MOST_UNDATED,
  type RightsFacts,
  type TableFacts,
} from '../../store/diagnosis.ts';
import { type Check, attempt, failed, ok, warning } from './check.ts';
import type { DoctorPorts } from './ports.ts';

/** NOTIFY fails for everybody when its queue is full; announcements fall silent at half of it. */
const QUEUE_FAILED = 0.5;
const QUEUE_WARNING = 0.1;

/** What the schema, the adopted table and the settings say. */
export async function checkSchemaHealth(
  ports: DoctorPorts,
  reader: Diagnosis,
  health: HealthFacts | undefined,
): Promise<readonly Check[]> {
  const checks: Check[] = [];
  checks.push(
    ...(await attempt('rights', async () => checkRights(await ports.main.diagnosis.readRights()))),
  );
  const table = await attempt('table', async () => {
    const facts = await reader.readTable();
    return [checkRowSecurity(facts), checkIndexes(facts)];
  });
  checks.push(...table);
  if (health !== undefined) {
    checks.push(
      ...(await checkGate(reader)),
      checkTimeZones(health),
      checkQueue(health),
      checkPolicies(health),
      ok('holds', showCount(health.holds, 'active hold')),
      checkDead(health),
    );
  }
  checks.push(...(await attempt('dates', () => checkDates(reader))), checkLease(ports));
  return checks;
}

function checkRights(facts: RightsFacts): Check {
  const name = 'rights';
  const { role, owner, missing, missingForOperators } = facts;
  const remedy =
    `As ${owner}: select retention.grant_rights('${role.replaceAll("'", "''")}'); ` +
    `or migrate up with RETENTION_ROLE=${role}. In single rights: ` +
    [...missing, ...missingForOperators].map((right) => `grant ${right} to "${role}"`).join('; ');
  if (missing.length > 0) {
    return failed(name, `role ${role}, a listener's, lacks ${missing.join(', ')}`, remedy);
  }
  if (missingForOperators.length > 0) {
    return warning(
      name,
      `role ${role} may listen, but lacks what other commands need: ${missingForOperators.join(', ')}`,
      remedy,
    );
  }
  return ok(name, `role ${role} has what a listener and its operators need`);
}

function checkRowSecurity(facts: TableFacts): Check {
  const name = 'row-level security';
  const { table, tableOwner, viewOwner, rowSecurity, isFiltered, policies } = facts;
  if (rowSecurity === 'off') return ok(name, `${table} has none`);
  const kind = rowSecurity === 'forced' ? 'forced' : 'on';
  if (!isFiltered) {
    return ok(name, `${kind} for ${table}; ${viewOwner}, who owns the adapter view, is above it`);
  }
  const remedy =
    rowSecurity === 'forced' && viewOwner === tableOwner
      ? `alter table ${table} no force row level security; or, as a superuser: alter role "${viewOwner}" bypassrls;`
      : `As a superuser: alter role "${viewOwner}" bypassrls; or: alter view retention.result owner to "${tableOwner}";`;
  if (policies === 0) {
    return failed(
      name,
      `${kind} for ${table}, and no policy lets ${viewOwner}, who owns the adapter view, see a row: nothing is ever due`,
      remedy,
    );
  }
  return warning(
    name,
    `${kind} for ${table}, also for ${viewOwner}, who owns the adapter view: rows that its policies hide are never found`,
    remedy,
  );
}

function checkIndexes(facts: TableFacts): Check {
  const name = 'indexes';
  const bad = facts.indexes.filter(({ state }) => state !== 'valid');
  if (bad.length === 0) {
    return ok(name, facts.indexes.map((index) => `${index.name} is valid`).join(', '));
  }
  return failed(
    name,
    `on ${facts.table}: ${bad.map((index) => `${index.name} is ${index.state}`).join(', ')}; passes read the whole table`,
    'Build them again, concurrently; no work is lost: retention migrate up',
  );
}

async function checkGate(reader: Diagnosis): Promise<readonly Check[]> {
  const name = 'gate';
  const reasons = await reader.readGate();
  if (reasons.length === 0)
    return [ok(name, 'nothing keeps results from being flagged and deleted')];
  return reasons.map(({ reason, because, since, remedy }) => {
    const found = `nothing is flagged and nothing deleted: ${because}`;
    const dated = since === null ? found : `${found} (since ${since.toISOString()})`;
    const isMeant = reason === 'disabled' || reason === 'halted';
    return isMeant
      ? warning(name, dated, `When it is to work again: ${remedy}`)
      : failed(name, dated, remedy);
  });
}

function checkTimeZones(health: HealthFacts): Check {
  const name = 'time zones';
  const { naiveColumns } = health;
  if (naiveColumns.length === 0) return ok(name, 'every date of the table has a time zone');
  return warning(
    name,
    `read and written as UTC, since they have no time zone: ${naiveColumns.join(', ')}`,
    'Make sure that the application means UTC there; if it means local time, results fall due hours early or late.',
  );
}

function checkQueue(health: HealthFacts): Check {
  const name = 'notification queue';
  const found = `${(health.notifyQueueUsage * 100).toFixed(1)} % full`;
  const remedy =
    "End the session that holds it up: select pid, application_name, xact_start from pg_stat_activity where state like 'idle in transaction%' order by xact_start;";
  if (health.notifyQueueUsage > QUEUE_FAILED) {
    return failed(
      name,
      `${found}: announcements are silent, and a full queue fails commits`,
      remedy,
    );
  }
  return health.notifyQueueUsage > QUEUE_WARNING ? warning(name, found, remedy) : ok(name, found);
}

function checkPolicies(health: HealthFacts): Check {
  const name = 'policies';
  const { pendingPolicies } = health;
  const found =
    `${days(health.defaultRetainDays)} by default, ` +
    `${showCount(health.tenantPolicies, 'tenant has its', 'tenants have their')} own`;
  if (pendingPolicies.length === 0) return ok(name, found);
  return warning(
    name,
    `${found}; waiting for a confirmation: ${pendingPolicies.join('; ')}`,
    'Confirm with: retention policy confirm; or withdraw by setting what is in force.',
  );
}

function checkDead(health: HealthFacts): Check {
  const name = 'dead results';
  const { dead } = health;
  if (dead.length === 0) return ok(name, 'none');
  const total = dead.reduce((sum, { results }) => sum + results, 0);
  const codes = dead.map(({ code, results }) => `${code} (${showNumber(results)})`);
  const [first] = dead;
  return failed(
    name,
    `${total >= 10_000 ? 'at least ' : ''}${showCount(total, 'result')} failed too often: ${codes.join(', ')}`,
    `Fix the cause (retention explain RUN tells it), then revive them: retention retry --code ${first?.code}`,
  );
}

async function checkDates(reader: Diagnosis): Promise<Check> {
  const name = 'dates';
  const { results, runIds } = await reader.readUndated();
  if (results === 0) return ok(name, 'every completed run says when it completed');
  return warning(
    name,
    `${results >= MOST_UNDATED ? 'at least ' : ''}${showCount(results, 'run is', 'runs are')} COMPLETED ` +
      `without a date and never fall due, such as ${runIds.join(', ')}`,
    'Set their completion dates.',
  );
}

function checkLease({ leaseSeconds, s3BudgetSeconds }: DoctorPorts): Check {
  const name = 'lease';
  const found = `a lease lasts ${leaseSeconds} s, one S3 call ${s3BudgetSeconds} s at most with its retries`;
  if (leaseSeconds > s3BudgetSeconds) return ok(name, found);
  return failed(name, found, 'Raise RETENTION_LEASE_SECONDS above that.');
}

function days(number: number): string {
  return showCount(Number(number.toFixed(2)), 'day');
}
