import { Command } from 'commander';
import { showNumber } from '../../numbers.ts';
import { escapeControls } from '../../safe-text.ts';
import type { HistoryEntry } from '../../store/history.ts';
import { refuseEmpty } from '../narrowing.ts';
import { printJson, printLine } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

const MOST = 99_999;

interface Options {
  readonly tenant?: string;
  readonly run?: string;
  readonly setting?: string;
  readonly since?: string;
  readonly limit: string;
  readonly json?: boolean;
}

/** `retention history` */
export function historyCommand(): Command {
  return new Command('history')
    .description(
      'Show who changed what, and when: policies, holds, settings, keepers, buckets, surges.',
    )
    .option('--tenant <id>', 'changes that name this tenant, and of the default policy')
    .option(
      '--run <id>',
      'changes of the holds and policies of this run and its tenant, and its receipts',
    )
    .option(
      '--setting <name>',
      'changes of this setting; retain is the default policy, halt shows the halts',
    )
    .option('--since <time>', 'nothing earlier, such as 30d or 2026-04-01T09:30Z')
    .option('--limit <count>', 'at most so many, the newest', '100')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The newest is the last. For a run whose row is gone, every receipt since --since is read. That may take long.

Example:
  $ retention history --tenant tenant_abc --since 90d`,
    )
    .action(history);
}

async function history({ tenant, run, setting, since, limit, json }: Options): Promise<void> {
  await refuseEmpty({ '--tenant': tenant, '--run': run, '--setting': setting, '--since': since });
  const { UsageError } = await import('../../errors.ts');
  if (!/^[1-9]\d{0,4}$/u.test(limit)) {
    throw new UsageError(`--limit: expected a whole number from 1 to ${MOST}; given "${limit}"`);
  }
  const from = since === undefined ? undefined : await readSince(since);
  const { config, logger } = await readSettings('history');
  const { withStore } = await import('../../assembly.ts');
  // One more than asked for tells whether there are more.
  const found = await withStore({ config, logger }, (store) =>
    withUsage(
      store.readHistory({
        tenantId: tenant,
        runId: run,
        setting,
        since: from,
        limit: Number(limit) + 1,
      }),
    ),
  );
  const entries = found.slice(-Number(limit));
  const hasMore = found.length > entries.length;
  if (json === true) {
    printJson({ has_more: hasMore, history: entries });
    return;
  }
  if (entries.length === 0) {
    printLine('Nothing was changed in that time.');
    return;
  }
  if (hasMore) printLine(`The newest ${showNumber(entries.length)}; there is more: --limit`);
  for (const entry of entries) printLine(describe(entry));
}

async function readSince(text: string): Promise<string> {
  if (/^\d+\s?[wdhms]$/iu.test(text.trim())) {
    const { parseDuration } = await import('../../lifecycle/duration.ts');
    return new Date(Date.now() - parseDuration(text, '--since')).toISOString();
  }
  const { parsePointInTime } = await import('../../point-in-time.ts');
  return parsePointInTime(text, '--since');
}

function describe({ at, what, done_by: doneBy }: HistoryEntry): string {
  return `${at.toISOString()}  ${escapeControls(`${what}, by ${doneBy}`)}`;
}
