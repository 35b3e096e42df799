import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { RetentionError, codeOf, describeError } from '../errors.ts';
import { DeadlinePassed, withDeadline } from '../lifecycle/deadline.ts';
import { createAgents } from '../network/agents.ts';
import { maskPath } from '../safe-text.ts';

/** What is posted. */
export interface Post {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly timeoutMilliseconds: number;
  /** Ends it early. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Posts a document, and takes only 2xx for an answer. Redirects are not followed: what is signed for one server is not
 * for another. The answer's body is not read.
 *
 * @throws RetentionError with what the server answered, without the address's secrets.
 */
export async function post({ timeoutMilliseconds, signal, ...what }: Post): Promise<void> {
  const place = maskPath(what.url);
  let status: number;
  try {
    status = await withDeadline(timeoutMilliseconds, signal, (ended) => send(what, ended));
  } catch (error) {
    if (signal?.aborted === true) throw error;
    const isLate = error instanceof DeadlinePassed || error === undefined;
    const why = isLate ? `no answer within ${timeoutMilliseconds / 1_000} s` : sayError(error);
    throw new RetentionError(`${place}: ${why}`, { code: 'WEBHOOK_UNREACHED' });
  }
  if (status >= 200 && status < 300) return;
  if (status >= 300 && status < 400) {
    throw new RetentionError(`${place} answered ${status}, and redirects are not followed`, {
      code: 'WEBHOOK_REDIRECT',
      remedy: 'Set RETENTION_WEBHOOK_URL to the address that it leads to.',
    });
  }
  throw new RetentionError(`${place} answered ${status}`, { code: `WEBHOOK_${status}` });
}

/** An error's words may quote the address: only codes, and words of ours. */
function sayError(error: unknown): string {
  const code = codeOf(error);
  if (code !== undefined) return `no answer (${code})`;
  return error instanceof Error && error.message.startsWith('expected ')
    ? describeError(error)
    : 'no answer';
}

/** The status of the answer. */
function send(
  { url, headers, body }: Pick<Post, 'url' | 'headers' | 'body'>,
  signal: AbortSignal,
): Promise<number> {
  const address = new URL(url);
  const { httpAgent, httpsAgent } = createAgents(address.host, 1);
  const isTls = address.protocol === 'https:';
  const agent = isTls ? httpsAgent : httpAgent;
  return new Promise<number>((resolve, reject) => {
    const bytes = Buffer.from(body);
    const outgoing = (isTls ? requestHttps : requestHttp)(
      address,
      {
        method: 'POST',
        agent,
        signal,
        headers: {
          'content-type': 'application/json',
          'content-length': String(bytes.length),
          'user-agent': 'retention-reactor',
          ...headers,
        },
      },
      (answer) => {
        // It may be without end.
        answer.on('error', () => undefined);
        answer.destroy();
        resolve(answer.statusCode ?? 0);
      },
    );
    outgoing.on('error', (error) => reject(signal.aborted ? (signal.reason as Error) : error));
    outgoing.end(bytes);
  }).finally(() => agent.destroy());
}
