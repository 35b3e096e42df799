import { Command } from 'commander';
import { showCount, showNumber } from '../../numbers.ts';
import type { NewlyDue, Policy } from '../../store/policies.ts';
import type { Store } from '../../store/store.ts';
import { escapeControls } from '../../safe-text.ts';
import { confirm, printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface YesOption {
  readonly yes?: boolean;
  readonly json?: boolean;
}

const DEFAULT_TENANT = '*';
const MAX_DAYS = 36_160;

/** More results may fall due while a person reads the question. */
const GROWTH_WHILE_ASKED = 1.1;

/** `retention policy list|set|unset|confirm` */
export function policyCommand(): Command {
  const command = new Command('policy').description('How long results are kept.');
  command
    .command('list')
    .description('List every policy, and what waits for a confirmation. * is the default.')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention policy list --json')
    .action(list);
  command
    .command('set')
    .description(
      'Set how long results are kept: of a tenant, or (*) of all tenants without a policy.',
    )
    .argument('<tenant>', "a tenant's id, or '*' for the default")
    .argument('<duration>', 'such as 30d or 2w; 1 day to 99 years')
    .option('--yes', 'do not ask: about what becomes due at once, or a tenant without runs')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      "\nExamples:\n  $ retention policy set tenant_abc 90d\n  $ retention policy set '*' 2w --yes",
    )
    .action(set);
  command
    .command('unset')
    .description("Remove a tenant's own policy, so that it has the default.")
    .argument('<tenant>', "a tenant's id")
    .option('--yes', 'do not ask, although results become due at once')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention policy unset tenant_abc')
    .action(unset);
  command
    .command('confirm')
    .description('Let a policy take effect that waits because it makes many results due at once.')
    .argument('[tenant]', 'default: every policy that waits')
    .option('--yes', 'do not ask')
    .option('--json', 'print one JSON document')
    .addHelpText('after', "\nExample:\n  $ retention policy confirm '*'")
    .action(confirmPending);
  return command;
}

async function list(options: { readonly json?: boolean }): Promise<void> {
  const policies = await inStore((store) => store.listPolicies());
  if (options.json === true) {
    printJson({ policies });
    return;
  }
  printTable(
    ['tenant', 'days', 'set', 'by', 'confirmed'],
    policies.map((policy) => [
      policy.tenant_id,
      policy.retain_days,
      policy.set_at,
      policy.set_by,
      policy.confirmed_at === null
        ? null
        : `${policy.confirmed_at.toISOString()} by ${policy.confirmed_by}: ` +
          `${showNumber(policy.confirmed_results ?? 0)} due at once`,
    ]),
  );
  for (const policy of policies.filter(isPending)) {
    printLine();
    printLine(escapeControls(describePending(policy)));
  }
}

async function set(tenant: string, duration: string, options: YesOption): Promise<void> {
  const days = await readDays(duration);
  const { config, logger } = await readSettings('policy');
  await inStore(async (store) => {
    const { tenantId, isKnown } = await withUsage(store.findTenant(tenant));
    if (!isKnown) {
      await confirm(
        `There is no run of tenant ${tenantId}, so nothing is kept by this policy yet. Set it?`,
        options.yes === true,
      );
    }
    const before = await readDaysOf(store, tenantId);
    const isConfirmed = await announce(() => store.newlyDue(tenantId, days), options);
    const due = await withUsage(store.setPolicy(tenantId, days, isConfirmed, !isKnown));
    await reportEffect(store, { tenantId, due, before }, options);
  });
  const { retentionDays } = config;
  if (tenant === DEFAULT_TENANT && retentionDays !== undefined && retentionDays !== days) {
    logger.warning(
      `DPP_RETENTION_DAYS is ${retentionDays} in this environment, and what starts with it sets that again`,
    );
  }
}

async function unset(tenant: string, options: YesOption): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  if (tenant === DEFAULT_TENANT) {
    throw new UsageError('policy unset: expected a tenant; given *, the default, which must be', {
      remedy: "Change it instead: retention policy set '*' 30d",
    });
  }
  await inStore(async (store) => {
    const { tenantId } = await withUsage(store.findTenant(tenant));
    const policies = await store.listPolicies();
    const fallback = policies.find((policy) => policy.tenant_id === DEFAULT_TENANT);
    const isThere = policies.some((policy) => policy.tenant_id === tenantId);
    const isConfirmed = await announce(
      async () =>
        isThere && fallback !== undefined ? store.newlyDue(tenantId, fallback.retain_days) : [],
      options,
    );
    const before = await readDaysOf(store, tenantId);
    const due = await withUsage(store.unsetPolicy(tenantId, isConfirmed));
    await reportEffect(store, { tenantId, due, before }, options);
  });
}

async function confirmPending(tenant: string | undefined, options: YesOption): Promise<void> {
  const { UsageError } = await import('../../errors.ts');
  await inStore(async (store) => {
    const { tenantId } =
      tenant === undefined ? { tenantId: undefined } : await withUsage(store.findTenant(tenant));
    const pending = (await store.listPolicies())
      .filter(isPending)
      .filter((policy) => tenantId === undefined || policy.tenant_id === tenantId);
    if (pending.length === 0) {
      if (tenantId === undefined && options.json === true) printJson({ policies: [] });
      else if (tenantId === undefined) printLine('No policy waits for a confirmation.');
      else {
        throw new UsageError(`no policy of tenant ${tenantId} waits for a confirmation`, {
          remedy: 'See which policies wait with: retention policy list',
        });
      }
    }
    const effects: Effect[] = [];
    for (const policy of pending) effects.push(await confirmOne(store, policy, options));
    if (options.json === true && effects.length > 0) printJson({ policies: effects });
  });
}

async function confirmOne(
  store: Store,
  policy: PendingPolicy,
  options: YesOption,
): Promise<Effect> {
  const { RefusedError, UsageError } = await import('../../errors.ts');
  const now = sumOf(await store.newlyDue(policy.tenant_id, policy.pending_retain_days));
  if (options.json !== true) printLine(escapeControls(describePending(policy)));
  await confirm(
    `By now it makes ${showCount(now, 'live result')} due at once. Let it take effect?`,
    options.yes === true,
  );
  const expected = options.yes === true ? undefined : Math.ceil(now * GROWTH_WHILE_ASKED);
  try {
    const due = await withUsage(store.confirmPolicy(policy.tenant_id, expected));
    const change = { tenantId: policy.tenant_id, due, before: policy.retain_days };
    const effect = await readEffect(store, change);
    if (options.json !== true) describeEffect(effect);
    return effect;
  } catch (error) {
    if (error instanceof UsageError) throw new RefusedError(error.message, { cause: error });
    throw error;
  }
}

/**
 * Says what a change makes due at once, and asks for a yes. True: a person has seen it, or has said yes beforehand. Then
 * it is not counted for that: the guard counts it once, and what it comes to is said afterwards.
 */
async function announce(
  count: () => Promise<readonly NewlyDue[]>,
  options: YesOption,
): Promise<boolean> {
  if (options.yes === true) return true;
  const newlyDue = await count();
  const due = sumOf(newlyDue);
  if (due === 0) return false;
  if (options.json !== true) {
    printLine(`This makes ${showCount(due, 'live result')} due at once:`);
    printTable(
      ['tenant', 'results'],
      newlyDue.map(({ tenant_id, results }) => [tenant_id, results]),
    );
  }
  await confirm('Their objects go with the next passes. Set it?', false);
  return true;
}

/** What a command has made of the policy of a tenant; keys as in JSON. */
interface Effect {
  readonly tenant_id: string;
  /** Null: it has none of its own. */
  readonly policy: Policy | null;
  /** How many results became due by it. */
  readonly results: number;
  /** How many that were due stay by it. */
  readonly kept: number;
}

/** What a change was about. */
interface Change {
  readonly tenantId: string;
  readonly due: number;
  /** The days that held before. */
  readonly before: number;
}

/** How many days hold for a tenant: those of its own policy, or of the default. */
async function readDaysOf(store: Store, tenantId: string): Promise<number> {
  const policies = await store.listPolicies();
  const of = (id: string): number | undefined =>
    policies.find((policy) => policy.tenant_id === id)?.retain_days;
  return of(tenantId) ?? of(DEFAULT_TENANT) ?? 0;
}

async function readEffect(
  store: Store,
  { tenantId, due: results, before }: Change,
): Promise<Effect> {
  const policies = await store.listPolicies();
  const policy = policies.find(({ tenant_id: each }) => each === tenantId) ?? null;
  // What would be due with the earlier policy, and is not with this one.
  const isLonger = (await readDaysOf(store, tenantId)) > before;
  const kept = isLonger ? sumOf(await store.newlyDue(tenantId, before)) : 0;
  // What it makes due has grown past the guard's limit since it was counted.
  if (policy !== null && isPending(policy)) process.exitCode = 1;
  return { tenant_id: tenantId, policy, results, kept };
}

async function reportEffect(store: Store, change: Change, options: YesOption): Promise<void> {
  const effect = await readEffect(store, change);
  if (options.json === true) printJson(effect);
  else describeEffect(effect);
}

function describeEffect({ tenant_id: tenantId, policy: own, results: due, kept }: Effect): void {
  const name = tenantId === DEFAULT_TENANT ? 'The default policy' : `The policy of ${tenantId}`;
  if (own === null) {
    printLine(
      escapeControls(
        `${name} is gone: the default holds. ${showCount(due, 'result is', 'results are')} due by it.`,
      ),
    );
  } else if (isPending(own)) {
    printLine(escapeControls(describePending(own)));
    printLine('Confirm it with: retention policy confirm');
  } else {
    printLine(
      escapeControls(
        `${name} is ${showCount(own.retain_days, 'day')}. ${showCount(due, 'result')} became due by it.`,
      ),
    );
  }
  if (kept > 0)
    printLine(
      `${showCount(kept, 'result', 'results')} that ${kept === 1 ? 'was' : 'were'} due ${kept === 1 ? 'stays' : 'stay'} by it.`,
    );
}

type PendingPolicy = Policy & { readonly pending_retain_days: number };

function isPending(policy: Policy): policy is PendingPolicy {
  return policy.pending_retain_days !== null;
}

function describePending(policy: PendingPolicy): string {
  return (
    `Tenant ${policy.tenant_id}: ${showCount(policy.pending_retain_days, 'day')} instead of ` +
    `${policy.retain_days} waits for a confirmation; asked for by ${policy.pending_by} at ` +
    `${policy.pending_at?.toISOString()}, when it would have made ` +
    `${showCount(policy.pending_results ?? 0, 'result')} due at once.`
  );
}

async function readDays(text: string): Promise<number> {
  const [{ MILLISECONDS, parseDuration }, { UsageError }] = await Promise.all([
    import('../../lifecycle/duration.ts'),
    import('../../errors.ts'),
  ]);
  const days = parseDuration(text, 'the policy') / MILLISECONDS.day;
  if (days >= 1 && days <= MAX_DAYS) return days;
  throw new UsageError(`the policy: expected 1 day to 99 years (${MAX_DAYS}d); given "${text}"`, {
    remedy: 'To keep something for ever, place a hold: retention hold place --help',
  });
}

function sumOf(newlyDue: readonly NewlyDue[]): number {
  return newlyDue.reduce((sum, { results }) => sum + results, 0);
}

async function inStore<Result>(work: (store: Store) => Promise<Result>): Promise<Result> {
  const { config, logger } = await readSettings('policy');
  const { withStore } = await import('../../assembly.ts');
  return withStore({ config, logger }, work);
}
