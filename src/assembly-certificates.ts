import { type LibraryOptions, withStore } from './assembly.ts';
import type { Config } from './config/config.ts';
import { SETTINGS } from './config/settings.ts';
import { ConfigurationError, UsageError } from './errors.ts';
import { silentLogger } from './logger.ts';
import { withObjectStore } from './objects/open-object-store.ts';
import {
  type Certificate,
  type CertificateRequest as Request,
  makeCertificate,
} from './proof/certificate.ts';
import { sealFirst } from './proof/verify-seals.ts';
import { readSigningKey } from './proof/signing-key.ts';
import { createStore } from './store/store.ts';

/** What is certified: of which tenant, of which time, and into which folder. */
export type CertificateRequest = LibraryOptions & Request;

/**
 * Writes the certificate of a tenant and a period into a folder: what fell due, what went, what did not and why, signed,
 * and with all that it takes to check it without this product. Changes nothing in the database but that it seals what
 * is not sealed yet.
 *
 * @throws UsageError when the folder is not new or empty, for a period that is none or is not over, and when
 * nothing tells of such a tenant.
 * @throws ConfigurationError when the signing key is not named or cannot be used.
 * @throws DatabaseError
 */
export async function certify(request: CertificateRequest): Promise<Certificate> {
  const { config, logger = silentLogger, tenant, from, to, out } = request;
  if (tenant === '' || tenant === undefined || out === '') {
    throw new UsageError(`expected a tenant and a folder; given "${tenant}" and "${out}"`, {
      remedy: 'Results that have no tenant are asked for as null (--no-tenant).',
    });
  }
  if (!(to.getTime() > from.getTime())) {
    throw new UsageError('expected a period that begins before it is over', {
      remedy: 'The end is the first moment that is no longer in it: of one day it is the next day.',
    });
  }
  const key = await readSigningKey(signingKeyOf(config));
  return withStore({ config, logger }, async (store, database) => {
    const unsealed = await sealFirst(store, request.signal);
    if (unsealed !== null) logger.warning(`What settled last may not be sealed: ${unsealed}`);
    return withObjectStore(request, ({ inspection }) =>
      makeCertificate(request, {
        withSnapshot: (work) => database.withSnapshot((client) => work(createStore(client))),
        key,
        inspection,
      }),
    );
  });
}

function signingKeyOf({ signingKeyFile }: Config): string {
  if (signingKeyFile !== undefined) return signingKeyFile;
  const { variable, expected } = SETTINGS.signingKeyFile;
  throw new ConfigurationError([
    {
      name: variable,
      expected,
      given: 'nothing',
      remedy: 'Make one with: retention proof key',
    },
  ]);
}
