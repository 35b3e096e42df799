import { readFile } from 'node:fs/promises';
import { ConfigurationError } from '../errors.ts';

/** Where the password of addresses without one is read, each time a session is opened. */
export interface PasswordFile {
  readonly path: string;
  /** Whose password it is: an address of another user does not get it. */
  readonly user: string;
}

/**
 * Reads the file, without the newline at its end.
 *
 * @throws ConfigurationError when it cannot be read.
 */
export async function readPasswordFile(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).replace(/\r?\n$/u, '');
  } catch (error) {
    const fault = {
      name: 'DATABASE_PASSWORD_FILE',
      expected: 'a file that can be read',
      given: `"${path}"`,
      remedy: 'Check that it is there and that this process may read it.',
    };
    throw new ConfigurationError([fault], { cause: error });
  }
}
