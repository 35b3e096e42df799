import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as it came over the wire. */
export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The keys of a DeleteObjects document, as written there. */
  readonly keys: readonly string[];
}

/** Answers one request, or leaves it hanging. */
export type Script = (request: SeenRequest, response: ServerResponse) => void;

/** A server that says what a test wants, however odd. */
export interface ScriptedS3 {
  readonly endpoint: string;
  readonly requests: readonly SeenRequest[];
  /** From now on. */
  play(script: Script): void;
  stop(): Promise<void>;
}

/** Starts a scripted server on a free loopback port. */
export async function startScriptedS3(): Promise<ScriptedS3> {
  const requests: SeenRequest[] = [];
  let script: Script = (_request, response) => response.writeHead(501).end();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('utf8');
      const { method = '', url = '', headers } = request;
      const keys = Array.from(body.matchAll(/<Key>([^<]*)<\/Key>/g), (it) => it[1] ?? '');
      const seen = { method, url, headers, body, keys };
      requests.push(seen);
      script(seen, response);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    play: (next) => {
      requests.length = 0;
      script = next;
    },
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** Answers with one document. */
export function reply(
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Script {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/xml', ...headers }).end(body);
  };
}

/** Answers with S3's error document. */
export function refuse(
  status: number,
  code: string,
  message = 'as the test wants',
  more = '',
): Script {
  return reply(status, `<Error><Code>${code}</Code><Message>${message}</Message>${more}</Error>`);
}

/** A DeleteObjects reply with the given content. */
export function deleteResult(...content: readonly string[]): Script {
  return reply(200, `<DeleteResult>${content.join('')}</DeleteResult>`);
}

/** Names every key of the request as deleted. */
export const deleteAll: Script = (request, response) => {
  if (request.method === 'DELETE') response.writeHead(204).end();
  else deleteResult(...request.keys.map(deletedKey))(request, response);
};

/** The part of a reply that names a key as deleted. */
export function deletedKey(key: string): string {
  return `<Deleted><Key>${key}</Key></Deleted>`;
}

/** The part of a reply that refuses a key. */
export function refusedKey(key: string, code: string): string {
  return `<Error><Key>${key}</Key><Code>${code}</Code><Message>said the test</Message></Error>`;
}
