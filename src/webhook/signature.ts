import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { RetentionError, codeOf } from '../errors.ts';

/** A secret of the webhook: 24 to 64 bytes. (Standard Webhooks: Signature scheme) */
const SECRET = /^whsec_(?<base64>[A-Za-z0-9+/]{32,88}={0,2})$/u;
const LEAST_BYTES = 24;
const MOST_BYTES = 64;

const REMEDY =
  'RETENTION_WEBHOOK_SECRET_FILE names a file with a line such as "whsec_" and 32 random bytes in base64; ' +
  'a second line while a secret is replaced. Make one with: echo "whsec_$(openssl rand -base64 32)"';

/**
 * Reads the secrets of a file, one a line: each signs, so that a receiver may be given the new one before the old
 * one goes. Nothing of the file is ever in an error.
 *
 * @throws RetentionError when the file cannot be read or holds something else.
 */
export async function readSecrets(path: string): Promise<readonly Buffer[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new RetentionError(
      `the file of RETENTION_WEBHOOK_SECRET_FILE cannot be read (${codeOf(error) ?? 'unknown'})`,
      { code: 'WEBHOOK_SECRET', remedy: REMEDY },
    );
  });
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const secrets = lines.map((line) =>
    Buffer.from(SECRET.exec(line)?.groups?.['base64'] ?? '', 'base64'),
  );
  const isWrong = ({ length }: Buffer): boolean => length < LEAST_BYTES || length > MOST_BYTES;
  if (secrets.length === 0 || secrets.some(isWrong)) {
    throw new RetentionError(
      `the file of RETENTION_WEBHOOK_SECRET_FILE: expected secrets of ${LEAST_BYTES} to ${MOST_BYTES} bytes that begin with whsec_, one a line`,
      { code: 'WEBHOOK_SECRET', remedy: REMEDY },
    );
  }
  return secrets;
}

/** The headers of one attempt. (Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature) */
export function signedHeaders(
  secrets: readonly Buffer[],
  message: { readonly id: string; readonly body: string },
  at: Date,
): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(at.getTime() / 1_000));
  const signed = `${message.id}.${timestamp}.${message.body}`;
  const signatures = secrets.map(
    (secret) => `v1,${createHmac('sha256', secret).update(signed).digest('base64')}`,
  );
  return {
    'webhook-id': message.id,
    'webhook-timestamp': timestamp,
    'webhook-signature': signatures.join(' '),
  };
}
