import type {
  BucketDescription,
  BucketInspection,
  BucketProblem,
  LifecycleRule,
  ObjectListing,
} from '../../objects/abilities.ts';
import { showCount } from '../../numbers.ts';
import type { KnownBucket } from '../../store/buckets.ts';
import type { Diagnosis, HealthFacts } from '../../store/diagnosis.ts';
import { describeCeilings, describeDeletion, describeHabits, valuesOf } from '../bucket-meaning.ts';
import { checkConditions } from './bucket-conditions.ts';
import { checkObjects } from './bucket-objects.ts';
import { checkDeleteRight, grantIt } from './bucket-rights.ts';
import { type Check, attempt, failed, ok, warning } from './check.ts';
import { CREDENTIALS, checkCredentials } from './credentials-check.ts';

/** What the checks of buckets need. */
export interface BucketsToCheck {
  readonly inspection: BucketInspection;
  /** Undefined: the store cannot list. */
  readonly listing?: ObjectListing | undefined;
  /** How people call the store. */
  readonly place?: string | undefined;
  /** From `S3_RESULT_BUCKET`; none, or `*`: none is known to be refused. */
  readonly allowedBuckets: readonly string[];
  /** Undefined: the database cannot be asked. */
  readonly reader: Diagnosis | undefined;
  readonly health: HealthFacts | undefined;
}

/** Every bucket that is known here or named by the configuration. */
export async function checkBuckets(options: BucketsToCheck): Promise<readonly Check[]> {
  const { reader, allowedBuckets, health } = options;
  const checks: Check[] = [];
  const known = new Map<string, KnownBucket>();
  const listing = await attempt('buckets', async () => {
    for (const bucket of (await reader?.readBuckets()) ?? []) known.set(bucket.bucket, bucket);
    const names = namesOf(options, known);
    if (names.length > 0) return [];
    return warning(
      'buckets',
      'none is known: S3_RESULT_BUCKET names none, and nothing has been flagged yet',
      'Set S3_RESULT_BUCKET to the buckets of the results.',
    );
  });
  checks.push(...listing);
  const isAny = allowedBuckets.length === 0 || allowedBuckets.includes('*');
  const refused = new Set<string>();
  for (const name of namesOf(options, known)) {
    if (!isAny && !allowedBuckets.includes(name)) {
      checks.push(...(await attempt(`bucket ${name}`, () => checkRefused(name, options))));
      continue;
    }
    const bucket = known.get(name);
    const found = await attempt(`bucket ${name}`, () => checkBucket(name, bucket, options, health));
    // The same credentials are refused in every bucket: said once.
    checks.push(
      ...found.filter((check) => check.name !== CREDENTIALS || !refused.has(check.found)),
    );
    for (const check of found) refused.add(check.found);
  }
  return checks;
}

/** What waits in a bucket that nothing may be deleted from. */
async function checkRefused(name: string, options: BucketsToCheck): Promise<Check> {
  const { reader, allowedBuckets } = options;
  const waiting = (await reader?.readUnsettled(allowedBuckets)) ?? [];
  const results = waiting
    .filter(({ bucket, kind }) => bucket === name && kind === 'not allowed')
    .reduce((sum, each) => sum + each.results, 0);
  return warning(
    `bucket ${name}`,
    `it is not among the allowed buckets: ${showCount(results, 'flagged result waits', 'flagged results wait')} in it`,
    'Where they are to go, add it to the S3_RESULT_BUCKET of a listener; they need nothing else.',
  );
}

function namesOf(options: BucketsToCheck, known: ReadonlyMap<string, KnownBucket>): string[] {
  const fixed = options.health?.default_bucket ?? undefined;
  return [
    ...new Set([
      ...options.allowedBuckets.filter((name) => name !== '*'),
      ...(fixed === undefined ? [] : [fixed]),
      ...known.keys(),
    ]),
  ].toSorted();
}

async function checkBucket(
  name: string,
  known: KnownBucket | undefined,
  options: BucketsToCheck,
  health: HealthFacts | undefined,
): Promise<readonly Check[]> {
  const { inspection, reader } = options;
  const habits = valuesOf(known?.habits);
  const description = await inspection.describeBucket(name, { habits });
  const refusal = description.problems.find(({ isOfCredentials }) => isOfCredentials === true);
  if (refusal !== undefined) return [checkCredentials(refusal)];
  if (!description.reachable) {
    const [problem] = description.problems;
    return [
      failed(
        `bucket ${name}`,
        `cannot be reached: ${problem === undefined ? 'no answer' : `${problem.code}: ${problem.reason}`}`,
        problem?.outcome === 'refused'
          ? 'Check its name and S3_ENDPOINT_URL; runs that point at it wait.'
          : 'Check S3_ENDPOINT_URL, AWS_REGION and the credentials.',
      ),
    ];
  }
  const { versioning } = description;
  if (versioning !== 'unknown') await reader?.noteBucket(name, versioning);
  const onVersioned = known?.on_versioned ?? 'marker';
  return [
    checkPause(name, known, description),
    checkVersions(name, onVersioned, description),
    checkLock(name, onVersioned, description),
    ...(await checkLifecycle(name, onVersioned, description, reader, health)),
    ...(await checkDeleteRight(name, { onVersioned, description, inspection, reader, habits })),
    ...(await checkConditions(name, { known, inspection, reader, health })),
    ...(await checkObjects(name, options)),
  ];
}

function checkPause(name: string, known: KnownBucket | undefined, it: BucketDescription): Check {
  const differs = describeHabits(known?.habits ?? {});
  const ceilings = known === undefined ? '' : describeCeilings(known);
  const about =
    `reachable${it.region === undefined ? '' : `, in ${it.region}`}` +
    (differs === '' ? '' : `; its store differs from S3: ${differs}`) +
    (ceilings === '' ? '' : `; ceiling: ${ceilings}`);
  const pause = known?.pause ?? null;
  if (pause === null) return ok(`bucket ${name}`, about);
  return warning(
    `bucket ${name}`,
    `${about}; it pauses after ${pause}`,
    'Fix the cause; the pause ends by itself.',
  );
}

function checkVersions(
  name: string,
  onVersioned: 'marker' | 'purge',
  description: BucketDescription,
): Check {
  const title = `bucket ${name}: versions`;
  const { versioning } = description;
  if (versioning === 'unknown') {
    return warning(
      title,
      unknownPart(description, 's3:GetBucketVersioning'),
      grantIt(description.region, name, 's3:GetBucketVersioning'),
    );
  }
  const meaning = describeDeletion(versioning, onVersioned);
  if (versioning === 'off' || onVersioned === 'purge') return ok(title, meaning);
  return warning(
    title,
    meaning,
    'Keep a lifecycle rule that removes noncurrent versions, or delete every version: ' +
      `update retention.bucket set on_versioned = 'purge' where bucket = '${name}';`,
  );
}

function checkLock(
  name: string,
  onVersioned: 'marker' | 'purge',
  description: BucketDescription,
): Check {
  const title = `bucket ${name}: object lock`;
  const { objectLock, defaultRetention } = description;
  if (objectLock === 'unknown') {
    const right = 's3:GetBucketObjectLockConfiguration';
    return warning(
      title,
      unknownPart(description, right),
      grantIt(description.region, name, right),
    );
  }
  if (!objectLock) return ok(title, 'off');
  const span =
    defaultRetention === undefined
      ? 'no default retention'
      : `every new version is locked for ${lockSpan(defaultRetention)} (${defaultRetention.mode})`;
  if (onVersioned === 'marker') return ok(title, `on, ${span}; delete markers can still be made`);
  return warning(
    title,
    `on, ${span}; versions that are locked cannot be purged, and fail with the date until which they are`,
    'Let the default retention end before the policy does.',
  );
}

function lockSpan(retention: {
  readonly days?: number | undefined;
  readonly years?: number | undefined;
}): string {
  return retention.years === undefined
    ? showCount(retention.days ?? 0, 'day')
    : showCount(retention.years, 'year');
}

async function checkLifecycle(
  name: string,
  onVersioned: 'marker' | 'purge',
  description: BucketDescription,
  reader: Diagnosis | undefined,
  health: HealthFacts | undefined,
): Promise<readonly Check[]> {
  const title = `bucket ${name}: lifecycle`;
  const { lifecycle, versioning } = description;
  if (lifecycle === 'unknown') {
    const right = 's3:GetLifecycleConfiguration';
    return [
      warning(title, unknownPart(description, right), grantIt(description.region, name, right)),
    ];
  }
  const rules = lifecycle.filter(({ enabled }) => enabled);
  const checks: Check[] = [];
  for (const rule of rules) {
    const undercut = undercutBy(rule, health);
    if (undercut === undefined) continue;
    if (rule.prefix !== '' && reader !== undefined && !(await reader.hasKeyUnder(rule.prefix)))
      continue;
    checks.push(
      warning(
        title,
        `rule ${nameOf(rule)} ${undercut}: results go before they are due, and no run is stamped`,
        'Raise its days above the longest policy or switch it off; ' +
          'retention reconcile --verify stamps what is gone already.',
      ),
    );
  }
  const isVersioned = versioning === 'enabled' || versioning === 'suspended';
  if (isVersioned && onVersioned === 'marker' && !rules.some(removesNoncurrent)) {
    const kept = rules.find(({ noncurrentDays }) => noncurrentDays !== undefined);
    checks.push(
      warning(
        title,
        kept === undefined
          ? 'no rule ever removes noncurrent versions: what is deleted stays, and is paid for, for ever'
          : `rule ${nameOf(kept)} keeps ${showCount(kept.noncurrentKept ?? 0, 'noncurrent version')} of every object for ever`,
        'Add a rule with NoncurrentVersionExpiration (and ExpiredObjectDeleteMarker), or purge: ' +
          `update retention.bucket set on_versioned = 'purge' where bucket = '${name}';`,
      ),
    );
  }
  if (checks.length > 0) return checks;
  return [
    ok(
      title,
      rules.length === 0
        ? 'no rule expires anything'
        : `${showCount(rules.length, 'rule')}, none in the way`,
    ),
  ];
}

/** How a rule deletes before the longest policy does; undefined: it does not. */
function undercutBy(rule: LifecycleRule, health: HealthFacts | undefined): string | undefined {
  const longest = health?.longest_retain_days;
  if (longest === undefined) return undefined;
  const where = `${rule.prefix === '' ? '' : ` under ${rule.prefix}`}${rule.narrowed ? ' of some objects' : ''}`;
  if (rule.expirationDate !== undefined) {
    return `deletes${where} everything on ${rule.expirationDate.toISOString().slice(0, 10)}`;
  }
  if (rule.expirationDays === undefined || rule.expirationDays >= longest) return undefined;
  return (
    `deletes${where} after ${showCount(rule.expirationDays, 'day')}, while the longest policy keeps ` +
    `results for ${showCount(Number(longest.toFixed(2)), 'day')}`
  );
}

function removesNoncurrent(rule: LifecycleRule): boolean {
  return rule.noncurrentDays !== undefined && (rule.noncurrentKept ?? 0) === 0 && !rule.narrowed;
}

function nameOf(rule: LifecycleRule): string {
  return rule.id === '' ? 'without a name' : `"${rule.id}"`;
}

function unknownPart(description: BucketDescription, right: string): string {
  const problem: BucketProblem | undefined =
    description.problems.find(({ missingAction }) => missingAction === right) ??
    description.problems[0];
  return problem === undefined ? 'not known' : `not known: ${problem.code}: ${problem.reason}`;
}
