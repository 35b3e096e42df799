import { Command } from 'commander';
import { printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';

/** `retention webhook test` */
export function webhookCommand(): Command {
  const command = new Command('webhook').description(
    'Where listeners post what a person should know at once (RETENTION_WEBHOOK_URL).',
  );
  command
    .command('test')
    .description('Post a signed message of the type retention.test, once.')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exit code 1: it was not delivered. What waits to be sent, and why: select * from retention.webhook

Example:
  $ retention webhook test`,
    )
    .action(test);
  return command;
}

async function test({ json }: { readonly json?: boolean }): Promise<void> {
  const { config } = await readSettings('webhook');
  const { testWebhook } = await import('../../assembly-webhook.ts');
  const id = await testWebhook({ config });
  if (json === true) printJson({ delivered: true, webhook_id: id });
  else printLine(`Delivered, with the webhook-id ${id}.`);
}
