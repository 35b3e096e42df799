import type { LibraryOptions } from './assembly.ts';
import type { Config } from './config/config.ts';
import { SETTINGS } from './config/settings.ts';
import { ConfigurationError } from './errors.ts';
import type { AbortableLoop } from './lifecycle/abortable-loop.ts';
import type { Logger } from './logger.ts';
import type { Store } from './store/store.ts';
import { type WebhookAddress, createWebhook, sendTest } from './webhook/webhook.ts';

/** The sender of messages as it is configured; undefined: there is no webhook. */
export function openWebhook(
  config: Config,
  { store, logger }: { readonly store: Store; readonly logger: Logger },
): AbortableLoop | undefined {
  const address = addressOf(config);
  if (address === undefined) return undefined;
  return createWebhook({ ...address, store, logger, pollSeconds: config.pollSeconds });
}

/**
 * Sends a message of the type `retention.test` to the webhook, once and by this process. Returns its `webhook-id`.
 *
 * @throws ConfigurationError when none is configured.
 * @throws RetentionError when it was not delivered, with what the server answered.
 */
export async function testWebhook(
  options: Pick<LibraryOptions, 'config'> & { readonly signal?: AbortSignal },
): Promise<string> {
  const address = addressOf(options.config);
  if (address !== undefined) return sendTest(address, options.signal);
  const { variable: name, expected, remedy } = SETTINGS.webhookUrl;
  throw new ConfigurationError([{ name, expected, given: 'nothing', remedy }]);
}

function addressOf(config: Config): WebhookAddress | undefined {
  const { webhookUrl: url, webhookSecretFile: secretFile } = config;
  return url === undefined || secretFile === undefined ? undefined : { url, secretFile };
}
