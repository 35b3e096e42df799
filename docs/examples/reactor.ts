import { createLogger, createReactor, readConfig } from 'retention-reactor';

// Every fault of the environment is in one error.
const config = readConfig(process.env, { command: 'listen' });

export const reactor = createReactor({
  config,
  logger: createLogger({ level: config.logLevel }),
  onEvent: (event) => {
    if (event.type !== 'notification' || event.channel !== 'retention_cleared') return;
    console.log(`${event.payload.cleared} results cleared in ${event.payload.bucket}`);
  },
});

// Resolves at once: it goes on trying to reach the database.
await reactor.start();

// Finishes what is in flight.
process.once('SIGTERM', () => void reactor.stop());
