/**
 * The SQL expression of a migration's setting: what the running session was given under
 * `retention.<name>` (the `migrate` function of the library does that), else the environment.
 */
export function setting(name: string, variable: string, fallback: string): string {
  const value = process.env[variable] || fallback;
  return `coalesce(nullif(current_setting('retention.${name}', true), ''), ${literal(value)})`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
