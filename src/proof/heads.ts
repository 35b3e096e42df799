import { open } from 'node:fs/promises';
import { UsageError, describeError } from '../errors.ts';

/** A head that was kept outside of the database. */
export interface KeptHead {
  /** In hexadecimal digits. */
  readonly digest: string;
  readonly seal?: number | undefined;
  readonly database?: string | null | undefined;
  readonly sealed_at?: string | undefined;
}

const TEXT = /^(?:(?<seal>[1-9]\d{0,15})-)?(?<digest>[0-9a-f]{64})$/iu;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/iu;

/** A head is some 300 bytes; what is longer by far is another file. */
const MOST_BYTES = 1_048_576;

const EXPECTED =
  'a head such as 12-<64 hexadecimal digits>, its digits alone, or a file with such heads or with the JSON of `retention proof head --json`';

/** A head as text. */
export function showHead({ seal, digest }: { seal: number; digest: string }): string {
  return `${seal}-${digest}`;
}

/**
 * Reads the heads that `--head` names: one as text, or those in a file.
 *
 * @throws UsageError for what is neither.
 */
export async function readHeads(named: string): Promise<readonly KeptHead[]> {
  const alone = parseText(named);
  if (alone !== undefined) return [alone];
  const content = await readFile(named);
  const heads = parseJson(content) ?? content.split('\n').flatMap((line) => parseLine(line));
  if (heads.length === 0 || heads.includes('no head')) {
    throw new UsageError(`${shown(named)} holds no head; expected ${EXPECTED}`, {
      remedy: 'Keep what `retention proof head` prints, or an object of RETENTION_SEAL_BUCKET.',
    });
  }
  return heads as KeptHead[];
}

async function readFile(path: string): Promise<string> {
  try {
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST_BYTES), 0, MOST_BYTES, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new UsageError(
      `expected ${EXPECTED}; given: ${shown(path)}, which is no head, and as a file it cannot be read (${describeError(error)})`,
      { cause: error },
    );
  }
}

function shown(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}

function parseText(text: string): KeptHead | undefined {
  const { seal, digest } = TEXT.exec(text.trim())?.groups ?? {};
  if (digest === undefined) return undefined;
  return { digest: digest.toLowerCase(), ...(seal === undefined ? {} : { seal: Number(seal) }) };
}

function parseLine(line: string): (KeptHead | 'no head')[] {
  if (line.trim() === '') return [];
  return [parseText(line) ?? parseJson(line)?.[0] ?? 'no head'];
}

/** Undefined: it is no JSON. */
function parseJson(text: string): (KeptHead | 'no head')[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  const documents: unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  return documents.map((each) => headOf(each) ?? 'no head');
}

function headOf(document: unknown): KeptHead | undefined {
  if (typeof document !== 'object' || document === null) return undefined;
  const { seal, digest, database, sealed_at: sealedAt } = document as Record<string, unknown>;
  if (typeof digest !== 'string' || !Number.isSafeInteger(seal)) return undefined;
  const head = parseText(`${String(seal)}-${digest}`);
  if (head === undefined) return undefined;
  const isNamed = typeof database === 'string' && UUID.test(database);
  const isDated = typeof sealedAt === 'string' && !Number.isNaN(Date.parse(sealedAt));
  return {
    ...head,
    ...(isNamed ? { database } : {}),
    ...(isDated ? { sealed_at: sealedAt } : {}),
  };
}
