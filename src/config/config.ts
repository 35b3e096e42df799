import { z } from 'zod';
import { ConfigurationError, type ConfigurationFault } from '../errors.ts';
import { escapeControls, maskUrl, parseUrl, redactSecrets, shorten } from '../safe-text.ts';
import { s3BudgetSeconds } from '../retry-budget.ts';
import {
  SETTINGS,
  SETTING_LIST,
  type Setting,
  type SettingKey,
  type SettingValues,
  type StoredValue,
  onlyOne,
} from './settings.ts';
import { findUnknownVariables, isKubernetesLink } from './unknown-variables.ts';
import { ANY_BUCKET, type ExpectedText } from './values.ts';

type Environment = Readonly<Record<string, string | undefined>>;
type Texts = Readonly<Partial<Record<SettingKey, string>>>;

/** Every setting, validated; units are in the names. */
export interface Config extends SettingValues {
  readonly databaseUrl: string;
  /** Default: `databaseUrl`. */
  readonly databaseListenUrl: string;
  /** Default: `databaseListenUrl`. */
  readonly databaseMigrateUrl: string;
  /** `DATABASE_PASSWORD_FILE`, and whose password it is. */
  readonly passwordFile: { readonly path: string; readonly user: string } | undefined;
  /** The bucket of rows that name none: the only allowed one, if there is just one. */
  readonly defaultBucket: string | undefined;
  /** The variables that were set, each with its value for people: secrets are masked. */
  readonly given: ReadonlyMap<string, string>;
}

/** How the environment is read. */
export interface ReadConfigOptions {
  /** Whose required settings are asked for. Default: what every command requires. */
  readonly command?: string;
}

const schema = z.object(
  Object.fromEntries(
    SETTING_LIST.map((each): [string, z.ZodType] => [
      each.key,
      each.default === undefined ? each.schema.optional() : each.schema.default(each.default),
    ]),
  ),
);

/**
 * Reads and validates the environment. A variable that is empty counts as absent.
 *
 * @throws ConfigurationError naming every fault at once, without secrets.
 */
export function readConfig(env: Environment, options: ReadConfigOptions = {}): Config {
  const texts = textsOf(env);
  const parsed = schema.safeParse(texts);
  const faults: ConfigurationFault[] = parsed.success
    ? [...checkTogether(parsed.data as SettingValues)]
    : faultsOf(parsed.error, texts);
  faults.push(...missing(texts, options.command));
  faults.push(...findUnknownVariables(env, VARIABLES));
  if (faults.length > 0 || !parsed.success) throw new ConfigurationError(faults);

  const values = parsed.data as SettingValues;
  // A required setting that is missing has been reported above.
  const databaseUrl = values.databaseUrl ?? '';
  const databaseListenUrl = values.databaseListenUrl ?? databaseUrl;
  return {
    ...values,
    databaseUrl,
    databaseListenUrl,
    databaseMigrateUrl: values.databaseMigrateUrl ?? databaseListenUrl,
    passwordFile:
      values.databasePasswordFile === undefined
        ? undefined
        : { path: values.databasePasswordFile, user: userOf(databaseUrl) },
    defaultBucket: onlyOne(values.resultBuckets),
    given: givenOf(texts),
  };
}

/** Whose address it is; decodable, since it was validated. */
function userOf(url: string): string {
  const parsed = parseUrl(url);
  return decodeURIComponent(parsed?.searchParams.get('user') ?? parsed?.username ?? '');
}

/** The arguments of `retention.apply_variables`: the given settings that live in the database. */
export function storedSettings(config: Config): Readonly<Record<string, StoredValue>> {
  return Object.fromEntries(
    SETTING_LIST.flatMap((each): [string, StoredValue][] =>
      each.column !== null && config.given.has(each.variable)
        ? [[each.column, each.storedValue(config[each.key])]]
        : [],
    ),
  );
}

const VARIABLES = SETTING_LIST.map(({ variable }) => variable);

function textsOf(env: Environment): Texts {
  const texts: Partial<Record<SettingKey, string>> = {};
  for (const { key, variable } of SETTING_LIST) {
    const text = env[variable]?.trim();
    if (text !== undefined && text !== '') texts[key] = text;
  }
  return texts;
}

function givenOf(texts: Texts): ReadonlyMap<string, string> {
  const given = SETTING_LIST.filter(({ key }) => texts[key] !== undefined);
  return new Map(given.map((each) => [each.variable, showValue(each, texts[each.key] ?? '')]));
}

const MAX_GIVEN_CHARACTERS = 120;

/** A value for people. Any value may be an address that was pasted in the wrong place. */
function showValue({ secret, mask = maskUrl }: Setting, text: string): string {
  if (secret) return mask(text);
  return shorten(escapeControls(redactSecrets(text)), MAX_GIVEN_CHARACTERS);
}

/** One fault for each setting that is wrong. */
function faultsOf(error: z.ZodError, texts: Texts): ConfigurationFault[] {
  return SETTING_LIST.flatMap((each) => {
    const issue = error.issues.find(({ path }) => path[0] === each.key);
    if (issue === undefined) return [];
    const words = issue.code === 'custom' ? (issue.params as Partial<ExpectedText>) : {};
    return [faultOf(each, texts[each.key] ?? '', words)];
  });
}

function faultOf(
  setting: Setting,
  text: string,
  words: Partial<ExpectedText> = {},
): ConfigurationFault {
  const shown = showValue(setting, text);
  return {
    name: setting.variable,
    expected: redactSecrets(words.expected ?? setting.expected),
    given: setting.secret ? shown : `"${shown}"`,
    remedy: isKubernetesLink(setting.variable, text)
      ? 'Kubernetes wrote this for a Service of that name: set enableServiceLinks: false.'
      : (words.remedy ?? setting.remedy),
  };
}

function missing(texts: Texts, command: string | undefined): ConfigurationFault[] {
  return SETTING_LIST.filter(
    ({ key, requiredBy }) =>
      texts[key] === undefined &&
      (requiredBy === 'every command' || (command !== undefined && requiredBy.includes(command))),
  ).map(({ variable, expected, remedy }) => ({
    name: variable,
    expected,
    given: 'nothing',
    remedy,
  }));
}

function* checkTogether(values: SettingValues): Generator<ConfigurationFault> {
  const { s3MaxAttempts, s3RequestTimeoutSeconds } = values;
  if (values.fence === 's3' && firstBucket(values) === undefined) {
    yield {
      name: SETTINGS.fence.variable,
      expected: `a bucket in ${SETTINGS.resultBuckets.variable}, whose first name holds the fence`,
      given: 's3',
      remedy: `Set ${SETTINGS.resultBuckets.variable}, or ${SETTINGS.fence.variable}=none.`,
    };
  }
  if (values.webhookUrl !== undefined && values.webhookSecretFile === undefined) {
    const { variable, expected } = SETTINGS.webhookSecretFile;
    yield {
      name: variable,
      expected: `${expected}, as ${SETTINGS.webhookUrl.variable} is set: messages are signed`,
      given: 'nothing',
      remedy: 'Make a secret with: echo "whsec_$(openssl rand -base64 32)"',
    };
  }
  const budget = s3BudgetSeconds({ s3MaxAttempts, s3RequestTimeoutSeconds });
  if (values.leaseSeconds <= budget) {
    yield {
      name: SETTINGS.leaseSeconds.variable,
      expected: `more than ${budget} seconds, the longest that one S3 request can take`,
      given: String(values.leaseSeconds),
      remedy:
        `Raise it, or lower ${SETTINGS.s3MaxAttempts.variable} (${s3MaxAttempts}) or ` +
        `${SETTINGS.s3RequestTimeoutSeconds.variable} (${s3RequestTimeoutSeconds}).`,
    };
  }
}

/** The bucket that holds what the product keeps for itself; undefined: none is named. */
export function firstBucket({ resultBuckets }: Pick<Config, 'resultBuckets'>): string | undefined {
  return resultBuckets.find((name) => name !== '*');
}

/**
 * The buckets that a process of this configuration may delete from and stamp for; undefined: any.
 *
 * @throws ConfigurationError when it names none.
 */
export function allowedBuckets(config: Config): readonly string[] | undefined {
  if (config.resultBuckets.length > 0) return namedBuckets(config);
  const { variable, expected, remedy } = SETTINGS.resultBuckets;
  throw new ConfigurationError([{ name: variable, expected, given: 'nothing', remedy }]);
}

/** The same for what only looks: where none is named, none is known to be refused. */
export function namedBuckets({ resultBuckets }: Config): readonly string[] | undefined {
  const isAny = resultBuckets.length === 0 || resultBuckets.includes(ANY_BUCKET);
  return isAny ? undefined : resultBuckets;
}
