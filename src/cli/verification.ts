import type { VerifyRequest } from '../assembly.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../logger.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Verification } from '../reactor/verify.ts';
import { escapeControls } from '../safe-text.ts';
import { printLine } from './output.ts';
import { readWholeNumber } from './whole-number.ts';

const MOST_REQUESTS_PER_SECOND = 100_000;

/** The options of `reconcile` that are about drift and orphans. */
export interface VerifyOptions {
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly verify?: boolean;
  readonly orphans?: boolean;
  readonly delete?: boolean;
  readonly bucket?: readonly string[];
  readonly prefix?: readonly string[];
  readonly restart?: boolean;
  readonly inventory?: readonly string[];
  readonly maxRequestsPerSecond?: string;
  readonly margin?: string;
  readonly deletedList?: string;
}

/**
 * Runs the part of a reconcile that looks into buckets, when it was asked for.
 *
 * @throws UsageError for options that do not go together, or a prefix that nothing bears.
 * @throws UsageError also for a margin of less than an hour.
 * @throws RefusedError while the reactor is disabled.
 */
export async function verifyIfAsked(
  config: Config,
  logger: Logger,
  objects: ObjectStore,
  options: VerifyOptions,
): Promise<Verification | undefined> {
  const { UsageError } = await import('../errors.ts');
  if (options.delete !== undefined || options.deletedList !== undefined) {
    throw new UsageError('reconcile deletes no orphans; nothing was done', {
      remedy:
        'Make a list with: retention orphans --list FILE. Look at it, and an hour later delete exactly that list with: ' +
        'retention orphans --delete --list FILE',
    });
  }
  const isAsked = options.verify === true || options.orphans === true;
  const { bucket, prefix, margin, restart, maxRequestsPerSecond, inventory } = options;
  const about = [bucket, prefix, margin, restart, maxRequestsPerSecond, inventory];
  if (!isAsked) {
    if (about.every((option) => option === undefined)) return undefined;
    throw new UsageError(
      '--bucket, --prefix, --margin, --restart, --max-requests-per-second and --inventory are for --verify and --orphans',
      { remedy: 'Say --verify, --orphans or both.' },
    );
  }
  const marginSeconds = await readMargin(margin);
  const ceiling =
    maxRequestsPerSecond === undefined
      ? undefined
      : await readWholeNumber(
          maxRequestsPerSecond,
          '--max-requests-per-second',
          MOST_REQUESTS_PER_SECOND,
        );
  if (options.dryRun !== true) {
    // Asked before a person has to confirm anything.
    const { refuseWhileDisabled } = await import('../reactor/gate.ts');
    refuseWhileDisabled(config);
  }
  const { verify } = await import('../assembly.ts');
  const request: VerifyRequest = {
    config,
    logger,
    objects,
    ...(prefix === undefined ? {} : { prefix }),
    restart: restart === true,
    ...(inventory === undefined ? {} : { inventory }),
    maxRequestsPerSecond: ceiling,
    dryRun: options.dryRun === true,
    repair: options.verify === true,
    confirmed: options.yes === true,
    ...(bucket === undefined ? {} : { buckets: bucket }),
    orphanMarginSeconds: marginSeconds,
  };
  const verified = await verify(request);
  const { listed, stamped } = verified;
  if (prefix !== undefined && listed === 0 && stamped === 0 && !hasFailed(verified)) {
    const named = prefix.map((each) => `"${each}"`).join(' or ');
    throw new UsageError(`no object and no run has a key that begins with ${named}`, {
      remedy: 'A prefix is the literal beginning of the keys, such as results/2026-.',
    });
  }
  return verified;
}

/** The keys that a verify adds to `reconcile --json`. */
export function describeVerified(
  verified: Verification | undefined,
  options: VerifyOptions,
): object {
  if (verified === undefined) return {};
  const { stamped, requeued, orphans, failedBuckets, passedBy } = verified;
  return {
    ...(options.verify === true ? { drift: { stamped, requeued } } : {}),
    ...(options.orphans === true ? { orphans } : {}),
    buckets_failed: failedBuckets,
    buckets_passed_by: passedBy,
  };
}

/** The lines that a verify adds to the text output. */
export function printVerified(verified: Verification | undefined, options: VerifyOptions): void {
  if (verified === undefined) return;
  const { listed, stamped, requeued, orphans, failedBuckets, passedBy } = verified;
  const would = options.dryRun === true ? 'would be ' : '';
  printLine(`${listed} objects listed`);
  if (options.verify === true) {
    printLine(`${stamped} results whose object is gone ${would}stamped`);
    printLine(`${requeued} results whose object is back ${would}taken up again`);
  }
  if (options.orphans === true) {
    printLine(`${orphans.objects} orphans older than the margin (${orphans.bytes} bytes)`);
  }
  for (const { bucket, code, reason } of failedBuckets) {
    printLine(escapeControls(`bucket ${bucket} could not be verified: ${code} ${reason}`));
  }
  for (const bucket of passedBy) {
    printLine(escapeControls(`bucket ${bucket} was passed by: S3_RESULT_BUCKET does not name it`));
  }
}

/** Whether a part of a verify failed: the command does the rest, and exits 1. */
export function hasFailed(verified: Verification | undefined): boolean {
  return verified !== undefined && verified.failedBuckets.length > 0;
}

/**
 * How old an orphan is at least, in seconds. Default: a day.
 *
 * @throws UsageError for less than an hour.
 */
export async function readMargin(text: string | undefined): Promise<number> {
  const [{ parseDuration, MILLISECONDS }, { UsageError }] = await Promise.all([
    import('../lifecycle/duration.ts'),
    import('../errors.ts'),
  ]);
  const milliseconds = text === undefined ? MILLISECONDS.day : parseDuration(text, '--margin');
  if (milliseconds < MILLISECONDS.hour) {
    throw new UsageError(`--margin: expected 1h or more; given "${text}"`, {
      remedy: 'A younger object may be an upload whose row is still to come.',
    });
  }
  return milliseconds / MILLISECONDS.second;
}
