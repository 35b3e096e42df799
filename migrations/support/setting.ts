/**
 * The SQL expression of a migration's setting: what the running session was given under
 * `retention.<name>` (the `migrate` function of the library does that), else the environment.
 */
export function setting(name: string, variable: string, fallback: string): string {
  const given = `nullif(current_setting('retention.${name}', true), '')`;
  const fromEnvironment = literal(process.env[variable] || fallback);
  // The library says all that it was configured with; what it leaves out is left out on purpose.
  return `coalesce(${given}, case when current_setting('retention.by_library', true) = 'on'
    then ${literal(fallback)} else ${fromEnvironment} end)`;
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
