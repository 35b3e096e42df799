import type { Exchange } from '../../support/http-proxy.ts';
import { objectName } from './history.ts';

/** One key of one request to delete. Times are epoch milliseconds. */
export interface Deletion {
  readonly bucket: string;
  readonly key: string;
  readonly arrivedAt: number;
  /** It came between this and then. */
  readonly arrivedFrom: number;
  /** When S3 had done it; undefined: S3 never heard of it. */
  readonly doneAt: number | undefined;
  /** When S3's word that the object is gone reached who had asked; undefined: it did not. */
  readonly toldGoneAt: number | undefined;
}

/** What S3 was asked to delete, and what it said, as seen on the wire. */
export interface DeletionRecord {
  readonly note: (exchange: Exchange) => void;
  readonly deletions: readonly Deletion[];
  /** How many requests to delete there were. */
  readonly requests: () => number;
  /** By object, when the application put it there last or again. */
  readonly puts: ReadonlyMap<string, readonly number[]>;
  readonly notePut: (bucket: string, key: string, at: number) => void;
  /** Notes that a bucket is gone, with all that was in it. */
  readonly noteLoss: (bucket: string, at: number) => void;
  /** Whether an object went with its bucket, and was not put there again. */
  readonly isLost: (bucket: string, key: string) => boolean;
}

/** Starts with nothing. */
export function createDeletionRecord(): DeletionRecord {
  const deletions: Deletion[] = [];
  const puts = new Map<string, number[]>();
  const losses = new Map<string, number>();
  let requests = 0;
  return {
    deletions,
    puts,
    requests: () => requests,
    notePut: (bucket, key, at) => {
      const name = objectName(bucket, key);
      puts.set(name, [...(puts.get(name) ?? []), at]);
    },
    noteLoss: (bucket, at) => void losses.set(bucket, at),
    isLost: (bucket, key) => {
      const putAt = puts.get(objectName(bucket, key))?.at(-1) ?? 0;
      return putAt <= (losses.get(bucket) ?? -1);
    },
    note: (exchange) => {
      const asked = askedToDelete(exchange);
      if (asked === undefined) return;
      requests += 1;
      const gone = saidGone(exchange, asked.keys);
      for (const key of asked.keys) {
        deletions.push({
          bucket: asked.bucket,
          key,
          arrivedAt: exchange.arrivedAt,
          arrivedFrom: exchange.arrivedFrom,
          doneAt: exchange.doneAt,
          toldGoneAt: gone.has(key) ? exchange.told?.at : undefined,
        });
      }
    },
  };
}

function askedToDelete({
  request: { method, url, body },
}: Exchange): { readonly bucket: string; readonly keys: readonly string[] } | undefined {
  const [path = '', query = ''] = url.split('?');
  const [, bucket = '', ...segments] = path.split('/');
  if (method === 'DELETE' && segments.length > 0) {
    return { bucket, keys: [decodeURIComponent(segments.join('/'))] };
  }
  if (method === 'POST' && /^delete(?:=|&|$)/u.test(query)) {
    return { bucket, keys: keysIn(body.toString('utf8')) };
  }
  return undefined;
}

function saidGone({ request, told }: Exchange, keys: readonly string[]): ReadonlySet<string> {
  if (told === undefined) return new Set();
  const text = told.body.toString('utf8');
  if (request.method === 'DELETE') {
    const isGone = told.status === 204 || (told.status === 404 && text.includes('NoSuchKey'));
    return new Set(isGone ? keys : []);
  }
  if (told.status !== 200) return new Set();
  const named = (text.match(/<Deleted>.*?<\/Deleted>/gsu) ?? []).flatMap(keysIn);
  const refused = text.match(/<Error>.*?<\/Error>/gsu) ?? [];
  const missing = refused.filter((part) => part.includes('NoSuchKey')).flatMap(keysIn);
  return new Set([...named, ...missing]);
}

function keysIn(xml: string): string[] {
  return Array.from(xml.matchAll(/<Key>(.*?)<\/Key>/gsu), ([, key = '']) => unescapeXml(key));
}

const ENTITIES: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

function unescapeXml(text: string): string {
  return text.replaceAll(/&(#x[0-9a-f]+|#\d+|\w+);/giu, (whole, name: string) => {
    if (/^#x/iu.test(name)) return String.fromCodePoint(Number.parseInt(name.slice(2), 16));
    if (name.startsWith('#')) return String.fromCodePoint(Number(name.slice(1)));
    return ENTITIES[name] ?? whole;
  });
}
