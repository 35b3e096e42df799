import { Command } from 'commander';
import type { FenceReport } from '../../reactor/fence-report.ts';
import { escapeControls } from '../../safe-text.ts';
import { confirm, printJson, printLine } from '../output.ts';
import { readSettings } from '../settings.ts';

interface ShowOptions {
  readonly json?: boolean;
}

interface AcceptOptions extends ShowOptions {
  readonly reason?: string;
  readonly yes?: boolean;
}

/** `retention fence show|accept` */
export function fenceCommand(): Command {
  const command = new Command('fence').description(
    'Find out whether this database is a copy, and accept it.',
  );
  command
    .command('show')
    .description('Show what was accepted, what this database is now, and what it may lack.')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention fence show')
    .action(show);
  command
    .command('accept')
    .description('Let this database delete: it is no copy, or it replaces the one before.')
    .option('--reason <text>', 'why, for those who read it later')
    .option('--yes', 'do not ask')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
It first lists what this database may no longer know: holds, policies, deletions.
With a fence in S3 the database that had the fence halts within two minutes.

Example:
  $ retention fence accept --reason "failed over to the standby, incident 114"`,
    )
    .action(accept);
  return command;
}

async function show({ json }: ShowOptions): Promise<void> {
  const { config, logger } = await readSettings('fence');
  const { fenceReport } = await import('../../assembly-fence.ts');
  const report = await fenceReport({ config, logger });
  if (json === true) {
    printJson({ fence: report });
    return;
  }
  printReport(report);
}

async function accept({ reason, yes, json }: AcceptOptions): Promise<void> {
  const { config, logger } = await readSettings('fence');
  const { fenceReport } = await import('../../assembly-fence.ts');
  const before = await fenceReport({ config, logger });
  if (!before.is_copy) {
    if (json === true) printJson({ fence: before });
    else printLine('There is nothing to accept: this database is the one that deletes.');
    return;
  }
  if (json !== true) printReport(before);
  await confirm(
    'From now on this database deletes. Is nothing else at work that deletes the same objects, and is what is missing here put right?',
    yes === true,
  );
  const report = await fenceReport({ config, logger, accept: { reason } });
  if (json === true) {
    printJson({ fence: report });
    return;
  }
  printLine(`Accepted by ${escapeControls(report.accepted_by ?? '')}.`);
  if (report.outside !== null) {
    printLine('Its listeners claim when the database that had the fence before has halted.');
  }
}

function printReport(report: FenceReport): void {
  const { because, outside, missing } = report;
  printLine(
    because === null
      ? 'This database is the one that deletes.'
      : escapeControls(`Nothing is flagged or claimed: ${because}.`),
  );
  printLine();
  printLine(
    escapeControls(
      `accepted  server ${report.accepted_system_identifier ?? 'unknown'}, database ${report.accepted_database ?? 'unknown'}, ` +
        `timeline ${report.accepted_timeline ?? 'unknown'}`,
    ),
  );
  printLine(
    escapeControls(
      `now       server ${report.system_identifier ?? 'unknown'}, database ${report.database}, ` +
        `timeline ${report.timeline ?? 'unknown'}`,
    ),
  );
  if (report.accepted_at !== null) {
    const reason = report.accepted_reason === null ? '' : `: ${report.accepted_reason}`;
    printLine(
      escapeControls(
        `by        ${report.accepted_by ?? ''} at ${report.accepted_at.toISOString()}${reason}`,
      ),
    );
  }
  printLine(escapeControls(`in S3     ${sayOutside(report)}`));
  if (missing.length === 0) return;
  printLine();
  printLine(outside === null ? 'What this database lacks:' : 'What this database lacks, at least:');
  for (const { detail } of missing) printLine(escapeControls(`  ${detail}`));
}

function sayOutside({ outside, fence_in_use: isUsed, bucket }: FenceReport): string {
  if (outside === null) {
    return isUsed ? `the fence is not there (bucket ${bucket ?? ''})` : 'no fence is in use';
  }
  const { problem, key, renewed_at: at, renewed_by: by, database } = outside;
  if (problem !== null) return `${key} in bucket ${outside.bucket} cannot be read: ${problem}`;
  return `${key} in bucket ${outside.bucket}, renewed at ${at ?? 'no date'} by ${by ?? 'an unknown process'}, database ${database ?? 'unknown'}`;
}
