import { Command } from 'commander';
import { countOf, showCount, showNumber } from '../../numbers.ts';
import type { OrphanDeletion } from '../../reactor/orphans/tally.ts';
import { escapeControls } from '../../safe-text.ts';
import { withListingProgress } from '../listing-progress.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { createProgress } from '../progress.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';
import { readMargin } from '../verification.ts';
import { readWholeNumber } from '../whole-number.ts';

const MOST_OBJECTS = 999_999_999_999;

interface Options {
  readonly list?: string;
  readonly delete?: boolean;
  readonly expect?: string;
  readonly by?: string;
  readonly bucket?: string;
  readonly prefix?: string;
  readonly margin?: string;
  readonly history?: boolean;
  readonly json?: boolean;
}

/** What is said of a reason for which an object was left. */
const REASONS: Readonly<Record<string, string>> = {
  changed: 'another object than was listed',
  gone: 'gone before they were asked for',
  has_run: 'needed by a run by now',
  held: 'under a hold',
  kept: 'named by a keeper',
  in_flight: 'being deleted for a run',
  reserved: 'files of this product',
};

/** `retention orphans` */
export function orphansCommand(): Command {
  return new Command('orphans')
    .description('List objects that no run points at, and delete exactly such a list.')
    .option('--list <file>', 'the file of the list')
    .option('--delete', 'delete what the list names; the list must be an hour old')
    .option(
      '--expect <count>',
      'with --delete: how many objects the list names; needed for more than a tenth of the listed objects, or more than 10,000',
    )
    .option('--by <name>', "with --delete: who deletes; default: the database's user")
    .option('--bucket <name>', 'the bucket to list; default: the only one that is known')
    .option('--prefix <text>', 'list only keys that begin with this')
    .option('--margin <duration>', 'list only objects older than this, 1h or more (default: 24h)')
    .option('--history', 'the lists that were made, and what was deleted by them')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Each object is checked again before it is deleted. If the command was stopped, give it again: it goes on.
FILE.progress says what S3 was asked for.

Examples:
  $ retention orphans --list orphans.jsonl --prefix results/
  $ retention orphans --delete --list orphans.jsonl
  $ retention orphans --history`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  if (options.history === true) {
    await history(options);
    return;
  }
  if (options.list === undefined || options.list === '') {
    throw new UsageError('orphans: expected --list FILE or --history; given neither', {
      remedy:
        'List first: retention orphans --list FILE. Later: retention orphans --delete --list FILE',
    });
  }
  const about = { bucket: options.bucket, prefix: options.prefix, margin: options.margin };
  const confirmation = { expect: options.expect, by: options.by };
  const [of, out] = options.delete === true ? [about, '--delete'] : [confirmation, '--list alone'];
  const stray = Object.entries(of).find(([, value]) => value !== undefined);
  if (stray !== undefined) {
    throw new UsageError(`orphans: --${stray[0]} does not go with ${out}; nothing was done`, {
      remedy:
        options.delete === true
          ? 'A list is deleted exactly as it was made. Give this option when you make a list.'
          : 'Give it with --delete.',
    });
  }
  if (options.delete === true) await deleteList(options.list, options);
  else await makeList(options.list, options);
}

async function makeList(file: string, options: Options): Promise<void> {
  const marginSeconds = await readMargin(options.margin);
  const { config, logger } = await readSettings('orphans');
  const { listOrphans } = await import('../../assembly-orphans.ts');
  const { bucket, prefix } = options;
  const made = await withUsage(
    withListingProgress({ config, logger, isNarrowed: prefix !== undefined }, (onProgress) =>
      listOrphans({ config, logger, file, bucket, prefix, marginSeconds, onProgress }),
    ),
  );
  const { listed, orphans, bytes, digest, madeAt, listId } = made;
  if (options.json === true) {
    printJson({
      list: file,
      list_id: listId,
      bucket: made.bucket,
      prefix: made.prefix,
      listed,
      orphans,
      bytes,
      sha256: digest,
      made_at: madeAt,
    });
    return;
  }
  printLine(
    escapeControls(
      `${showNumber(orphans)} of ${showCount(listed, 'object')} in ${made.bucket} belong to no run ` +
        `(${showNumber(bytes)} bytes); they are listed in ${file}`,
    ),
  );
  if (orphans === 0) return;
  printLine('Look at the list. An hour later, delete exactly that list with:');
  printLine(escapeControls(`  retention orphans --delete --list ${file}`));
}

async function deleteList(file: string, options: Options): Promise<void> {
  const expected =
    options.expect === undefined
      ? undefined
      : await readWholeNumber(options.expect, '--expect', MOST_OBJECTS);
  const { config, logger } = await readSettings('orphans');
  const [{ deleteOrphans }, { watchStopSignals }, { EXIT_CODE }] = await Promise.all([
    import('../../assembly-orphans.ts'),
    import('../../lifecycle/signals.ts'),
    import('../../errors.ts'),
  ]);
  const signals = watchStopSignals();
  const progress = await createProgress({ one: 'object' });
  const { by } = options;
  const deleting = deleteOrphans({
    config,
    logger,
    file,
    expected,
    by,
    signal: signals.signal,
    onProgress: progress.update,
  });
  const deletion = await withUsage(deleting).finally(() => {
    progress.end();
    signals.dispose();
  });
  if (options.json === true) printJson(describe(file, deletion));
  else print(file, deletion);
  const { failed, notReached, stopped } = deletion;
  if (stopped?.isRefused === true) process.exitCode = EXIT_CODE.refused;
  else if (failed > 0 || notReached > 0) process.exitCode = EXIT_CODE.failed;
}

/** The JSON of a deletion: listed = deleted + spared + failed + not_reached. */
function describe(file: string, deletion: OrphanDeletion): object {
  const { bucket, prefix, listed, deleted, deletedBytes, spared, failed, notReached } = deletion;
  return {
    list: file,
    bucket,
    prefix,
    listed,
    deleted,
    deleted_bytes: deletedBytes,
    spared,
    failed,
    not_reached: notReached,
    resumed: deletion.resumed,
    stopped: deletion.stopped?.because ?? null,
    progress: deletion.progressFile,
  };
}

function print(file: string, deletion: OrphanDeletion): void {
  const { listed, deleted, deletedBytes, spared, failed, notReached, stopped } = deletion;
  const say = (line: string): void => printLine(escapeControls(line));
  if (deletion.resumed) say('Gone on with what was begun before; the figures are of both.');
  say(`${countOf(listed, 'object')} listed in ${file}:`);
  say(`  ${deleted} deleted (${deletedBytes} bytes)`);
  for (const [reason, count] of Object.entries(spared)) {
    say(`  ${count} left: ${REASONS[reason] ?? reason}`);
  }
  if (failed > 0) say(`  ${failed} failed`);
  if (notReached > 0) say(`  ${notReached} not reached`);
  say(`What was asked for is written down in ${deletion.progressFile}`);
  if (stopped !== undefined) say(`Stopped: ${stopped.because}`);
  if (failed > 0 || notReached > 0) {
    say(`To go on, give the same command again: retention orphans --delete --list ${file}`);
  }
}

async function history(options: Options): Promise<void> {
  const { config, logger } = await readSettings('orphans');
  const { orphanLists } = await import('../../assembly-orphans.ts');
  const lists = await orphanLists({ config, logger });
  if (options.json === true) {
    printJson({ lists });
    return;
  }
  if (lists.length === 0) {
    printLine('No list of orphans was made.');
    return;
  }
  printTable(
    ['made', 'by', 'bucket', 'prefix', 'orphans', 'of', 'begun', 'by', 'deleted', 'left', 'failed'],
    lists.map((it) => [
      it.made_at,
      it.made_by,
      it.bucket,
      it.prefix,
      it.orphans,
      it.listed,
      it.begun_at,
      it.begun_by,
      it.deleted,
      it.spared,
      it.failed,
    ]),
  );
}
