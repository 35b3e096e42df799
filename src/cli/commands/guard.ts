import { Command } from 'commander';
import type { Store } from '../../store/store.ts';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface JsonOption {
  readonly json?: boolean;
}

/** `retention guard list|set` */
export function guardCommand(): Command {
  const command = new Command('guard').description('The settings that stop a slip.');
  command
    .command('list')
    .description('List every guard, its value and what it does.')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention guard list')
    .action(list);
  command
    .command('set')
    .description('Change a guard, for all listeners, from now on.')
    .argument(
      '<name>',
      'policy_guard, surge_guard, surge_guard_all, cool_off, release_spread or four_eyes',
    )
    .argument('<value>', "a whole number, a duration such as '36 hours', on, off or none")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
With four eyes on, a weaker guard needs two people, and so does switching four eyes off.

Examples:
  $ retention guard set cool_off '36 hours'
  $ retention guard set four_eyes on`,
    )
    .action(set);
  return command;
}

async function list({ json }: JsonOption): Promise<void> {
  const guards = await inStore((store) => store.listGuards());
  if (json === true) {
    printJson({ guards });
    return;
  }
  printTable(
    ['guard', 'value', 'meaning'],
    guards.map(({ name, value, meaning }) => [name, value, meaning]),
  );
}

async function set(name: string, value: string, { json }: JsonOption): Promise<void> {
  const change = await inStore(async (store) => {
    const before = await withUsage(store.setGuard(name, value));
    const guards = await store.listGuards();
    return { name, before, value: guards.find((guard) => guard.name === name)?.value ?? value };
  });
  if (json === true) printJson(change);
  else printLine(escapeControls(`${change.name}: ${change.before} -> ${change.value}`));
}

async function inStore<Result>(work: (store: Store) => Promise<Result>): Promise<Result> {
  const { config, logger } = await readSettings('guard');
  const { withStore } = await import('../../assembly.ts');
  return withStore({ config, logger }, work);
}
