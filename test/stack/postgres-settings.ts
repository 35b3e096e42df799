const MAX_CONNECTIONS = 200;

/** What a private PostgreSQL may be asked for. */
export interface PrivatePostgresOptions {
  /** Where its data, socket and log go; a new or empty folder. Default: a temporary one. */
  readonly folder?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** A database to make, and the one that `url()` names. Default: `postgres`. */
  readonly databaseName?: string;
  /** Load pg_cron, with its jobs in `databaseName` or in the database named here. Default: no. */
  readonly cron?: boolean | { readonly databaseName: string };
  /** Further lines for postgresql.conf; they win over the ones set here. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Write to disk for real (`fsync`). Default: no, since the data is thrown away. */
  readonly durable?: boolean;
  /** The folder of `initdb` and `postgres`. Default: those of this machine. */
  readonly binFolder?: string;
}

/** The lines for postgresql.conf: this machine only, quick to start, pg_cron when asked for. */
export function configuration(
  options: PrivatePostgresOptions,
  place: { readonly host: string; readonly folder: string; readonly port: number },
): string {
  const { host, folder, port } = place;
  const durability = options.durable === true ? 'on' : 'off';
  const settings: Record<string, string> = {
    listen_addresses: host,
    port: String(port),
    unix_socket_directories: folder,
    max_connections: String(MAX_CONNECTIONS),
    fsync: durability,
    full_page_writes: durability,
    log_line_prefix: '%m [%p] %q%u@%d ',
    ...cronSettings(options, folder),
    ...options.settings,
  };
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`,
  );
  return `\n${lines.join('\n')}\n`;
}

// Background workers need no connection, hence no password set-up, and pg_cron wakes one per job.
function cronSettings(options: PrivatePostgresOptions, folder: string): Record<string, string> {
  const databaseName = cronDatabaseName(options);
  if (databaseName === undefined) return {};
  return {
    shared_preload_libraries: 'pg_cron',
    'cron.database_name': databaseName,
    'cron.use_background_workers': 'on',
    'cron.host': folder,
    max_worker_processes: '32',
  };
}

/** The database that pg_cron keeps its jobs in, when pg_cron is asked for. */
export function cronDatabaseName(options: PrivatePostgresOptions): string | undefined {
  if (options.cron === undefined || options.cron === false) return undefined;
  if (options.cron === true) return options.databaseName ?? 'postgres';
  return options.cron.databaseName;
}
