import { readFileSync } from 'node:fs';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { answerQuestions } from './processes.ts';

/*
An S3 that answers at once and keeps nothing: every key of a DeleteObjects request is named as
deleted (unless it is quiet), whatever there is. It also lists keys that it was given, for verify.
It looks for tags instead of parsing XML, and copies keys as they are spelt, so that it costs next
to nothing beside what is measured.
*/

const PAGE = 1_000;
let listed: readonly string[] = [];
let deleteRequests = 0;
let times: { readonly at: number; readonly keys: number }[] = [];
/** One of so many requests to delete is refused for a moment; 0: none. */
let refuseOneOf = 0;

function answer(request: IncomingMessage, response: ServerResponse, body: string): void {
  const url = new URL(request.url ?? '/', 'http://null');
  const { method } = request;
  if (method === 'POST') {
    deleteRequests += 1;
    times.push({ at: performance.now(), keys: body.split('<Key>').length - 1 });
    if (refuseOneOf > 0 && deleteRequests % refuseOneOf === 0) {
      response.writeHead(503).end(SLOW_DOWN);
    } else reply(response, deleteResult(body));
  } else if (method === 'DELETE') {
    deleteRequests += 1;
    response.writeHead(204, HEADERS).end();
  } else if (method === 'HEAD') {
    // Every object is there, until somebody asks to delete it.
    response.writeHead(200, HEADERS).end();
  } else if (method === 'GET' && url.searchParams.has('list-type')) {
    reply(response, listResult(url.searchParams));
  } else if (method === 'GET' && url.searchParams.has('versioning')) {
    reply(response, '<VersioningConfiguration/>');
  } else {
    response.writeHead(404, HEADERS).end();
  }
}

const HEADERS = { 'x-amz-request-id': 'null', 'content-type': 'application/xml' };
const DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n';

const SLOW_DOWN = `${DECLARATION}<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>`;

function reply(response: ServerResponse, xml: string): void {
  const body = DECLARATION + xml;
  response.writeHead(200, { ...HEADERS, 'content-length': Buffer.byteLength(body) }).end(body);
}

function deleteResult(body: string): string {
  if (body.includes('<Quiet>true</Quiet>')) return '<DeleteResult/>';
  let deleted = '';
  for (let from = body.indexOf('<Key>'); from >= 0; from = body.indexOf('<Key>', from)) {
    const to = body.indexOf('</Key>', from);
    deleted += `<Deleted>${body.slice(from, to)}</Key></Deleted>`;
    from = to;
  }
  return `<DeleteResult>${deleted}</DeleteResult>`;
}

/** Sorted pages, each after a key, by key or by token. */
function listResult(query: URLSearchParams): string {
  const after = query.get('continuation-token') ?? query.get('start-after') ?? '';
  const first = firstAfter(after);
  const page = listed.slice(first, first + PAGE);
  const isTruncated = first + PAGE < listed.length;
  const contents = page
    .map(
      (key) =>
        `<Contents><Key>${key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>` +
        `<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>1024</Size>` +
        `<StorageClass>STANDARD</StorageClass></Contents>`,
    )
    .join('');
  const next = isTruncated ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : '';
  return (
    `<ListBucketResult><Name>null</Name><KeyCount>${page.length}</KeyCount>` +
    `<MaxKeys>${PAGE}</MaxKeys><EncodingType>url</EncodingType>` +
    `<IsTruncated>${isTruncated}</IsTruncated>${next}${contents}</ListBucketResult>`
  );
}

function firstAfter(key: string): number {
  let low = 0;
  let high = listed.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((listed[middle] ?? '') > key) high = middle;
    else low = middle + 1;
  }
  return low;
}

const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => answer(request, response, Buffer.concat(chunks).toString()));
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

interface Question {
  readonly list?: string;
  readonly requests?: true;
  readonly times?: true;
  readonly forget?: true;
  readonly refuseOneOf?: number;
}

/**
 * Questions: where it is, how many requests deleted, when each came with how many keys, how many to refuse, and the keys
 * to list, one a line in a file.
 */
answerQuestions(async (question: Question) => {
  if (question.refuseOneOf !== undefined) {
    ({ refuseOneOf } = question);
    return {};
  }
  if (question.list !== undefined) {
    listed = readFileSync(question.list, 'utf8').trimEnd().split('\n').toSorted();
    return { keys: listed.length };
  }
  if (question.times === true) return { times };
  if (question.forget === true) times = [];
  if (question.requests === true) return { requests: deleteRequests };
  return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
});
