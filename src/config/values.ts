import { z } from 'zod';
import type { LogLevel } from '../logger.ts';
import { showNumber } from '../numbers.ts';
import { hasStrayAt, maskPath, parseUrl } from '../safe-text.ts';

/** What a value should have been, and what to do about one that is not. */
export interface ExpectedText {
  /** Continues "expected ...". */
  readonly expected: string;
  /** A whole sentence. */
  readonly remedy: string;
}

/** How the text of a variable becomes a value, in code and in words. */
export interface Kind<Value> extends ExpectedText {
  /** An issue with `params` of {@link ExpectedText} says more than the words here. */
  readonly schema: z.ZodType<Value, string>;
  /** What a number counts; null for what is no number. */
  readonly unit: string | null;
  /** Whether a value may hold a password, so that it is only shown masked. */
  readonly secret: boolean;
  /** How a secret value is masked. Default: as a URL with a password. */
  readonly mask?: ((text: string) => string) | undefined;
}

/** A check whose failure has words of its own. */
export function failure(words: Partial<ExpectedText>): {
  readonly params: Partial<ExpectedText>;
  readonly abort: true;
} {
  return { params: words, abort: true };
}

const PLAIN = { unit: null, secret: false } as const;

/** A whole number between both ends, written in digits. */
export function wholeNumber(unit: string, min: number, max: number): Kind<number> {
  return {
    ...PLAIN,
    unit,
    schema: z
      .string()
      .regex(/^\d{1,15}$/u)
      .transform(Number)
      .pipe(z.number().min(min).max(max)),
    expected: `a whole number of ${unit} from ${showNumber(min)} to ${showNumber(max)}`,
    remedy: 'Write it in digits only, without a unit.',
  };
}

/** The port of a server; 0 is any free one. */
export function port(): Kind<number> {
  const LAST = 65_535;
  return {
    ...wholeNumber('port', 0, LAST),
    unit: null,
    expected: `a port from 0 to ${LAST}`,
    remedy: 'Leave it out to serve nothing.',
  };
}

export function yesOrNo(): Kind<boolean> {
  return {
    ...PLAIN,
    schema: z.stringbool({ truthy: ['true', '1', 'yes'], falsy: ['false', '0', 'no'] }),
    expected: 'true or false',
    remedy: 'Write true, false, yes, no, 1 or 0.',
  };
}

/** One of some words. */
export function oneOf<const Word extends string>(
  words: readonly Word[],
  remedy: string,
): Kind<Word> {
  return { ...PLAIN, schema: z.enum(words), expected: words.join(' or '), remedy };
}

const LOG_LEVELS: ReadonlyMap<string, LogLevel> = new Map([
  ['debug', 'debug'],
  ['info', 'info'],
  ['warning', 'warning'],
  ['warn', 'warning'],
  ['error', 'error'],
  // Python's highest level asks for errors only, and there is nothing above them here.
  ['critical', 'error'],
  ['fatal', 'error'],
]);

/** A level by the names that Python's and Node's loggers have for it. */
export function logLevel(): Kind<LogLevel> {
  return {
    ...PLAIN,
    schema: z.string().transform((text, context): LogLevel => {
      const level = LOG_LEVELS.get(text.toLowerCase());
      if (level !== undefined) return level;
      context.addIssue({ code: 'custom' });
      return z.NEVER;
    }),
    expected: 'DEBUG, INFO, WARNING or ERROR',
    remedy: 'Capitals do not matter.',
  };
}

/** The address of a Postgres database, unchanged. */
export function postgresUrl(): Kind<string> {
  return {
    unit: null,
    secret: true,
    schema: z
      .string()
      .regex(/^postgres(ql)?:\/\//iu, { abort: true })
      .refine((text) => !namesSeveralHosts(text), failure(ONE_HOST))
      .refine((text) => isDecodable(parseUrl(text)), { abort: true })
      .refine(
        (text) => isCertain(text),
        failure({ expected: 'an address without a bare @, / or ? in its password' }),
      )
      .refine(
        (text) => parseUrl(text)?.hash === '',
        failure({ expected: 'an address without a bare # (written %23)' }),
      )
      .refine((text) => wantsPrimary(text), failure(ONLY_PRIMARIES)),
    expected: 'an address such as postgres://user:password@host:5432/database',
    remedy:
      'Percent-encode special characters in user and password (@ is %40, / is %2F, # is %23).',
  };
}

const ONE_HOST: ExpectedText = {
  expected: 'an address with one host (a list of hosts is not supported)',
  remedy:
    'Name the one address that leads to the primary: a virtual address, a pooler, or the writer endpoint of the service.',
};

/** Before the address is parsed: a list with ports is no URL. */
function namesSeveralHosts(text: string): boolean {
  const authority = /^[a-z]+:\/\/([^/?#]*)/iu.exec(text)?.[1] ?? '';
  const named = parseUrl(text)?.searchParams.get('host') ?? '';
  return `${authority.slice(authority.lastIndexOf('@') + 1)}${named}`.includes(',');
}

function isCertain(text: string): boolean {
  const url = parseUrl(text);
  return url !== undefined && !hasStrayAt(url);
}

const ONLY_PRIMARIES: ExpectedText = {
  expected: 'an address without target_session_attrs, or with read-write, primary or any',
  remedy: 'Sessions that cannot write are always refused. Leave the parameter out.',
};

/** What libpq reads and pg does not. (PostgreSQL: 32.1.2 Parameter Key Words) */
function wantsPrimary(text: string): boolean {
  const wanted = parseUrl(text)?.searchParams.get('target_session_attrs') ?? 'any';
  return ['any', 'read-write', 'primary'].includes(wanted);
}

/** The path of a file that is read later, and more than once. */
export function filePath(): Kind<string> {
  return {
    ...PLAIN,
    schema: z.string().regex(/^\//u),
    expected: 'the path of a file, from /',
    remedy: 'Name the file, not what it holds.',
  };
}

function isDecodable(url: URL | undefined): boolean {
  if (url === undefined) return false;
  try {
    for (const part of [url.username, url.password, url.hostname, url.pathname]) {
      decodeURIComponent(part);
    }
    return true;
  } catch {
    return false;
  }
}

/** The address of an S3 endpoint, without a closing slash. */
export function endpointUrl(): Kind<string> {
  return {
    unit: null,
    secret: true,
    schema: z
      .string()
      .refine((text) => /^https?:$/u.test(parseUrl(text)?.protocol ?? ''), { abort: true })
      .refine(
        (text) => hasNothingExtra(parseUrl(text)),
        failure({ expected: 'an address without credentials and without a query' }),
      )
      .transform((text) => text.replace(/\/+$/u, '')),
    expected: 'an http or https address such as https://s3.example.com',
    remedy: 'Give credentials through the AWS variables, not in the address.',
  };
}

/** The address of a webhook. Its path and its query are often a secret of their own. */
export function webhookUrl(): Kind<string> {
  return {
    unit: null,
    secret: true,
    mask: maskPath,
    schema: z
      .string()
      .refine((text) => /^https?:\/\//iu.test(text) && URL.canParse(text), { abort: true })
      .refine(
        (text) => new URL(text).hash === '' && !hasStrayAt(new URL(text)),
        failure({ expected: 'an address without a bare @ or # behind its host' }),
      ),
    expected: 'an http or https address such as https://hooks.example.com/retention',
    remedy: 'Percent-encode special characters in it (@ is %40, # is %23).',
  };
}

function hasNothingExtra(url: URL | undefined): boolean {
  return [url?.username, url?.password, url?.search, url?.hash].every((part) => part === '');
}

/** AWS's rules, widened by what older buckets and compatible stores have. */
const BUCKET_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/u;
const ACCESS_POINT = /^arn:[A-Za-z0-9-]+:s3[A-Za-z0-9-]*:[A-Za-z0-9:/._-]+$/u;

/** Says any bucket, in the place of names. */
export const ANY_BUCKET = '*';

/**
 * A comma-separated list of buckets or ARNs of access points, or {@link ANY_BUCKET} alone; a name given twice counts
 * once.
 */
export function buckets(): Kind<readonly string[]> {
  return {
    ...PLAIN,
    schema: z
      .string()
      .transform((text) => [...new Set(text.split(',').map((name) => name.trim()))])
      .transform((names) => names.filter((name) => name !== ''))
      .refine((names) => names.length > 0)
      .refine((names) => names.length === 1 || !names.includes(ANY_BUCKET), failure(NOT_BOTH))
      .refine((names) =>
        names.every(
          (name) => name === ANY_BUCKET || BUCKET_NAME.test(name) || ACCESS_POINT.test(name),
        ),
      ),
    expected: 'bucket names, comma-separated, or * for any bucket',
    remedy: 'Write bare names, without s3:// and without a path: dpp-results,dpp-archive.',
  };
}

/** One bucket, or the ARN of an access point. */
export function bucket(): Kind<string> {
  return {
    ...PLAIN,
    schema: z
      .string()
      .trim()
      .refine((name) => BUCKET_NAME.test(name) || ACCESS_POINT.test(name)),
    expected: 'the name of one bucket',
    remedy: 'Write the bare name, without s3:// and without a path: dpp-seals.',
  };
}

const NOT_BOTH: ExpectedText = {
  expected: 'either bucket names or * for any bucket',
  remedy: 'Take out the *, or the names.',
};

export function region(): Kind<string> {
  return {
    ...PLAIN,
    schema: z.string().regex(/^[A-Za-z0-9-]{1,64}$/u),
    expected: 'a region such as eu-central-1',
    remedy: 'Write the code of the region, not its name.',
  };
}

/** A host name or an IP address; no URL, no port, no blank. */
export function host(): Kind<string> {
  return {
    ...PLAIN,
    schema: z.string().regex(/^(?:[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45})$/u),
    expected: 'a host name or an IP address',
    remedy: 'Use 0.0.0.0 in a container, so that probes from outside arrive.',
  };
}

/** A text that the database reads; a mistake in it comes back as an error of the SQL function. */
export function readByDatabase(words: ExpectedText): Kind<string> {
  return { ...PLAIN, schema: z.string(), ...words };
}
