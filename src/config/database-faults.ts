import { ConfigurationError, DatabaseError, SQLSTATE } from '../errors.ts';
import { redactSecrets } from '../safe-text.ts';
import type { Config } from './config.ts';
import { SETTING_LIST } from './settings.ts';

/**
 * Some settings are read by the database alone: `RETENTION_COLUMNS` has its grammar there. What the
 * SQL function refuses about one becomes the same report as for every other setting; any other error
 * comes back unchanged.
 */
export function asConfigurationError(error: unknown, config: Config): unknown {
  if (!(error instanceof DatabaseError) || error.sqlState !== SQLSTATE.invalid_parameter_value) {
    return error;
  }
  const { message } = error;
  const setting = SETTING_LIST.find(({ variable }) => message.startsWith(variable));
  if (setting === undefined) return error;
  const { variable: name, expected, remedy } = setting;
  const reason = redactSecrets(message.slice(name.length).replace(/^:?\s*/u, ''));
  const given = `"${config.given.get(name) ?? ''}" (${reason})`;
  return new ConfigurationError([{ name, expected, given, remedy: error.remedy ?? remedy }], {
    cause: error,
  });
}
