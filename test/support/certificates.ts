import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A certificate authority of a test's own, and a server's certificate for the name `localhost`. */
export interface Certificates {
  readonly authorityFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

/**
 * Makes both with openssl.
 *
 * @param folder where the files go.
 * @param name begins their names.
 */
export function makeCertificates(folder: string, name: string): Certificates {
  const file = (suffix: string): string => join(folder, `${name}-${suffix}`);
  const openssl = (parameters: string): void => {
    execFileSync('openssl', parameters.split(' '), { stdio: 'pipe', cwd: folder });
  };
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';
  openssl(`req -x509 ${key} -days 2 -subj /CN=${name} -keyout ${name}-ca.key -out ${name}-ca.pem`);
  openssl(`req ${key} -subj /CN=localhost -keyout ${name}-server.key -out ${name}-server.csr`);
  writeFileSync(file('names'), 'subjectAltName=DNS:localhost\n');
  openssl(
    `x509 -req -in ${name}-server.csr -days 2 -extfile ${name}-names -CA ${name}-ca.pem ` +
      `-CAkey ${name}-ca.key -CAcreateserial -out ${name}-server.pem`,
  );
  return {
    authorityFile: file('ca.pem'),
    certificateFile: file('server.pem'),
    keyFile: file('server.key'),
  };
}
