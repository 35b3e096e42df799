import { parseUrl } from './safe-text.ts';

/** What a person does first, as texts to copy. No secret is in them. */
export interface FirstSteps {
  /** The variables, for a file such as `.env`; where a password belongs stands PASSWORD. */
  readonly env: Readonly<Record<string, string>>;
  /** SQL for a role that may create roles. */
  readonly grants: readonly string[];
  /** The policy of the identity that deletes. */
  readonly iam: object;
  readonly commands: readonly string[];
}

/** What the first steps are made of. */
export interface FirstStepsRequest {
  readonly databaseUrl: string;
  /** Where it is another one than `databaseUrl`. */
  readonly listenUrl: string;
  readonly migrateUrl: string;
  readonly database: string;
  /** Null: not known yet. */
  readonly table: string | null;
  readonly mapping: string;
  readonly buckets: readonly string[];
  readonly scheduler: string;
  readonly roles: readonly { readonly variable: string; readonly name: string }[];
  readonly existingRoles: readonly string[];
  /** Other variables as they are, none of them secret. */
  readonly more: Readonly<Record<string, string | undefined>>;
}

/** What stands where a password belongs. */
export const PASSWORD = 'PASSWORD';

/** The roles by which the documents call them. */
export const ROLE_NAMES = {
  RETENTION_ROLE: 'retention_listener',
  RETENTION_OPERATOR_ROLE: 'retention_operator',
  RETENTION_OBSERVER_ROLE: 'retention_observer',
} as const;

/** Writes what a person does first. */
export function firstSteps(request: FirstStepsRequest): FirstSteps {
  const { databaseUrl, listenUrl, migrateUrl, buckets, roles, existingRoles } = request;
  const [listener] = roles;
  const optional = {
    DATABASE_LISTEN_URL:
      listenUrl === databaseUrl ? undefined : addressFor(listenUrl, listener?.name),
    RETENTION_TABLE: request.table === 'public.runs' ? undefined : (request.table ?? undefined),
    RETENTION_COLUMNS: request.mapping === '' ? undefined : request.mapping,
    RETENTION_SCHEDULER: request.scheduler === 'pg_cron' ? undefined : request.scheduler,
    ...request.more,
  };
  const names = roles.map(({ name }) => quoteName(name));
  return {
    env: {
      DATABASE_URL: addressFor(databaseUrl, listener?.name),
      DATABASE_MIGRATE_URL: addressFor(migrateUrl),
      S3_RESULT_BUCKET: buckets.join(','),
      ...Object.fromEntries(roles.map(({ variable, name }) => [variable, quoteName(name)])),
      ...Object.fromEntries(
        Object.entries(optional).flatMap(([name, value]) =>
          value === undefined || value === '' ? [] : [[name, value]],
        ),
      ),
    },
    grants: [
      ...roles
        .filter(({ name }) => !existingRoles.includes(name))
        .map(({ name }) => `create role ${quoteName(name)} login password '${PASSWORD}';`),
      `grant connect on database ${quoteName(request.database)} to ${names.join(', ')};`,
    ],
    iam: {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'DeleteResults',
          Effect: 'Allow',
          Action: 's3:DeleteObject',
          Resource: resourcesOf(buckets),
        },
      ],
    },
    commands: [
      'npx retention migrate up',
      'npx retention doctor',
      'npx retention reconcile --dry-run',
      'npx retention listen',
    ],
  };
}

/** A line of a file of variables, as a shell, Node's `--env-file` and systemd read it. */
export function envLine(name: string, value: string): string {
  if (/^[\w@%+=:,./-]*$/u.test(value)) return `${name}=${value}`;
  if (!value.includes("'")) return `${name}='${value}'`;
  return `${name}="${value.replaceAll(/["\\$`]/gu, String.raw`\$&`)}"`;
}

/** An SQL name, in quotes where Postgres wants them. */
export function quoteName(name: string): string {
  return /^[a-z_][a-z0-9_$]*$/u.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

function resourcesOf(buckets: readonly string[]): string | readonly string[] {
  const named = buckets.length === 0 ? ['BUCKET'] : buckets;
  const resources = named.map((bucket) => `arn:aws:s3:::${bucket}/*`);
  return resources.length === 1 ? (resources[0] ?? '') : resources;
}

/** An address for another user, or the same one, with PASSWORD in place of a password. */
function addressFor(address: string, user?: string): string {
  const url = parseUrl(address);
  if (url === undefined) return '';
  const { searchParams } = url;
  const hasPassword = url.password !== '' || searchParams.has('password');
  const own = searchParams.get('user') ?? decodeURIComponent(url.username);
  for (const name of ['user', 'password', 'sslpassword']) searchParams.delete(name);
  url.username = encodeURIComponent(user ?? own);
  url.password = hasPassword ? PASSWORD : '';
  url.hash = '';
  return url.href;
}
