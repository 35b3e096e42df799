import type { DeleteObjectsCommand } from '@aws-sdk/client-s3';

/*
The SDK builds and reads XML by the schema of each operation, which for a thousand plain keys costs more
than all else that the listener does. Most batches are nothing but plain keys, and most replies name each
of them as deleted and say no more: these two shapes are written and read here. Whatever looks in any way
different is left to the SDK.
*/

const OBJECTS_BEGIN =
  '<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">';
const OBJECTS_END = '<Quiet>false</Quiet></Delete>';

const REPLY_BEGIN = /^(?:<\?xml[^>]*\?>\s*)?<DeleteResult(?: xmlns="[^"<]*")?>/u;
/** A key with an entity in it is left to the SDK, and a byte that is not UTF-8 as well. */
const REPLY_ENTRY = /<Deleted><Key>([^<&\uFFFD]+)<\/Key><\/Deleted>/uy;
const REPLY_END = /<\/DeleteResult>\s*$/uy;

/** The body of a DeleteObjects request for keys that XML carries. */
export function writeKeys(keys: readonly string[]): string {
  const objects = keys.map((key) => `<Object><Key>${escape(key)}</Key></Object>`);
  return OBJECTS_BEGIN + objects.join('') + OBJECTS_END;
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

/**
 * Has a command send these keys, whatever its input names, and read a plain reply without the SDK.
 *
 * @returns the keys that the last reply named, once the command was sent; undefined: the SDK read it.
 */
export function usePlainXml(
  command: DeleteObjectsCommand,
  keys: readonly string[],
): () => readonly string[] | undefined {
  let named: readonly string[] | undefined;
  const body = writeKeys(keys);
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
        named = bytes && readKeys(bytes.toString());
        if (bytes !== undefined) response['body'] = named === undefined ? bytes : NO_KEYS;
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
  return /[&<>]/u.test(key)
    ? key.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
    : key;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
