import { Command } from 'commander';
import type { NotificationLine } from '../notification-line.ts';
import { printJsonLine, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';
import { clockTime, paint } from '../terminal.ts';

/** `retention watch` */
export function watchCommand(): Command {
  return new Command('watch')
    .description('Show a line for each notification as it comes, until Ctrl-C.')
    .option('--json', 'print one JSON document a line')
    .addHelpText(
      'after',
      `
Every role may NOTIFY, so these lines are hints. The tables are the truth.

Example:
  $ retention watch
  12:00:05 flagged  1,250 results in 2 batches (dpp-results), oldest 2026-01-17`,
    )
    .action(watch);
}

async function watch(options: { readonly json?: boolean }): Promise<void> {
  const { config, logger } = await readSettings('watch');
  const [
    { CHANNELS },
    { withStore },
    { createNotifications },
    { watchStopSignals },
    { pause },
    { describeNotification },
  ] = await Promise.all([
    import('../../assembly-subscribe.ts'),
    import('../../assembly-store.ts'),
    import('../../database/notifications.ts'),
    import('../../lifecycle/signals.ts'),
    import('../../lifecycle/pause.ts'),
    import('../notification-line.ts'),
  ]);
  const signals = watchStopSignals();
  await withStore({ config, logger }, async (_store, database) => {
    const notifications = createNotifications({
      listenUrl: config.databaseListenUrl,
      passwordFile: config.passwordFile,
      notifier: database,
      channels: CHANNELS,
      logger,
      applicationName: 'retention watch',
      onNotification: (channel, payload, raw) => {
        const line = describeNotification(channel, payload, raw);
        if (options.json !== true) printNotification(line);
        else printJsonLine({ at: new Date(), channel, ...(line.isKnown ? { payload } : { raw }) });
      },
      // What was missed meanwhile is in the tables; there is nothing to catch up on here.
      onCaughtUp: () => undefined,
    });
    await notifications.start();
    await pause(Number.POSITIVE_INFINITY, signals.signal);
    await notifications.stop();
  });
  signals.dispose();
}

const COLORS: ReadonlyMap<string, 'yellow' | 'green' | 'red'> = new Map([
  ['flagged', 'yellow'],
  ['cleared', 'green'],
  ['failed', 'red'],
]);
const WORD_CHARACTERS = 8;

function printNotification({ word, text, isKnown }: NotificationLine): void {
  const padded = word.padEnd(WORD_CHARACTERS);
  const color = isKnown ? COLORS.get(word) : undefined;
  printLine(`${clockTime()} ${color === undefined ? padded : paint(color, padded)} ${text}`);
}
