import { quoteIdentifier } from '../../config/sql-names.ts';
import { showCount, showNumber } from '../../numbers.ts';
import {
  type DeadResults,
  type Diagnosis,
  type HealthFacts,
  type IndexState,
  MOST_UNDATED,
  type MissingRight,
  type TableFacts,
} from '../../store/diagnosis.ts';
import { checkRoles } from './roles-check.ts';
import type { StampTrial } from '../../store/stamps.ts';
import { type Check, attempt, failed, ok, warning } from './check.ts';
import { checkFence } from './fence-check.ts';
import type { DoctorPorts } from './ports.ts';

/** NOTIFY fails for everybody when its queue is full; announcements fall silent at half of it. */
const QUEUE_FAILED = 0.5;
const QUEUE_WARNING = 0.1;

/** More rights than this are not told one by one: they are given together. */
const MOST_RIGHTS = 5;

/**
 * What the schema, the adopted table and the settings say.
 *
 * @param role the one that DATABASE_URL leads in as.
 */
export async function checkSchemaHealth(
  ports: DoctorPorts,
  reader: Diagnosis,
  health: HealthFacts | undefined,
  role: string,
): Promise<readonly Check[]> {
  const checks: Check[] = [];
  checks.push(
    ...(await attempt('rights', async () =>
      checkRights(role, await reader.readMissingRights(role)),
    )),
  );
  checks.push(...(await attempt('roles', async () => [checkRoles(await reader.readRoles())])));
  const table = await attempt('table', async () => {
    const facts = await reader.readTable();
    // While it is detached or gone, the gate says so.
    if (facts === undefined) return [];
    return [checkRowSecurity(facts), checkIndexes(facts.table_name, await reader.readIndexes())];
  });
  checks.push(...table, ...(await attempt('table', () => checkOddities(reader))));
  if (health !== undefined) {
    // Before the gate, which says what it showed.
    checks.push(...(await attempt('stamps', async () => checkStamps(await reader.tryStamp()))));
    checks.push(
      ...(await checkGate(reader)),
      ...(await attempt('fence', () => checkFence(reader, ports.fence))),
      checkTimeZones(health),
      checkQueue(health),
      checkPolicies(health),
      ok('holds', showCount(health.holds, 'active hold')),
      ...(await attempt('dead results', async () => checkDead(await reader.readDead()))),
    );
  }
  checks.push(...(await attempt('dates', () => checkDates(reader))), checkLease(ports));
  return checks;
}

function checkRights(role: string, lacking: readonly MissingRight[]): Check {
  const name = 'rights';
  const [first] = lacking;
  if (first === undefined) {
    return ok(name, `role ${role} has what its work needs`);
  }
  const told = lacking.slice(0, MOST_RIGHTS).map(({ missing }) => missing);
  const more = lacking.length - told.length;
  const together =
    `As ${first.granted_by}: select retention.grant_rights('${role.replaceAll("'", "''")}'); ` +
    `or migrate up with RETENTION_ROLE=${/^[a-z_][a-z0-9_]*$/u.test(role) ? role : `'${quoteIdentifier(role)}'`}.`;
  return failed(
    name,
    `role ${role} lacks ${told.join(', ')}${more === 0 ? '' : ` and ${showCount(more, 'more right')}`}`,
    more > 0
      ? together
      : `${together} In single rights: ${told.map((right) => `grant ${right} to ${quoteIdentifier(role)}`).join('; ')}`,
  );
}

/** What `retention init` looks at as well; row-level security has a check of its own. */
async function checkOddities(reader: Diagnosis): Promise<readonly Check[]> {
  const oddities = await reader.readOddities();
  return oddities.filter(({ name }) => name !== 'row-level security');
}

function checkRowSecurity(facts: TableFacts): Check {
  const name = 'row-level security';
  const { table_name: table, table_owner: tableOwner, view_owner: viewOwner, policies } = facts;
  if (facts.row_security === 'off') return ok(name, `${table} has none`);
  const kind = facts.row_security === 'forced' ? 'forced' : 'on';
  if (!facts.is_filtered) {
    return ok(name, `${kind} for ${table}; ${viewOwner}, who owns the adapter view, is above it`);
  }
  const remedy =
    facts.row_security === 'forced' && viewOwner === tableOwner
      ? `alter table ${table} no force row level security; or, as a superuser: alter role ${quoteIdentifier(viewOwner)} bypassrls;`
      : `As a superuser: alter role ${quoteIdentifier(viewOwner)} bypassrls; or: alter view retention.result owner to ${quoteIdentifier(tableOwner)};`;
  if (policies === 0) {
    return failed(
      name,
      `${kind} for ${table}, and no policy lets ${viewOwner}, who owns the adapter view, see a row: nothing is ever due`,
      remedy,
    );
  }
  return failed(
    name,
    `${kind} for ${table}, also for ${viewOwner}, who owns the adapter view: runs that its policies hide would not protect their objects`,
    remedy,
  );
}

function checkIndexes(table: string, indexes: readonly IndexState[]): Check {
  const name = 'indexes';
  const bad = indexes.filter((index) => !index.is_there);
  if (bad.length === 0) {
    return ok(name, indexes.map((index) => `${index.name} is valid`).join(', '));
  }
  return failed(
    name,
    `on ${table}: ${bad.map((index) => `${index.name} is missing`).join(', ')}; passes read the whole table`,
    'Build them again, concurrently; no work is lost: retention migrate up',
  );
}

function checkStamps({ works, code, message, context, remedy }: StampTrial): Check {
  const name = 'stamps';
  if (works === null) return ok(name, 'there is no live result to try a stamp on');
  if (works) return ok(name, 'a live row was stamped, and that was rolled back');
  const where = context === null ? '' : ` (${context})`;
  return failed(name, `a live row could not be stamped: ${code} ${message}${where}`, remedy ?? '');
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
  const { naive_columns: naiveColumns } = health;
  if (naiveColumns.length === 0) return ok(name, 'every date of the table has a time zone');
  return warning(
    name,
    `read and written as UTC, since they have no time zone: ${naiveColumns.join(', ')}`,
    'Make sure that the application means UTC there; if it means local time, results fall due hours early or late.',
  );
}

function checkQueue(health: HealthFacts): Check {
  const name = 'notification queue';
  const found = `${(health.notify_queue_usage * 100).toFixed(1)} % full`;
  const remedy =
    "End the session that holds it up: select pid, application_name, xact_start from pg_stat_activity where state like 'idle in transaction%' order by xact_start;";
  if (health.notify_queue_usage > QUEUE_FAILED) {
    return failed(
      name,
      `${found}: announcements are silent, and a full queue fails commits`,
      remedy,
    );
  }
  return health.notify_queue_usage > QUEUE_WARNING ? warning(name, found, remedy) : ok(name, found);
}

function checkPolicies(health: HealthFacts): Check {
  const name = 'policies';
  const { pending_policies: pendingPolicies } = health;
  const found =
    `${days(health.default_retain_days)} by default, ` +
    `${showCount(health.tenant_policies, 'tenant has its', 'tenants have their')} own`;
  if (pendingPolicies.length === 0) return ok(name, found);
  return warning(
    name,
    `${found}; waiting for a confirmation: ${pendingPolicies.join('; ')}`,
    'Confirm with: retention policy confirm; or withdraw by setting what is in force.',
  );
}

function checkDead(dead: readonly DeadResults[]): Check {
  const name = 'dead results';
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
  const { results, run_ids: runIds } = await reader.readUndated();
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
