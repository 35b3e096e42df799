import { type Instant, showInstant } from '../instant.ts';
import type {
  CertificateChange,
  CertificateLeaves,
  CertificateResult,
  CertificateSeal,
} from '../store/certificates.ts';

/** The columns of results.csv, each with how a row has it. */
const COLUMNS = {
  part: (row) => row.part,
  category: (row) => row.category,
  state: (row) => row.state,
  run_id: (row) => row.run_id,
  completed_at: (row) => show(row.completed_at),
  due_at: (row) => show(row.due_at),
  cleared_at: (row) => show(row.cleared_at),
  bucket: (row) => row.bucket,
  key: (row) => row.key,
  receipt: (row) => row.receipt,
  kind: (row) => row.kind,
  settled_at: (row) => show(row.settled_at),
  end: (row) => row.ended,
  version: (row) => row.version,
  retain: (row) => row.retain,
  sealed: (row) => (row.is_sealed === null ? null : row.is_sealed ? 'yes' : 'no'),
} satisfies Record<string, (row: CertificateResult) => string | null>;

function show(instant: Instant | null): string | null {
  return instant === null ? null : showInstant(instant);
}

/** The first line of results.csv. (RFC 4180) */
export const CSV_HEAD = csvLine(Object.keys(COLUMNS));

/** A line of results.csv. Without keys, the column stays and is empty. */
export function csvOf(row: CertificateResult, hasKeys: boolean): string {
  const shown = hasKeys ? row : { ...row, key: null };
  return csvLine(Object.values(COLUMNS).map((cell) => cell(shown)));
}

function csvLine(cells: readonly (string | null)[]): string {
  return `${cells.map((cell) => quote(cell ?? '')).join(',')}\r\n`;
}

function quote(cell: string): string {
  return /[",\r\n]/u.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** The line of a receipt in leaves.jsonl. `digestOf`: of a leaf, shown in place of its text and salt; undefined: both are shown. */
export function leavesLine(
  row: CertificateLeaves,
  digestOf: ((salt: string, text: string) => string) | undefined,
): string {
  const leaves = row.texts.map((text, place) => {
    const salt = row.salts[place] ?? '';
    return digestOf === undefined ? [salt, text] : digestOf(salt, text);
  });
  return line({ receipt: row.receipt, header: row.header, others: row.others, leaves });
}

/** The line of a change of the rule. */
export function changeLine(row: CertificateChange): string {
  return line({ change: row.change_id, salt: row.salt, text: row.change_text });
}

/** The line of a seal. Members that are shown have their names, and others their digests; of a seal without any, one digest over all. */
export function sealLine(
  row: CertificateSeal,
  isFirst: boolean,
  shown: { has(name: string): boolean },
): string {
  const members = row.digests?.map((digest, place) => {
    const name = row.names?.[place] ?? '';
    return shown.has(name) ? name : digest;
  });
  return line({
    seal: row.seal_id,
    header: row.header,
    ...(isFirst ? { previous: row.previous } : {}),
    ...(members === undefined ? { body: row.body } : { members }),
  });
}

function line(document: object): string {
  return `${JSON.stringify(document)}\n`;
}
