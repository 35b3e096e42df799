import type { Config } from '../config/config.ts';
import type { Logger } from '../logger.ts';

/** What most commands begin with: the configuration, and a logger that follows it. */
export async function readSettings(): Promise<{
  readonly config: Config;
  readonly logger: Logger;
}> {
  const [{ readConfig }, { createLogger }] = await Promise.all([
    import('../config/config.ts'),
    import('../logger.ts'),
  ]);
  const config = readConfig(process.env);
  return { config, logger: createLogger({ level: config.logLevel, json: config.jsonLogs }) };
}
