import type { Config } from '../config/config.ts';
import type { Logger } from '../logger.ts';

/** Reads the configuration of a command, and makes a logger as it says. */
export async function readSettings(command: string): Promise<{
  readonly config: Config;
  readonly logger: Logger;
}> {
  const [{ readConfig }, { createLogger }] = await Promise.all([
    import('../config/config.ts'),
    import('../logger.ts'),
  ]);
  const config = readConfig(process.env, { command });
  return { config, logger: createLogger({ level: config.logLevel, json: config.jsonLogs }) };
}
