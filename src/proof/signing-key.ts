import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { open, readFile, rm, stat } from 'node:fs/promises';
import { ConfigurationError, UsageError, codeOf } from '../errors.ts';

/** The public half of a signing key. */
export interface PublicKey {
  readonly pem: string;
  /** SHA-256 over its DER form, in hexadecimal: short enough to be read out. */
  readonly fingerprint: string;
}

const VARIABLE = 'RETENTION_SIGNING_KEY_FILE';
const MAKE_ONE = 'Make one with: retention proof key';
const KEY_MODE = 0o600;

/**
 * Makes an Ed25519 key and writes it to a file that only its owner can read. Returns the public half.
 *
 * @throws UsageError when the file is there already, or cannot be written.
 */
export async function makeSigningKey(path: string): Promise<PublicKey> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const file = await open(path, 'wx', KEY_MODE).catch((error: unknown) => {
    throw new UsageError(`the key was not written to ${path}: ${whyNot(error)}`, {
      remedy:
        codeOf(error) === 'EEXIST'
          ? 'A key is never overwritten: what it has signed could no longer be checked. Name another file.'
          : 'Name a file in a folder that is there and that this user may write to.',
    });
  });
  try {
    await file.writeFile(privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await file.sync();
  } catch (error) {
    // Half a key is none, and would stand in the way of the next attempt.
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return publicKeyOf(privateKey);
}

function whyNot(error: unknown): string {
  const code = codeOf(error);
  if (code === 'EEXIST') return 'a file of that name is there';
  if (code === 'ENOENT') return 'there is no such folder';
  return code ?? 'it cannot be written';
}

/** The public half of a private key. */
export function publicKeyOf(privateKey: KeyObject): PublicKey {
  const key = createPublicKey(privateKey);
  return {
    pem: key.export({ type: 'spki', format: 'pem' }).toString(),
    fingerprint: createHash('sha256')
      .update(key.export({ type: 'spki', format: 'der' }))
      .digest('hex'),
  };
}

/**
 * Reads the key that certificates are signed with.
 *
 * @throws ConfigurationError when it cannot be read, is open to others, or is no Ed25519 private key.
 */
export async function readSigningKey(path: string): Promise<KeyObject> {
  const wrong = (expected: string, given: string, remedy: string, cause?: unknown): never => {
    throw new ConfigurationError(
      [{ name: VARIABLE, expected, given: `"${path}", ${given}`, remedy }],
      cause === undefined ? {} : { cause },
    );
  };
  const unreadable = (error: unknown): never =>
    wrong(
      'a file that can be read',
      codeOf(error) === 'ENOENT' ? 'which is not there' : (codeOf(error) ?? 'not readable'),
      `Check the path and its rights. ${MAKE_ONE}`,
      error,
    );
  const about = await stat(path).catch(unreadable);
  if (!about.isFile()) return wrong('a file', 'which is none', MAKE_ONE);
  if (isOpen(about)) {
    const mode = (about.mode & 0o777).toString(8).padStart(4, '0');
    return wrong(
      'a file that only its owner can read',
      `whose mode is ${mode}`,
      'Run: chmod 600 on it. Where root owns it, its group may read it too (0640).',
    );
  }
  const pem = await readFile(path, 'utf8').catch(unreadable);
  const kind = kindOf(pem);
  if (kind.key !== undefined) return kind.key;
  return wrong('an Ed25519 private key as PEM, without a passphrase', kind.given, MAKE_ONE);
}

/** As PostgreSQL judges its own key: 0600, or 0640 where root owns the file and reads it for others. */
function isOpen({ mode, uid }: { readonly mode: number; readonly uid: number }): boolean {
  const own = process.geteuid?.();
  // Windows has no modes.
  if (own === undefined) return false;
  return (mode & (uid === 0 && own !== 0 ? 0o037 : 0o077)) !== 0;
}

/** The key that a text holds, or what it holds instead. Nothing of the text itself is said. */
function kindOf(
  pem: string,
): { readonly key: KeyObject } | { readonly key: undefined; readonly given: string } {
  const label = /-----BEGIN ([A-Z0-9 ]{1,40})-----/u.exec(pem)?.[1];
  if (label === undefined) return { key: undefined, given: 'which holds no PEM' };
  if (!label.endsWith('PRIVATE KEY')) {
    return { key: undefined, given: `which holds a ${label.toLowerCase()}` };
  }
  if (label === 'ENCRYPTED PRIVATE KEY' || /^Proc-Type: 4,ENCRYPTED/mu.test(pem)) {
    return { key: undefined, given: 'which wants a passphrase' };
  }
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') return { key };
    return { key: undefined, given: `which holds a key of kind ${key.asymmetricKeyType}` };
  } catch {
    return { key: undefined, given: 'whose private key cannot be read' };
  }
}
