import type { Queryable } from '../database/queryable.ts';
import type { Instant } from '../instant.ts';

/** Whose results a certificate is about, and of which time. */
export interface CertificateScope {
  /** Null: results without a tenant. */
  readonly tenant: string | null;
  readonly from: Date;
  /** The first moment that is no longer in the period. */
  readonly to: Date;
}

/** A row of `retention.certificate_results`. */
export interface CertificateResult {
  readonly part: 'population' | 'beside';
  readonly category: string;
  readonly state: string | null;
  readonly run_id: string | null;
  readonly completed_at: Instant | null;
  readonly due_at: Instant | null;
  readonly cleared_at: Instant | null;
  readonly bucket: string | null;
  readonly key: string | null;
  /** `batch-12` or `receipt-3`; null: none says so. */
  readonly receipt: string | null;
  readonly kind: string | null;
  readonly settled_at: Date | null;
  readonly ended: string | null;
  readonly version: string | null;
  readonly is_sealed: boolean | null;
  /** How long its policy kept the result when it went, such as `30 days`. */
  readonly retain: string | null;
}

/** A change of a policy, as `retention.certificate_facts` has it. */
export interface RuleChange {
  readonly change: number;
  readonly at: string;
  readonly policy_of: string;
  readonly before: string | null;
  readonly after: string | null;
  readonly by: string;
  readonly role: string | null;
  readonly application: string | null;
  readonly seal: number | null;
}

/** What `retention.certificate_facts` says. */
export interface CertificateFacts {
  readonly as_of: string;
  readonly session: string;
  readonly tenant: string | null;
  readonly database: string;
  readonly adopted_at: string;
  readonly receipts_kept: string;
  /** `hashed`: some receipts keep salted digests in place of keys. */
  readonly receipt_keys: 'plain' | 'hashed';
  readonly is_known: boolean;
  readonly rule: {
    /** Null: no policy is in force, and nothing falls due. */
    readonly retain: string | null;
    readonly in_force: readonly {
      readonly policy_of: string;
      readonly retain: string;
      readonly set_at: string;
      readonly set_by: string;
    }[];
    readonly changes: readonly RuleChange[];
    readonly changes_known_since: string | null;
  };
  readonly query: string;
  readonly counted: number;
  readonly head: {
    readonly seal: number;
    readonly digest: string;
    readonly sealed_at: string;
    readonly complete_to: string | null;
  } | null;
}

/** A row of `retention.certificate_leaves`. */
export interface CertificateLeaves {
  readonly receipt: string;
  readonly seal_id: number;
  readonly header: string;
  readonly others: readonly string[];
  readonly salts: readonly string[];
  readonly texts: readonly string[];
}

/** A row of `retention.certificate_changes`. */
export interface CertificateChange {
  readonly change_id: number;
  readonly seal_id: number;
  readonly salt: string;
  readonly change_text: string;
}

/** A row of `retention.certificate_seals`. */
export interface CertificateSeal {
  readonly seal_id: number;
  readonly header: string;
  readonly previous: string | null;
  readonly body: string;
  readonly digests: readonly string[] | null;
  readonly names: readonly string[] | null;
}

/**
 * `retention.certificate_facts`
 *
 * @throws DatabaseError
 */
export async function certificateFacts(
  database: Queryable,
  { tenant, from, to }: CertificateScope,
): Promise<CertificateFacts> {
  const [row] = await database.query<{ facts: CertificateFacts }>(
    'select retention.certificate_facts($1, $2, $3) as facts',
    [tenant, from, to],
  );
  if (row === undefined) throw new Error('retention.certificate_facts returned no row');
  return row.facts;
}

/**
 * `retention.certificate_results`, page by page. Needs a transaction.
 *
 * @throws DatabaseError
 */
export async function* certificateResults(
  database: Queryable,
  { tenant, from, to }: CertificateScope,
  pageSize = 5_000,
): AsyncGenerator<readonly CertificateResult[]> {
  await database.query(
    `declare certificate_results no scroll cursor for
    select * from retention.certificate_results($1, $2, $3)`,
    [tenant, from, to],
  );
  for (;;) {
    const page = await database.query<CertificateResult>(
      `fetch ${pageSize} from certificate_results`,
    );
    if (page.length > 0) yield page;
    if (page.length < pageSize) break;
  }
  await database.query('close certificate_results');
}

/**
 * `retention.certificate_changes`
 *
 * @throws DatabaseError
 */
export async function certificateChanges(
  database: Queryable,
  { tenant, from, to }: CertificateScope,
): Promise<readonly CertificateChange[]> {
  return database.query<CertificateChange>(
    'select * from retention.certificate_changes($1, $2, $3)',
    [tenant, from, to],
  );
}

/**
 * `retention.certificate_leaves` for receipts by their names.
 *
 * @throws DatabaseError
 */
export async function certificateLeaves(
  database: Queryable,
  tenant: string | null,
  receipts: readonly string[],
): Promise<readonly CertificateLeaves[]> {
  const idsOf = (source: string): readonly string[] =>
    receipts
      .filter((name) => name.startsWith(`${source}-`))
      .map((name) => name.slice(source.length + 1));
  return database.query<CertificateLeaves>(
    'select * from retention.certificate_leaves($1, $2::bigint[], $3::bigint[])',
    [tenant, idsOf('batch'), idsOf('receipt')],
  );
}

/**
 * `retention.certificate_seals`
 *
 * @throws DatabaseError
 */
export async function certificateSeals(
  database: Queryable,
  after: number,
  limit: number,
  shown: readonly number[],
): Promise<readonly CertificateSeal[]> {
  return database.query<CertificateSeal>(
    'select * from retention.certificate_seals($1, $2, $3::bigint[])',
    [after, limit, shown],
  );
}
