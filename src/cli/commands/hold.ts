import { Command } from 'commander';
import { showCount, showNumber } from '../../numbers.ts';
import type { Hold, PlacedHold } from '../../store/holds.ts';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface PlaceOptions {
  readonly run?: readonly string[];
  readonly tenant?: readonly string[];
  readonly reason: string;
  readonly for?: string;
  readonly by?: string;
  readonly json?: boolean;
}

interface ListOptions {
  readonly all?: boolean;
  readonly json?: boolean;
}

/** `retention hold place|release|list` */
export function holdCommand(): Command {
  const command = new Command('hold').description('Keep results, whatever their policy says.');
  command
    .command('place')
    .description('Hold runs or tenants: nothing of them is deleted until the hold ends.')
    .option('--run <id...>', 'hold these runs')
    .option('--tenant <id...>', 'hold all results of these tenants, also future ones')
    .requiredOption('--reason <text>', 'why, in a few words')
    .option('--for <duration>', 'the hold ends by itself, such as 7d; default: when it is released')
    .option('--by <name>', "who places it; default: the database's user")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Several are placed together or not at all. Exit code 1 means that it was too late for some.

Example:
  $ retention hold place --tenant tenant_abc --reason "audit 2026-04" --for 90d`,
    )
    .action(place);
  command
    .command('release')
    .description('End holds. What was held by tenant comes back over an hour.')
    .argument('<hold_id...>', 'from: retention hold list')
    .option('--by <name>', "who releases them; default: the database's user")
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention hold release 12 13')
    .action(release);
  command
    .command('list')
    .description('List the holds that are in force.')
    .option('--all', 'also those that have ended')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention hold list --all --json')
    .action(list);
  return command;
}

async function place(options: PlaceOptions): Promise<void> {
  const request = await readRequest(options);
  const { config, logger } = await readSettings('hold');
  const { withStore } = await import('../../assembly.ts');
  const holds = await withStore({ config, logger }, (store) =>
    withUsage(store.placeHolds(request)),
  );
  const tooLate = holds.reduce((sum, hold) => sum + hold.too_late, 0);
  if (options.json === true) printJson({ holds, too_late: tooLate });
  else for (const hold of holds) describePlaced(hold);
  if (holds.some((hold) => hold.too_late > 0 || hold.cleared_at !== null)) process.exitCode = 1;
}

function describePlaced(hold: PlacedHold): void {
  const what = hold.run_id === null ? `tenant ${hold.tenant_id}` : `run ${hold.run_id}`;
  printLine(escapeControls(`Hold ${hold.hold_id} on ${what} is in force.`));
  if (hold.run_id === null) {
    const objects = showCount(hold.objects, 'object', 'objects');
    printLine(`  It covers ${objects} that it found, also when their rows go.`);
  } else if (hold.key === null) {
    printLine(
      '  The run names no object yet: what it will name is covered while its row is there.',
    );
  } else {
    printLine(escapeControls(`  It covers ${hold.bucket}/${hold.key}, also when the row goes.`));
  }
  if (hold.cleared_at !== null) {
    printLine(`  Too late: its result was cleared at ${hold.cleared_at.toISOString()}.`);
  }
  if (hold.too_late === 0) return;
  const results = showCount(hold.too_late, 'result is', 'results are');
  printLine(`  Too late for what is in flight: ${results} being deleted, or may be:`);
  for (const runId of hold.too_late_run_ids) printLine(`    ${escapeControls(runId)}`);
  const unnamed = hold.too_late - hold.too_late_run_ids.length;
  if (unnamed > 0) printLine(`    and ${showNumber(unnamed)} more`);
}

async function release(
  ids: readonly string[],
  options: { readonly by?: string; readonly json?: boolean },
): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  const holdIds = ids.map((id) => {
    if (/^[1-9]\d{0,14}$/u.test(id)) return Number(id);
    throw new UsageError(`hold release: expected the numbers of holds; given "${id}"`, {
      remedy: 'See them with: retention hold list',
    });
  });
  const { config, logger } = await readSettings('hold');
  const { withStore } = await import('../../assembly.ts');
  const released = await withStore({ config, logger }, (store) =>
    withUsage(store.releaseHolds(holdIds, options.by)),
  );
  if (options.json === true) {
    printJson({ holds: released });
    return;
  }
  for (const hold of released) {
    printLine(`Hold ${hold.hold_id} ${hold.released ? 'is released.' : 'was released before.'}`);
    if (hold.due !== null) {
      printLine(`  ${showCount(hold.due, 'result is', 'results are')} due by now and come back.`);
    }
  }
}

async function list(options: ListOptions): Promise<void> {
  const { config, logger } = await readSettings('hold');
  const { withStore } = await import('../../assembly.ts');
  const holds = await withStore({ config, logger }, (store) =>
    store.listHolds({ all: options.all === true }),
  );
  if (options.json === true) {
    printJson({ holds });
    return;
  }
  if (holds.length === 0) {
    printLine(options.all === true ? 'There never was a hold.' : 'Nothing is held.');
    return;
  }
  printTable(
    ['hold', 'on', 'reason', 'placed by', 'placed', 'ends', 'released by', 'object'],
    holds.map((hold) => [
      String(hold.hold_id),
      hold.run_id === null ? `tenant ${hold.tenant_id}` : `run ${hold.run_id}`,
      hold.reason,
      withSession(hold.placed_by, hold.placed_session),
      hold.placed_at,
      hold.released_at ?? hold.expires_at ?? 'when released',
      withSession(hold.released_by, hold.released_session),
      describeObject(hold),
    ]),
  );
}

/** A name, which may be typed, with the user of the session where that is another. */
function withSession(name: string | null, session: string | null): string | null {
  return name === null || session === null || session === name ? name : `${name} (as ${session})`;
}

/** What a hold covers also when its rows go. */
function describeObject({ bucket, key, objects }: Hold): string | null {
  if (key !== null) return `${bucket}/${key}`;
  return objects > 0 ? showCount(objects, 'object', 'objects') : null;
}

async function readRequest(options: PlaceOptions): Promise<{
  readonly runIds: readonly string[];
  readonly tenantIds: readonly string[];
  readonly reason: string;
  readonly forSeconds: number | undefined;
  readonly by: string | undefined;
}> {
  const [{ parseDuration }, { UsageError }] = await Promise.all([
    import('../../lifecycle/duration.ts'),
    import('../../errors.ts'),
  ]);
  const { run: runIds = [], tenant: tenantIds = [], reason, by } = options;
  if (runIds.length > 0 === tenantIds.length > 0) {
    const given = runIds.length > 0 ? 'both' : 'neither';
    throw new UsageError(`hold place: expected --run or --tenant, one of the two; given ${given}`, {
      remedy: 'Say what to hold: --run ID... or --tenant ID...; for both, place two holds.',
    });
  }
  if ([...runIds, ...tenantIds].some((id) => id.trim() === '')) {
    throw new UsageError('hold place: expected the id of a run or a tenant; given an empty text');
  }
  if (reason.trim() === '') {
    throw new UsageError('--reason: expected why it is held, in a few words; given nothing', {
      remedy: 'Say why, for those who find the hold later: --reason "audit 2026-04".',
    });
  }
  const milliseconds = options.for === undefined ? undefined : parseDuration(options.for, '--for');
  if (milliseconds === 0) {
    throw new UsageError(`--for: expected a duration above zero; given "${options.for}"`);
  }
  const forSeconds = milliseconds === undefined ? undefined : milliseconds / 1_000;
  return { runIds, tenantIds, reason, forSeconds, by };
}
