import { type KeyObject, createHash, sign } from 'node:crypto';
import { UsageError } from '../errors.ts';
import type { BucketInspection } from '../objects/abilities.ts';
import type {
  CertificateFacts,
  CertificateResult,
  CertificateScope,
} from '../store/certificates.ts';
import type { Store } from '../store/store.ts';
import { PRODUCT_VERSION } from '../store/version.ts';
import { type CertificateFolder, withFolder } from './certificate-folder.ts';
import { CSV_HEAD, changeLine, csvOf, leavesLine, sealLine } from './certificate-lines.ts';
import { describePage } from './certificate-page.ts';
import { BESIDE, CATEGORIES, ENDS, HASHED_KEYS, METHOD, NOT_COVERED } from './certificate-words.ts';
import { describeCheck } from './checker.ts';
import { publicKeyOf } from './signing-key.ts';
import { describeVersions } from './versions-left.ts';

/** What a certificate says; certificate.json holds it. Keys may be added, never renamed. */
export interface Certificate {
  readonly certificate: 'retention-reactor/1';
  readonly product: string;
  readonly made_at: string;
  readonly made_by: string;
  /** Everything in it is as of this moment. */
  readonly as_of: string;
  readonly database: string;
  readonly scope: {
    /** Null: results without a tenant. */
    readonly tenant: string | null;
    readonly from: string;
    /** The first moment that is no longer in the period. */
    readonly to: string;
    /** Whether keys of objects are shown. */
    readonly keys: boolean;
  };
  readonly rule: CertificateFacts['rule'];
  readonly population: {
    readonly query: string;
    readonly counted: number;
    /** By category; all of them, also those with none. */
    readonly results: Readonly<Record<string, number>>;
    /** Counted, less the sum of results. */
    readonly difference: number;
  };
  /** Of the population, what went. */
  readonly gone: Gone;
  /** What happened in the period to other results. */
  readonly beside: { readonly results: Readonly<Record<string, number>> };
  /** How many results of the tenant are in the receipts of leaves.jsonl. */
  readonly leaves: number;
  /** Results whose receipt is not sealed yet. */
  readonly not_sealed: number;
  readonly head: CertificateFacts['head'];
  readonly method: readonly string[];
  readonly not_covered: readonly string[];
  readonly adopted_at: string;
  readonly receipts_kept: string;
  /** `hashed`: receipts keep salted digests in place of keys, so no key is shown. */
  readonly receipt_keys: 'plain' | 'hashed';
  readonly public_key: string;
  /** SHA-256 of each other file. */
  readonly files: Readonly<Record<string, string>>;
}

interface Gone {
  /** When the first and the last receipt was written; null: nothing went. */
  readonly first: string | null;
  readonly last: string | null;
  readonly by_end: Readonly<Record<string, number>>;
  readonly by_kind: Readonly<Record<string, number>>;
  /** By how long the policy kept them when they went. */
  readonly by_retain: Readonly<Record<string, number>>;
}

/** What is certified, and how. */
export interface CertificateRequest extends CertificateScope {
  /** A folder that is new or empty. */
  readonly out: string;
  /** Shows the keys of the tenant's objects, where no receipt keeps them hashed. Default: true. */
  readonly keys?: boolean | undefined;
  /** What the owner adds to what is not covered, such as how long backups are kept. */
  readonly notes?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, known: number) => void) | undefined;
}

/** What making a certificate needs. */
export interface CertificatePorts {
  /** Runs work that sees the database as of one moment. */
  readonly withSnapshot: <Result>(work: (store: Store) => Promise<Result>) => Promise<Result>;
  readonly key: KeyObject;
  /** Asked for the rules of versioned buckets. Undefined: none is asked. */
  readonly inspection: BucketInspection | undefined;
}

/** What was read while the results were written. */
interface Tally {
  readonly population: Record<string, number>;
  readonly beside: Record<string, number>;
  readonly by_end: Record<string, number>;
  readonly by_kind: Record<string, number>;
  readonly by_retain: Record<string, number>;
  /** Sealed ones. */
  readonly receipts: Set<string>;
  /** Buckets in which markers hide results of the tenant, each with how many and since when. */
  readonly markers: Map<string, { results: number; last: Date }>;
  first: Date | undefined;
  last: Date | undefined;
  not_sealed: number;
}

const RECEIPTS_A_PAGE = 50;
const SEALS_A_PAGE = 200;

/**
 * Writes the certificate of a tenant and a period, signed, with everything that it takes to check it.
 *
 * @throws UsageError when the folder is not new or empty, or when nothing tells of such a tenant.
 * @throws DatabaseError for a period that is none or is not over.
 */
export async function makeCertificate(
  request: CertificateRequest,
  ports: CertificatePorts,
): Promise<Certificate> {
  return withFolder(request.out, async (folder) => {
    const { facts, tally, leaves, keys } = await ports.withSnapshot((store) =>
      writeEvidence(store, folder, request),
    );
    const { notes = [] } = request;
    const { pem, fingerprint } = publicKeyOf(ports.key);
    const sum = Object.values(tally.population).reduce((total, number) => total + number, 0);
    const versions = await describeVersions(tally.markers, ports.inspection, request.signal);
    const without: Omit<Certificate, 'files'> = {
      certificate: 'retention-reactor/1',
      product: PRODUCT_VERSION,
      made_at: new Date().toISOString(),
      made_by: facts.session,
      as_of: facts.as_of,
      database: facts.database,
      scope: {
        tenant: facts.tenant,
        from: request.from.toISOString(),
        to: request.to.toISOString(),
        keys,
      },
      rule: facts.rule,
      population: {
        query: facts.query,
        counted: facts.counted,
        results: tally.population,
        difference: facts.counted - sum,
      },
      gone: {
        first: tally.first?.toISOString() ?? null,
        last: tally.last?.toISOString() ?? null,
        by_end: tally.by_end,
        by_kind: tally.by_kind,
        by_retain: tally.by_retain,
      },
      beside: { results: tally.beside },
      leaves,
      not_sealed: tally.not_sealed,
      head: facts.head,
      method: facts.receipt_keys === 'hashed' ? [...METHOD, HASHED_KEYS] : METHOD,
      not_covered: [...NOT_COVERED, ...versions, ...notes],
      adopted_at: facts.adopted_at,
      receipts_kept: facts.receipts_kept,
      receipt_keys: facts.receipt_keys,
      public_key: fingerprint,
    };
    await folder.withFile('public-key.pem', (file) => file.write(pem));
    await folder.withFile('CHECK.md', (file) =>
      file.write(describeCheck({ hasKeys: keys, fingerprint })),
    );
    await folder.withFile('certificate.html', (file) => file.write(describePage(without)));
    const certificate: Certificate = { ...without, files: { ...folder.digests() } };
    const text = `${JSON.stringify(certificate, null, 2)}\n`;
    await folder.withFile('certificate.json', (file) => file.write(text));
    await folder.withFile('signature', (file) =>
      file.write(sign(null, Buffer.from(text), ports.key)),
    );
    await folder.finish();
    return certificate;
  });
}

/** Writes results.csv and leaves.jsonl, both of one snapshot. */
async function writeEvidence(
  store: Store,
  folder: CertificateFolder,
  request: CertificateRequest,
): Promise<{
  readonly facts: CertificateFacts;
  readonly tally: Tally;
  readonly leaves: number;
  readonly keys: boolean;
}> {
  const { signal, onProgress } = request;
  const facts = await store.certificateFacts(request);
  // A salt that is shown beside a digest would let likely keys be tried.
  const keys = (request.keys ?? true) && facts.receipt_keys === 'plain';
  if (!facts.is_known) {
    throw new UsageError(
      `no row, receipt, policy or hold names the tenant "${request.tenant ?? ''}"; nothing was written`,
      { remedy: 'See how it is spelled: retention policy list, or the table itself.' },
    );
  }
  const tally = emptyTally();
  await folder.withFile('results.csv', async (file) => {
    await file.write(CSV_HEAD);
    let done = 0;
    for await (const page of store.certificateResults(request)) {
      signal?.throwIfAborted();
      for (const row of page) count(tally, row);
      await file.write(page.map((row) => csvOf(row, keys)).join(''));
      done += page.length;
      onProgress?.(done, facts.counted);
    }
  });
  let leaves = 0;
  await folder.withFile('leaves.jsonl', async (file) => {
    const shown = new Set<string>();
    const seals = new Set<number>();
    const digestOf = keys ? undefined : leafDigest;
    const receipts = [...tally.receipts];
    for (let place = 0; place < receipts.length; place += RECEIPTS_A_PAGE) {
      signal?.throwIfAborted();
      const names = receipts.slice(place, place + RECEIPTS_A_PAGE);
      for (const row of await store.certificateLeaves(facts.tenant, names)) {
        shown.add(row.receipt);
        seals.add(row.seal_id);
        leaves += row.texts.length;
        await file.write(leavesLine(row, digestOf));
      }
    }
    for (const row of await store.certificateChanges(request)) {
      shown.add(`change-${row.change_id}`);
      seals.add(row.seal_id);
      await file.write(changeLine(row));
    }
    await writeSeals(store, seals, shown, signal, (line) => file.write(line));
  });
  return { facts, tally, leaves, keys };
}

/** The way from the first seal that is needed to the head. */
async function writeSeals(
  store: Store,
  seals: ReadonlySet<number>,
  shown: ReadonlySet<string>,
  signal: AbortSignal | undefined,
  write: (line: string) => Promise<void>,
): Promise<void> {
  if (seals.size === 0) return;
  let first = Number.POSITIVE_INFINITY;
  for (const seal of seals) first = Math.min(first, seal);
  let after = first - 1;
  for (;;) {
    signal?.throwIfAborted();
    const within = [...seals].filter((seal) => seal > after && seal <= after + SEALS_A_PAGE);
    const page = await store.certificateSeals(after, SEALS_A_PAGE, within);
    for (const row of page) {
      await write(sealLine(row, row.seal_id === first, shown));
      after = row.seal_id;
    }
    if (page.length < SEALS_A_PAGE) return;
  }
}

function emptyTally(): Tally {
  const zeros = (names: Readonly<Record<string, string>>): Record<string, number> =>
    Object.fromEntries(Object.keys(names).map((name) => [name, 0]));
  return {
    population: zeros(CATEGORIES),
    beside: zeros(BESIDE),
    by_end: zeros(ENDS),
    by_kind: {},
    by_retain: {},
    receipts: new Set(),
    markers: new Map(),
    first: undefined,
    last: undefined,
    not_sealed: 0,
  };
}

function count(tally: Tally, row: CertificateResult): void {
  const counts = tally[row.part];
  counts[row.category] = (counts[row.category] ?? 0) + 1;
  if (row.receipt === null) return;
  if (row.is_sealed === true) tally.receipts.add(row.receipt);
  else tally.not_sealed += 1;
  const { ended, kind, settled_at: at } = row;
  if (ended === 'marker' && row.bucket !== null && at !== null) {
    const known = tally.markers.get(row.bucket) ?? { results: 0, last: at };
    tally.markers.set(row.bucket, {
      results: known.results + 1,
      last: at > known.last ? at : known.last,
    });
  }
  if (row.category !== 'gone' || at === null) return;
  const { retain } = row;
  if (retain !== null) tally.by_retain[retain] = (tally.by_retain[retain] ?? 0) + 1;
  if (ended !== null) tally.by_end[ended] = (tally.by_end[ended] ?? 0) + 1;
  if (kind !== null) tally.by_kind[kind] = (tally.by_kind[kind] ?? 0) + 1;
  if (tally.first === undefined || at < tally.first) tally.first = at;
  if (tally.last === undefined || at > tally.last) tally.last = at;
}

function leafDigest(salt: string, text: string): string {
  return createHash('sha256').update(Buffer.from(salt, 'hex')).update(text).digest('hex');
}
