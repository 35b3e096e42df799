import type { DeleteObjectsCommand } from '@aws-sdk/client-s3';

/*
The SDK builds and reads XML by the schema of each operation, which for a thousand plain keys costs more
than all else that the listener does. Most batches are nothing but plain keys, and most replies name each
of them as deleted and say no more: these two shapes are written and read here. Whatever looks in any way
different is left to the SDK.
*/

const OBJECTS_BEGIN =
  '<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">';
const OBJECT_BEGIN = '<Object><Key>';
const OBJECT_END = '</Key></Object>';
const OBJECTS_END = '<Quiet>false</Quiet></Delete>';
const SPECIAL = /[&<>]/u;

const LESS_THAN = 0x3c;
const DELETED_BEGIN = Buffer.from('<Deleted><Key>');
const DELETED_END = Buffer.from('</Key></Deleted>');

/** A longer one is left to be read as text. */
const LONGEST_REPLY_BEGIN = 256;
const REPLY_BEGIN = /^(?:<\?xml[^>]*\?>\s*)?<DeleteResult(?: xmlns="[^"<]*")?>/u;
/** A key with an entity in it is left to the SDK, and a byte that is not UTF-8 as well. */
const REPLY_ENTRY = /<Deleted><Key>([^<&\uFFFD]+)<\/Key><\/Deleted>/uy;
const REPLY_END = /<\/DeleteResult>\s*$/uy;

/** The same, where keys name the version that may go; an etag holds nothing that XML would change. */
function writeVersions(keys: readonly string[], etags: ReadonlyMap<string, string>): Buffer {
  const objects = keys.map((key) => {
    const etag = etags.get(key);
    const version = etag === undefined ? '' : `<ETag>&quot;${escape(etag)}&quot;</ETag>`;
    return `<Object><Key>${escape(key)}</Key>${version}</Object>`;
  });
  return Buffer.from(OBJECTS_BEGIN + objects.join('') + OBJECTS_END);
}

/** The body of a DeleteObjects request for keys that XML carries. */
export function writeKeys(keys: readonly string[]): Buffer {
  const isPlain = keys.every((key) => !SPECIAL.test(key));
  // One join makes one flat text, where joining small texts would make three of each key.
  const objects = (isPlain ? keys : keys.map(escape)).join(OBJECT_END + OBJECT_BEGIN);
  return Buffer.from(OBJECTS_BEGIN + OBJECT_BEGIN + objects + OBJECT_END + OBJECTS_END);
}

/**
 * Whether a reply names each key of a request as deleted, in the request's order and spelling, and
 * says nothing else. Compares bytes and makes nothing: most replies are such, and a text for each of
 * their keys is what collecting garbage would cost most.
 *
 * @param request from {@link writeKeys}, for so many keys.
 */
export function namesAll(reply: Buffer, request: Buffer, keys: number): boolean {
  const begin = REPLY_BEGIN.exec(reply.toString('latin1', 0, LONGEST_REPLY_BEGIN));
  if (begin === null) return false;
  let at = begin[0].length;
  let from = OBJECTS_BEGIN.length + OBJECT_BEGIN.length;
  for (let index = 0; index < keys; index += 1) {
    if (!startsWith(reply, DELETED_BEGIN, at)) return false;
    at += DELETED_BEGIN.length;
    // A key holds no such sign: it is written as an entity.
    for (; request[from] !== LESS_THAN; from += 1, at += 1) {
      if (request[from] !== reply[at]) return false;
    }
    if (!startsWith(reply, DELETED_END, at)) return false;
    at += DELETED_END.length;
    from += OBJECT_END.length + OBJECT_BEGIN.length;
  }
  REPLY_END.lastIndex = 0;
  return REPLY_END.test(reply.toString('latin1', at));
}

function startsWith(bytes: Buffer, tags: Buffer, at: number): boolean {
  for (let index = 0; index < tags.length; index += 1) {
    if (bytes[at + index] !== tags[index]) return false;
  }
  return true;
}

/** The keys of a reply that names keys as deleted and says nothing else; undefined for any other. */
export function readKeys(reply: string): string[] | undefined {
  const begin = REPLY_BEGIN.exec(reply);
  if (begin === null) return undefined;
  const keys: string[] = [];
  let place = begin[0].length;
  for (;;) {
    REPLY_ENTRY.lastIndex = place;
    const key = REPLY_ENTRY.exec(reply)?.[1];
    if (key === undefined) break;
    keys.push(key);
    place = REPLY_ENTRY.lastIndex;
  }
  REPLY_END.lastIndex = place;
  return REPLY_END.test(reply) ? keys : undefined;
}

/** What a plain reply named as deleted: some keys, or each that was sent. */
export type NamedKeys = readonly string[] | 'all';

/**
 * Has a command send these keys, whatever its input names, and read a plain reply without the SDK.
 *
 * @returns what the last reply named, once the command was sent; undefined: the SDK read it.
 */
export function usePlainXml(
  command: DeleteObjectsCommand,
  keys: readonly string[],
  etags?: ReadonlyMap<string, string>,
): () => NamedKeys | undefined {
  let named: NamedKeys | undefined;
  const plain = writeKeys(keys);
  const body = etags === undefined || etags.size === 0 ? plain : writeVersions(keys, etags);
  command.middlewareStack.addRelativeTo(
    <Args extends object, Result>(next: Next<Args, Result>) =>
      (args: Args) => {
        if ('request' in args && isObject(args.request)) args.request['body'] = body;
        return next(args);
      },
    { name: 'plainKeys', relation: 'after', toMiddleware: 'serializerMiddleware' },
  );
  // Outside of what looks for an error in a reply of 200, inside of what reads it.
  command.middlewareStack.addRelativeTo(
    <Args extends object, Result extends object>(next: Next<Args, Result>) =>
      async (args: Args) => {
        named = undefined;
        const result = await next(args);
        const response = 'response' in result ? result.response : undefined;
        if (!isObject(response) || response['statusCode'] !== 200) return result;
        const bytes = await collect(response['body']);
        if (bytes === undefined) return result;
        named = namesAll(bytes, plain, keys.length) ? 'all' : readKeys(bytes.toString());
        response['body'] = named === undefined ? bytes : NO_KEYS;
        return result;
      },
    { name: 'plainReply', relation: 'before', toMiddleware: 'throw200ExceptionsMiddleware' },
  );
  return () => named;
}

type Next<Args, Result> = (args: Args) => Promise<Result>;

const NO_KEYS = Buffer.from('<DeleteResult></DeleteResult>');

async function collect(body: unknown): Promise<Buffer | undefined> {
  if (!isObject(body) || !(Symbol.asyncIterator in body)) return undefined;
  const chunks: Uint8Array[] = [];
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk);
  return chunks.length === 1 && Buffer.isBuffer(chunks[0]) ? chunks[0] : Buffer.concat(chunks);
}

function escape(key: string): string {
  return key.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
