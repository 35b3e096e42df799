import { Command } from 'commander';
import { readSettings } from '../settings.ts';
import { keepHeapSmall } from '../small-heap.ts';

/** `retention listen` */
export function listenCommand(): Command {
  return new Command('listen')
    .description('Run a listener: react to flagged results until SIGTERM or SIGINT.')
    .addHelpText(
      'after',
      '\nExample:\n  $ DATABASE_URL=postgres://retention@db/app retention listen',
    )
    .action(listen);
}

async function listen(): Promise<void> {
  keepHeapSmall();
  const { config, logger } = await readSettings('listen');
  const [{ createReactor }, { onAbort }, { watchStopSignals }] = await Promise.all([
    import('../../assembly.ts'),
    import('../../lifecycle/linked-abort.ts'),
    import('../../lifecycle/signals.ts'),
  ]);
  const signals = watchStopSignals({
    onFirst: (signal) => logger.info(`${signal}: finishing what is in flight`),
    onSecond: (signal) => logger.warning(`${signal} again: ending at once`),
  });
  const reactor = createReactor({ config, logger });
  await reactor.start();
  await new Promise<void>((resolve) => {
    onAbort(signals.signal, resolve);
  });
  await reactor.stop();
  signals.dispose();
  logger.info('Stopped');
}
