import { Command } from 'commander';
import type { Approval } from '../../store/approvals.ts';
import type { Store } from '../../store/store.ts';
import { showCount } from '../../numbers.ts';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';
import { readWholeNumber } from '../whole-number.ts';

interface JsonOption {
  readonly json?: boolean;
}

/** `retention approval list|approve|withdraw` */
export function approvalCommand(): Command {
  const command = new Command('approval').description(
    'Approve what another person asks for, where four eyes are on.',
  );
  command
    .command('list')
    .description('List what waits for another person, and what is approved and not done yet.')
    .option('--all', 'also what was used or withdrawn, or is older than 24 hours')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention approval list')
    .action(list);
  command
    .command('approve')
    .description('Approve exactly what another person has asked for.')
    .argument('<request>', 'its number, from `retention approval list`')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
After that the person who asked runs the same command again, within 24 hours of asking. A person is a user of the
database.

Example:
  $ retention approval approve 7`,
    )
    .action(approve);
  command
    .command('withdraw')
    .description('Take a request back, also one that was approved and is not done yet.')
    .argument('<request>', 'its number, from `retention approval list`')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention approval withdraw 7')
    .action(withdraw);
  return command;
}

async function list({ all, json }: JsonOption & { readonly all?: boolean }): Promise<void> {
  const approvals = await inStore((store) => store.listApprovals({ all: all === true }));
  if (json === true) {
    printJson({ approvals });
    return;
  }
  printTable(
    ['request', 'state', 'act', 'exactly', 'asked', 'by', 'approved by'],
    approvals.map((approval) => [
      approval.approval_id,
      approval.state,
      approval.kind,
      describe(approval),
      approval.asked_at,
      approval.asked_by,
      approval.approved_by,
    ]),
  );
}

async function approve(request: string, { json }: JsonOption): Promise<void> {
  const id = await readWholeNumber(request, 'the request', Number.MAX_SAFE_INTEGER);
  const { approved, approval } = await inStore(async (store) => ({
    approved: await withUsage(refusedWhereClosed(store.approve(id))),
    approval: await find(store, id),
  }));
  if (json === true) {
    printJson({ approved, approval });
    return;
  }
  const what = approval === undefined ? '' : ` (${approval.kind}: ${describe(approval)})`;
  printLine(
    escapeControls(
      approved
        ? `Request ${id}${what} is approved: ${approval?.asked_by ?? 'who asked'} runs the command again.`
        : `Request ${id}${what} was approved before.`,
    ),
  );
}

async function withdraw(request: string, { json }: JsonOption): Promise<void> {
  const id = await readWholeNumber(request, 'the request', Number.MAX_SAFE_INTEGER);
  const withdrawn = await inStore((store) =>
    withUsage(refusedWhereClosed(store.withdrawApproval(id))),
  );
  if (json === true) printJson({ withdrawn });
  else printLine(`Request ${id} ${withdrawn ? 'is withdrawn' : 'was withdrawn before'}.`);
}

async function find(store: Store, id: number): Promise<Approval | undefined> {
  return (await store.listApprovals({ all: true })).find(({ approval_id }) => approval_id === id);
}

function describe({ what, results }: Approval): string {
  const text = Object.entries(what)
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ');
  return results === null ? text : `${text} (${showCount(results, 'result')} would become due)`;
}

/** One's own request, or one that is closed, is a refusal and no wrong usage. */
async function refusedWhereClosed<Result>(work: Promise<Result>): Promise<Result> {
  const { DatabaseError, RefusedError, SQLSTATE } = await import('../../errors.ts');
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.sqlState !== SQLSTATE.check_violation)
      throw error;
    throw new RefusedError(`${error.message}; nothing was changed`, {
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
      cause: error,
    });
  }
}

async function inStore<Result>(work: (store: Store) => Promise<Result>): Promise<Result> {
  const { config, logger } = await readSettings('approval');
  const { withStore } = await import('../../assembly.ts');
  return withStore({ config, logger }, work);
}
