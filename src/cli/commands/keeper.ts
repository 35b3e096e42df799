import { Command } from 'commander';
import { escapeControls } from '../../safe-text.ts';
import { printJson, printLine, printTable } from '../output.ts';
import { withUsage } from '../refusals.ts';
import { readSettings } from '../settings.ts';

interface AddOptions {
  readonly key: string;
  readonly bucket?: string;
  readonly until?: string;
  readonly by?: string;
  readonly json?: boolean;
}

/** `retention keeper add|remove|list` */
export function keeperCommand(): Command {
  const command = new Command('keeper').description('Keep objects that rows of other tables name.');
  command
    .command('add')
    .description('Keep every object that a row of this table names, from the next claim on.')
    .argument('<table>', 'schema.table; without a schema it is in public')
    .requiredOption('--key <column>', 'the column that holds the keys of objects')
    .option(
      '--bucket <column>',
      'the column of the bucket; default: a row keeps its key in every bucket',
    )
    .option(
      '--until <column>',
      'until when a row keeps its object; default: as long as it is there',
    )
    .option('--by <name>', "who adds it; default: the database's user")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Its key column needs an index. If a keeper cannot be asked later (because its table is renamed, or its index is
gone), nothing is deleted until it can be asked again, or is removed.

Example:
  $ retention keeper add public.invoices --key pdf_key --until keep_until`,
    )
    .action(add);
  command
    .command('remove')
    .description('Stop keeping objects for a table.')
    .argument('<table>', 'from: retention keeper list')
    .option('--key <column>', 'only the keeper with this column; default: all of the table')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention keeper remove public.invoices')
    .action(remove);
  command
    .command('list')
    .description('List the keepers, and whether each can be asked.')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  $ retention keeper list')
    .action(list);
  return command;
}

async function add(table: string, options: AddOptions): Promise<void> {
  const { key: keyColumn, bucket: bucketColumn, until: untilColumn, by } = options;
  const { config, logger } = await readSettings('keeper');
  const { withStore } = await import('../../assembly.ts');
  const keeper = await withStore({ config, logger }, async (store) => {
    const id = await withUsage(
      asUsage(store.addKeeper({ table, keyColumn, bucketColumn, untilColumn, by })),
    );
    return (await store.listKeepers()).find(({ keeper_id: each }) => each === id);
  });
  if (options.json === true) printJson({ keeper });
  else
    printLine(
      escapeControls(`What rows of ${keeper?.table_name} name in ${keeper?.key_column} is kept.`),
    );
}

async function remove(
  table: string,
  options: { readonly key?: string; readonly json?: boolean },
): Promise<void> {
  const { config, logger } = await readSettings('keeper');
  const { withStore } = await import('../../assembly.ts');
  const removed = await withStore({ config, logger }, (store) =>
    withUsage(store.removeKeeper(table, options.key)),
  );
  if (options.json === true) printJson({ removed });
  else printLine(escapeControls(`Nothing is kept for ${table} any more.`));
}

async function list({ json }: { readonly json?: boolean }): Promise<void> {
  const { config, logger } = await readSettings('keeper');
  const { withStore } = await import('../../assembly.ts');
  const keepers = await withStore({ config, logger }, (store) => store.listKeepers());
  if (keepers.some(({ fault }) => fault !== null)) process.exitCode = 1;
  if (json === true) {
    printJson({ keepers });
    return;
  }
  if (keepers.length === 0) {
    printLine('There is none.');
    return;
  }
  printTable(
    ['table', 'key', 'bucket', 'until', 'added by', 'kept'],
    keepers.map((keeper) => [
      keeper.table_name,
      keeper.key_column,
      keeper.bucket_column ?? 'every',
      keeper.until_column ?? 'as long as it is there',
      keeper.added_by,
      String(keeper.kept),
    ]),
  );
  for (const { table_name: table, fault, remedy } of keepers) {
    if (fault === null) continue;
    printLine(
      escapeControls(
        `${table} cannot be asked, so nothing is deleted: ${fault}. Remedy: ${remedy}`,
      ),
    );
  }
}

/** What is wrong with the table that was named, which `withUsage` does not know: no such table, column, type or index. */
const OF_THE_TABLE = new Set(['42P01', '42703', '42804', '42809', '42710', '55000']);

async function asUsage<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    const { DatabaseError, SQLSTATE, UsageError } = await import('../../errors.ts');
    if (!(error instanceof DatabaseError)) throw error;
    const { sqlState = '', remedy = '' } = error;
    const lacksRight = sqlState === SQLSTATE.insufficient_privilege && remedy.startsWith('grant ');
    if (!OF_THE_TABLE.has(sqlState) && !lacksRight) throw error;
    throw new UsageError(`${error.message}; nothing was changed`, { remedy });
  }
}
