import { Command } from 'commander';
import { countOf, showCount } from '../../numbers.ts';
import { escapeControls } from '../../safe-text.ts';
import type { Store } from '../../store/store.ts';
import type { Surge } from '../../store/surges.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withExpected, withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface ListOptions {
  readonly all?: boolean;
  readonly json?: boolean;
}

interface ReleaseOptions {
  readonly expect?: string;
  readonly tenant?: string;
  readonly json?: boolean;
}

const WHOLE_NUMBER = /^[1-9]\d{0,14}$/u;

/** `retention surge list|show|release` */
export function surgeCommand(): Command {
  const command = new Command('surge').description(
    'Look at late results that were set aside, and release them.',
  );
  command
    .command('list')
    .description('List the surges that wait for a person.')
    .option('--all', 'also those that are closed')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention surge list --json')
    .action(list);
  command
    .command('show')
    .description(
      'Show one surge by tenant and bucket, with some of its runs and why they are late.',
    )
    .argument('<surge_id>', 'from: retention surge list')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention surge show 3')
    .action(show);
  command
    .command('release')
    .description('Let exactly these results go. It cannot be undone.')
    .argument('<surge_id>', 'from: retention surge list')
    .option('--expect <count>', 'how many results will go, as `surge show` counts them')
    .option('--tenant <id>', 'only the results of this tenant')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
If the number has changed, nothing is released, and the exit code is 3.

Example:
  $ retention surge release 3 --expect 200000`,
    )
    .action(release);
  return command;
}

async function inStore<Result>(work: (store: Store) => Promise<Result>): Promise<Result> {
  const { config, logger } = await readSettings('surge');
  const { withStore } = await import('../../assembly.ts');
  return withStore({ config, logger }, work);
}

async function list(options: ListOptions): Promise<void> {
  const surges = await inStore((store) => store.listSurges({ all: options.all === true }));
  if (options.json === true) {
    printJson({ surges });
    return;
  }
  if (surges.length === 0) {
    printLine(options.all === true ? 'There never was a surge.' : 'Nothing is set aside.');
    return;
  }
  printTable(
    ['surge', 'state', 'found', 'results', 'tenants', 'oldest', 'due since'],
    surges.map((surge) => [
      surge.surge_id === null ? '-' : String(surge.surge_id),
      surge.state,
      surge.found_at,
      surge.results,
      surge.tenants,
      surge.oldest,
      surge.due_since,
    ]),
  );
  for (const surge of surges) describe(surge);
}

function describe({ surge_id: id, because, remedy }: Surge): void {
  const what = id === null ? 'Counting' : `Surge ${id}`;
  const help = remedy === null ? '' : ` Next: ${remedy}`;
  printLine(escapeControls(`${what}: ${because}.${help}`));
}

async function show(id: string, options: { readonly json?: boolean }): Promise<void> {
  const surgeId = await readId(id, 'show');
  const { groups, surge, releases } = await inStore(async (store) => {
    const found = await withUsage(store.showSurge(surgeId));
    const all = await store.listSurges({ all: true });
    return {
      groups: found,
      surge: all.find((it) => it.surge_id === surgeId),
      releases: await store.listReleases(surgeId),
    };
  });
  if (options.json === true) {
    printJson({ surge: surge ?? null, groups, releases });
    return;
  }
  const results = groups.reduce((sum, group) => sum + group.results, 0);
  printLine(`Surge ${surgeId}: ${countOf(results, 'result')} set aside.`);
  if (surge !== undefined) printLine(escapeControls(`Why: ${surge.because}.`));
  for (const { results: released, tenant_id: tenant, released_at: at, released_by: by } of releases)
    printLine(
      escapeControls(
        `Released: ${countOf(released, 'result')}${tenant === null ? '' : ` of ${tenant}`} at ${at.toISOString()} by ${by}`,
      ),
    );
  if (groups.length === 0) return;
  printLine();
  printTable(
    ['tenant', 'bucket', 'results', 'due now', 'oldest', 'due since', 'such as'],
    groups.map((group) => [
      group.tenant_id,
      group.bucket,
      group.results,
      group.still_due,
      group.oldest,
      group.due_since,
      group.run_ids[0],
    ]),
  );
  const first = groups[0]?.because;
  if (first !== undefined && first !== null) printLine(escapeControls(`The first: ${first}`));
  printLine();
  printLine(`To let all of them go: retention surge release ${surgeId} --expect ${results}`);
}

async function release(id: string, options: ReleaseOptions): Promise<void> {
  const surgeId = await readId(id, 'release');
  const { RefusedError, UsageError } = await import('../../errors.ts');
  const { expect, tenant } = options;
  if (expect === undefined) {
    throw new RefusedError(
      `surge release: expected --expect with the number of results; given none, so nothing was released`,
      { remedy: `See the number with: retention surge show ${surgeId}` },
    );
  }
  if (!WHOLE_NUMBER.test(expect)) {
    throw new UsageError(`--expect: expected a whole number above zero; given "${expect}"`);
  }
  if (tenant?.trim() === '') {
    throw new UsageError('--tenant: expected the id of a tenant; given an empty text');
  }
  const released = await inStore((store) =>
    withExpected(store.releaseSurge(surgeId, Number(expect), tenant)),
  );
  if (options.json === true) printJson({ surge_id: surgeId, tenant_id: tenant ?? null, released });
  else
    printLine(`${showCount(released, 'result is', 'results are')} released and will be deleted.`);
}

async function readId(id: string, action: string): Promise<number> {
  if (WHOLE_NUMBER.test(id)) return Number(id);
  const { UsageError } = await import('../../errors.ts');
  throw new UsageError(`surge ${action}: expected the number of a surge; given "${id}"`, {
    remedy: 'See them with: retention surge list',
  });
}
