import { Readable } from 'node:stream';
import type { DeleteObjectsCommandOutput } from '@aws-sdk/client-s3';

import type { RehearsedRequest, S3Connection } from './connection.ts';
import { type NamedKeys, usePlainXml } from './plain-xml.ts';

const KEYS = ['a&b', '<c>', 'ü😀'] as const;
const NAMES_ALL = reply(deleted('a&amp;b'), deleted('&lt;c&gt;'), deleted('ü😀'));
const NAMES_SOME = reply(deleted('ü😀'));
const NAMES_AN_ERROR = reply(
  deleted('ü😀'),
  '<Error><Key>a&amp;b</Key><Code>AccessDenied</Code><Message>no</Message></Error>',
);

/** What went to the wire, and what came of the reply. */
interface Rehearsed {
  readonly body: string;
  readonly length: string | undefined;
  readonly checksum: string | undefined;
  readonly output: DeleteObjectsCommandOutput;
  readonly named: NamedKeys | undefined;
}

type Rehearse = (replyBody: string, options?: { readonly isPlain: boolean }) => Promise<Rehearsed>;

/**
 * Rehearses what {@link usePlainXml} leans on, with a client like the real one and no network: a body put
 * into the SDK's stack is the one that is sent and summed up, a plain reply is read before the SDK reads
 * it, and any other reply is left to the SDK.
 *
 * @returns what is not as it should be; undefined: nothing.
 */
export async function findPlainXmlFault(connection: S3Connection): Promise<string | undefined> {
  try {
    return await withRehearsal(connection, findFault);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function findFault(rehearse: Rehearse): Promise<string | undefined> {
  const own = await rehearse(NAMES_ALL, { isPlain: false });
  const all = await rehearse(NAMES_ALL);
  if (all.body !== own.body) return 'the body is another than that of the SDK';
  if (all.length !== own.length || all.checksum !== own.checksum) {
    return 'the length or the checksum is not that of the body';
  }
  if (all.named !== 'all') return 'a reply that names every key is not read';
  const some = await rehearse(NAMES_SOME);
  if (String(some.named) !== KEYS[2]) return 'a reply that names some keys is not read';
  const refused = await rehearse(NAMES_AN_ERROR);
  const [error] = refused.output.Errors ?? [];
  if (refused.named !== undefined || error?.Key !== KEYS[0] || error.Code !== 'AccessDenied') {
    return 'a reply with an error does not reach the SDK';
  }
  return undefined;
}

async function withRehearsal<Result>(
  connection: S3Connection,
  work: (rehearse: Rehearse) => Promise<Result>,
): Promise<Result> {
  let sent: RehearsedRequest = { headers: {} };
  let answer = '';
  const { sdk, client } = await connection.rehearsal((request) => {
    sent = request;
    const headers = { 'content-type': 'application/xml' };
    const body = Readable.from([Buffer.from(answer)]);
    return Promise.resolve({ response: { statusCode: 200, headers, body } });
  });
  try {
    return await work(async (replyBody, { isPlain } = { isPlain: true }) => {
      answer = replyBody;
      // As in a real request: the input names one key, and the body all of them.
      const named = isPlain ? KEYS.slice(0, 1) : KEYS;
      const command = new sdk.DeleteObjectsCommand({
        Bucket: 'rehearsal',
        Delete: { Objects: named.map((Key) => ({ Key })), Quiet: false },
      });
      const readNamed = isPlain ? usePlainXml(command, KEYS) : () => undefined;
      const output = await client.send(command);
      return {
        body: bodyText(sent.body),
        length: sent.headers['content-length'],
        checksum: sent.headers['x-amz-checksum-crc32'],
        output,
        named: readNamed(),
      };
    });
  } finally {
    client.destroy();
  }
}

function bodyText(body: unknown): string {
  return typeof body === 'string' || body instanceof Uint8Array ? Buffer.from(body).toString() : '';
}

function deleted(key: string): string {
  return `<Deleted><Key>${key}</Key></Deleted>`;
}

function reply(...content: readonly string[]): string {
  return `<DeleteResult>${content.join('')}</DeleteResult>`;
}
