import { Command } from 'commander';
import { countOf, showCount } from '../../numbers.ts';
import { escapeControls } from '../../safe-text.ts';
import type {
  ProofRequest,
  exportProof,
  proofHead,
  setReceiptKeys,
  verifyProof,
} from '../../assembly-proof.ts';
import type { SealVerification } from '../../proof/verify-seals.ts';
import { collect, refuseEmpty } from '../narrowing.ts';
import { printJson, printLine } from '../output.ts';
import { createProgress } from '../progress.ts';
import { readSettings } from '../settings.ts';
import { proofKeyCommand } from '../proof-key.ts';

interface VerifyOptions {
  readonly head?: readonly string[];
  readonly since?: string;
  readonly json?: boolean;
}

interface ExportOptions {
  readonly out?: string;
  readonly json?: boolean;
}

const TIME =
  /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/u;

/** `retention proof verify|head|export|key` */
export function proofCommand(): Command {
  const command = new Command('proof').description(
    'Prove what was deleted: receipts are sealed, so that a change of one shows.',
  );
  command
    .command('verify')
    .description('Compute every seal again, and name what has changed since it was sealed.')
    .option(
      '--head <head>',
      'a head that was kept outside, or a file with heads; may be repeated',
      collect,
    )
    .option('--since <time>', 'only the seals that were made since; default: all')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Without a head it finds what was changed in this database. If everything was rewritten, or the end cut off, only
a head that was kept elsewhere shows it. The exit code is 1 if something does not hold.

Examples:
  $ retention proof verify
  $ retention proof verify --head heads.txt --json`,
    )
    .action(verify);
  command
    .command('head')
    .description(
      'Seal what has settled, and print the latest seal: keep it outside of the database.',
    )
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention proof head >> heads.txt')
    .action(head);
  command
    .command('export')
    .description('Write all seals and receipts as JSON Lines, for a checker without this software.')
    .option('--out <path>', 'a folder, or a new file')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention proof export --out proof.jsonl')
    .action(exportAll);
  command
    .command('receipt-keys')
    .description('Say how receipts keep keys from now on: as they are, or as salted digests.')
    .argument('<how>', 'plain or hashed')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Receipts that are sealed from then on are hashed; those before stay as they are, until receipts_kept has passed.

Example:
  $ retention proof receipt-keys hashed`,
    )
    .action(receiptKeys);
  command.addCommand(proofKeyCommand());
  return command;
}

/** Runs one of the functions of the library, with progress, until a signal ends it. */
async function run<Result>(
  work: (
    assembly: {
      readonly verifyProof: typeof verifyProof;
      readonly proofHead: typeof proofHead;
      readonly exportProof: typeof exportProof;
      readonly setReceiptKeys: typeof setReceiptKeys;
    },
    request: ProofRequest,
  ) => Promise<Result>,
): Promise<Result> {
  const { config, logger } = await readSettings('proof');
  const [{ watchStopSignals }, assembly, progress] = await Promise.all([
    import('../../lifecycle/signals.ts'),
    import('../../assembly-proof.ts'),
    createProgress(),
  ]);
  const signals = watchStopSignals();
  const { signal } = signals;
  return work(assembly, { config, logger, signal, onProgress: progress.update }).finally(() => {
    progress.end();
    signals.dispose();
  });
}

async function verify({ head: heads = [], since, json }: VerifyOptions): Promise<void> {
  await refuseEmpty({ '--head': heads.length === 0 ? undefined : heads });
  const from = await readTime(since);
  const found = await run((assembly, request) =>
    assembly.verifyProof({ ...request, heads, since: from }),
  );
  if (json === true) printJson(found);
  else print(found);
  const { EXIT_CODE } = await import('../../errors.ts');
  if (!found.holds) process.exitCode = EXIT_CODE.failed;
}

function print(found: SealVerification): void {
  const say = (line: string): void => printLine(escapeControls(line));
  for (const { message } of found.problems) say(message);
  for (const { message } of found.heads) say(message);
  if (found.problems.length + found.heads.length > 0) say('');
  say(
    `${showCount(found.seals, 'seal')} with ${showCount(found.receipts, 'receipt')} of ` +
      `${showCount(found.results, 'result')} and ${showCount(found.changes, 'change')} computed again`,
  );
  if (found.pruned > 0) {
    say(
      `${showCount(found.pruned, 'receipt')} removed after receipts_kept; what is left of them is their digests`,
    );
  }
  if (found.deleted_again > 0) {
    say(
      `${showCount(found.deleted_again, 'result')} deleted again: restored before, or written once more`,
    );
  }
  for (const { kind, results, because, run_ids: runIds } of found.stamps ?? []) {
    if (results === 0 || kind === 'accounted') continue;
    const runs = runIds.slice(0, 3).join(', ');
    say(`${showCount(results, 'result')} ${because}${runs === '' ? '' : `; for example ${runs}`}`);
  }
  if (found.stamps === null) say('Stamps were not counted: the table is detached.');
  if (found.unsealed_because !== null) say(`Not all is sealed: ${found.unsealed_because}`);
  if (found.head !== null) say(`The latest seal: ${found.head.seal}-${found.head.digest}`);
  const broken = found.problems.length + found.heads.filter(({ holds }) => !holds).length;
  say(found.holds ? 'All of it holds.' : `${countOf(broken, 'thing does', 'things do')} not hold.`);
}

async function head({ json }: VerifyOptions): Promise<void> {
  const { head: latest, unsealed_because: because } = await run((assembly, request) =>
    assembly.proofHead(request),
  );
  if (because !== null) {
    process.stderr.write(`${escapeControls(`Not all is sealed: ${because}`)}\n`);
  }
  if (json === true) {
    // As an object of RETENTION_SEAL_BUCKET has it, so that either can be kept.
    printJson(latest === null ? { seal: 0, digest: null } : latest);
    return;
  }
  if (latest === null) {
    const { RetentionError } = await import('../../errors.ts');
    throw new RetentionError('nothing was ever sealed: there is no head', {
      remedy: 'The first seal is made by the tick after the first deletion.',
    });
  }
  printLine(`${latest.seal}-${latest.digest}`);
}

async function receiptKeys(how: string, { json }: { readonly json?: boolean }): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  if (how !== 'plain' && how !== 'hashed') {
    throw new UsageError(
      `proof receipt-keys: expected plain or hashed; given ${how.slice(0, 100)}`,
      { remedy: 'hashed: receipts that are sealed from then on keep salted digests of keys.' },
    );
  }
  const changes = await run((assembly, request) =>
    assembly.setReceiptKeys({ ...request, receiptKeys: how }),
  );
  if (json === true) printJson({ receipt_keys: how, changed: changes.length > 0 });
  else printLine(escapeControls(changes[0] ?? `receipt_keys: ${how} already`));
}

async function exportAll({ out, json }: ExportOptions): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  if (out === undefined || out.trim() === '') {
    throw new UsageError('proof export: expected --out PATH; given none', {
      remedy: 'Name an existing folder, or a new file.',
    });
  }
  const made = await run((assembly, request) => assembly.exportProof({ ...request, out }));
  if (json === true) {
    printJson(made);
    return;
  }
  printLine(
    escapeControls(
      `${showCount(made.seals, 'seal')} with ${showCount(made.receipts, 'receipt')} of ` +
        `${showCount(made.results, 'result')} and ${showCount(made.changes, 'change')} written to ${made.file}`,
    ),
  );
  if (made.unsealed_because !== null) {
    printLine(escapeControls(`Not all is sealed: ${made.unsealed_because}`));
  }
}

/** A day or a time, by UTC where it names no zone. */
async function readTime(text: string | undefined): Promise<Date | undefined> {
  if (text === undefined) return undefined;
  const isZoned = /(?:Z|[+-]\d{2}:?\d{2})$/u.test(text.slice(10));
  const time = new Date(isZoned || text.length === 10 ? text : `${text.replace(' ', 'T')}Z`);
  if (TIME.test(text) && !Number.isNaN(time.getTime())) return time;
  const { UsageError } = await import('../../errors.ts');
  throw new UsageError(
    `--since: expected a day or a time such as 2026-11-01T00:00Z; given ${text.slice(0, 100)}`,
  );
}
