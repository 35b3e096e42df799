import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** What came to a webhook. */
export interface Delivery {
  readonly id: string;
  readonly headers: IncomingHttpHeaders;
  readonly url: string;
  readonly body: string;
  readonly document: {
    readonly type: string;
    readonly timestamp: string;
    readonly data: Readonly<Record<string, unknown>>;
  };
}

/** How a webhook answers: with a status, with a redirect to an address, or never. */
export type Answer = number | { readonly location: string } | 'hang';

export const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

/** A webhook that tests look into. */
export interface WebhookServer {
  readonly url: string;
  readonly secretFile: string;
  readonly deliveries: readonly Delivery[];
  readonly state: { answer: Answer };
}

/** A real HTTP server that answers as it is told, and a file with the secret. Both are gone after the test. */
export async function startWebhookServer(): Promise<WebhookServer> {
  const deliveries: Delivery[] = [];
  const state = { answer: 204 as Answer };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      deliveries.push({
        id: String(request.headers['webhook-id']),
        headers: request.headers,
        url: request.url ?? '',
        body,
        document: JSON.parse(body || '{}') as Delivery['document'],
      });
      const { answer } = state;
      if (answer === 'hang') return;
      if (typeof answer === 'number') response.writeHead(answer).end();
      else response.writeHead(307, answer).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const folder = mkdtempSync(join(tmpdir(), 'retention-webhook-'));
  const secretFile = join(folder, 'secret');
  writeFileSync(secretFile, `${SECRET}\n`);
  const stop = (): void => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  };
  onTestFinished(stop);
  return { url: `http://127.0.0.1:${port}/hooks/geheim`, secretFile, deliveries, state };
}

/** As a receiver checks it, by the text of the Standard Webhooks specification. */
export function isSigned({ headers, body }: Delivery, secret = SECRET): boolean {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`;
  const expected = `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
  return String(headers['webhook-signature']).split(' ').includes(expected);
}
