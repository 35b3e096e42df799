import { closeSync, fstatSync, openSync, unlinkSync, writeSync } from 'node:fs';
import type { VerifyRequest } from '../assembly.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../logger.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import type { Verification } from '../reactor/verify.ts';
import { escapeControls } from '../safe-text.ts';
import { confirm, printLine } from './output.ts';

/** The options of `reconcile` that are about drift and orphans. */
export interface VerifyOptions {
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly verify?: boolean;
  readonly orphans?: boolean;
  readonly delete?: boolean;
  readonly bucket?: readonly string[];
  readonly prefix?: string;
  readonly margin?: string;
  readonly deletedList?: string;
}

const DEFAULT_MARGIN = '24h';

/**
 * Runs the part of a reconcile that looks into buckets, when it was asked for.
 *
 * @throws UsageError for options that do not go together, or a prefix that nothing bears.
 * @throws UsageError also when the list of what is deleted cannot be written.
 * @throws RefusedError when deleting was not confirmed, and while the reactor is disabled.
 */
export async function verifyIfAsked(
  config: Config,
  logger: Logger,
  objects: ObjectStore,
  options: VerifyOptions,
): Promise<Verification | undefined> {
  const { UsageError } = await import('../errors.ts');
  const isAsked = options.verify === true || options.orphans === true;
  const about = [options.delete, options.bucket, options.prefix, options.margin];
  if (!isAsked) {
    if (about.every((option) => option === undefined)) return undefined;
    throw new UsageError(
      '--delete, --bucket, --prefix and --margin are for --verify and --orphans',
      { remedy: 'Say --verify, --orphans or both.' },
    );
  }
  const isDeleting = options.delete === true && options.dryRun !== true;
  if (options.delete === true && options.orphans !== true) {
    throw new UsageError('--delete is for --orphans', { remedy: 'Say --orphans --delete.' });
  }
  const { parseDuration } = await import('../lifecycle/duration.ts');
  const marginSeconds = parseDuration(options.margin ?? DEFAULT_MARGIN, '--margin') / 1_000;
  if (options.dryRun !== true) {
    // Asked before a person has to confirm anything.
    const { refuseWhileDisabled } = await import('../reactor/gate.ts');
    refuseWhileDisabled(config);
  }
  if (isDeleting) {
    await confirm(
      `Every object older than ${options.margin ?? DEFAULT_MARGIN} that no run points at will be ` +
        'deleted; that cannot be undone. Go on?',
      options.yes === true,
    );
  }
  const { verify } = await import('../assembly.ts');
  const list = isDeleting ? await openDeletedList(options.deletedList) : undefined;
  const request: VerifyRequest = {
    config,
    logger,
    objects,
    ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
    dryRun: options.dryRun === true,
    repair: options.verify === true,
    confirmed: options.yes === true,
    ...(options.bucket === undefined ? {} : { buckets: options.bucket }),
    orphanMarginSeconds: marginSeconds,
    deleteOrphans: isDeleting,
    ...(list === undefined ? {} : { onOrphansDeleted: list.add }),
  };
  let verified: Verification;
  try {
    verified = await verify(request);
  } finally {
    list?.end();
  }
  const { listed, stamped } = verified;
  if (options.prefix !== undefined && listed === 0 && stamped === 0 && !hasFailed(verified)) {
    throw new UsageError(`no object and no run has a key that begins with "${options.prefix}"`, {
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
    printLine(
      `${orphans.objects} orphans older than the margin (${orphans.bytes} bytes), ${orphans.deleted} deleted, ` +
        `${orphans.failed} failed`,
    );
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
  return (
    verified !== undefined && (verified.orphans.failed > 0 || verified.failedBuckets.length > 0)
  );
}

/** Opened before anything is deleted, and written at once: it must name all that is gone. */
async function openDeletedList(
  path = `retention-orphans-${new Date().toISOString().slice(0, 10)}.jsonl`,
) {
  let written = 0;
  let file: number;
  try {
    file = openSync(path, 'a');
  } catch (error) {
    const { UsageError, describeError } = await import('../errors.ts');
    throw new UsageError(
      `--deleted-list: cannot write ${path}: ${describeError(error)}; nothing was deleted`,
      { remedy: 'Name a file in a folder that you may write to.', cause: error },
    );
  }
  return {
    add: (bucket: string, orphans: readonly { key: string; bytes: number; modifiedAt: Date }[]) => {
      const lines = orphans.map(
        ({ key, bytes, modifiedAt }) =>
          `${JSON.stringify({ bucket, key, bytes, modified_at: modifiedAt })}\n`,
      );
      writeSync(file, lines.join(''));
      written += orphans.length;
    },
    end: () => {
      // An empty list is removed, and nothing that is no file, such as /dev/null.
      const stat = fstatSync(file);
      closeSync(file);
      if (stat.isFile() && stat.size === 0) unlinkSync(path);
      if (written > 0) process.stderr.write(`what was deleted is listed in ${path}\n`);
    },
  };
}
