import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';

import { DEFAULT_MAX_ATTEMPTS, DEFAULT_REQUEST_TIMEOUT_MILLISECONDS } from '../../retry-budget.ts';
import type { Agents } from '../../network/agents.ts';
import type { S3ObjectStoreOptions, Sdk } from './connection.ts';

export const DEFAULT_CONNECT_TIMEOUT_MILLISECONDS = 5_000;

export const FALLBACK_REGION = 'us-east-1';
const WARNING_SWITCH = 'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED';

/** What tells one client from another. */
export interface ClientTraits {
  /** Where the bucket said that it is. Undefined: as configured. */
  readonly region?: string | undefined;
  readonly addressing?: 'path' | 'virtual' | undefined;
}

/** Makes a client. It reads the credentials' files again, which the SDK otherwise does once per process. */
export async function connect(
  sdk: Sdk,
  options: S3ObjectStoreOptions,
  traits: ClientTraits,
  agents: Agents,
): Promise<S3Client> {
  const client = withoutNodeWarning(() => new sdk.S3Client(clientConfig(options, traits, agents)));
  withoutLog(client);
  try {
    await client.config.region();
    return client;
  } catch {
    // No region is set anywhere. Any will do: a bucket elsewhere says where it is.
    const fallback = { ...traits, region: FALLBACK_REGION };
    return withoutLog(new sdk.S3Client(clientConfig(options, fallback, agents)));
  }
}

/** The SDK's log is not read, for which it copies each of a thousand keys, there and back. */
export function withoutLog(client: S3Client): S3Client {
  client.middlewareStack.remove('loggerMiddleware');
  return client;
}

/** The configuration of a client. Default of `agents`: the SDK's own. */
export function clientConfig(
  options: S3ObjectStoreOptions,
  { region: learned, addressing }: ClientTraits,
  agents?: Agents,
): S3ClientConfig {
  const requestTimeout = options.requestTimeoutMilliseconds ?? DEFAULT_REQUEST_TIMEOUT_MILLISECONDS;
  const pathStyle =
    addressing === undefined ? options.endpoint !== undefined : addressing === 'path';
  const config: S3ClientConfig & { readonly ignoreCache: boolean } = {
    maxAttempts: options.maxAttempts ?? DEFAULT_MAX_ATTEMPTS,
    requestHandler: {
      connectionTimeout: options.connectTimeoutMilliseconds ?? DEFAULT_CONNECT_TIMEOUT_MILLISECONDS,
      // Watches until the headers are there; without the flag it only warns.
      requestTimeout,
      throwOnRequestTimeout: true,
      // Ends a body that stalls. One that trickles is left to the call's deadline.
      socketTimeout: requestTimeout,
      ...agents,
    },
    // Handed on to the chain of credentials, which hands it on to the reader of files.
    ignoreCache: true,
    ...(pathStyle ? { forcePathStyle: true } : {}),
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...options.clientConfig,
    ...(learned === undefined ? {} : { region: learned }),
  };
  return config;
}

/**
 * The SDK warns once per process on a Node version that it is going to drop, which is this
 * package's concern and not its user's. The switch is set only while the SDK looks at it.
 */
export function withoutNodeWarning<T>(construct: () => T): T {
  const before = process.env[WARNING_SWITCH];
  process.env[WARNING_SWITCH] = before ?? 'true';
  try {
    return construct();
  } finally {
    if (before === undefined) delete process.env[WARNING_SWITCH];
  }
}
