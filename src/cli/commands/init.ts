import { Command } from 'commander';
import type { AdoptionProposal } from '../../assembly-adoption.ts';
import type { InitAnswers } from '../init-questions.ts';
import { printJson } from '../output.ts';

interface InitOptions extends InitAnswers {
  readonly json?: boolean;
}

/** `retention init` */
export function initCommand(): Command {
  return new Command('init')
    .description(
      'Look at the table before it is adopted, propose the mapping, and print what to begin with; change nothing.',
    )
    .option(
      '--database-url <url>',
      'the address as the role that will migrate, in place of DATABASE_URL',
    )
    .option('--table <table>', 'the table of runs, in place of RETENTION_TABLE')
    .option('--bucket <buckets>', 'the buckets of the results, in place of S3_RESULT_BUCKET')
    .option('--columns <pairs>', 'what you know of the mapping, in place of RETENTION_COLUMNS')
    .option('--json', 'print one JSON document, and ask nothing')
    .addHelpText(
      'after',
      `
On a terminal it asks for what was not said. It tries the mapping in a transaction that it rolls back, and prints
the variables, the SQL for three roles, the IAM policy and the first commands. Passwords are never printed.
Exits 1 when something stands in the way of \`retention migrate up\`.

Example:
  $ DATABASE_URL=postgres://owner@db/app retention init`,
    )
    .action(init);
}

async function init(options: InitOptions): Promise<void> {
  const isAsking = options.json !== true && process.stdin.isTTY && process.stderr.isTTY;
  const proposal = isAsking ? await ask(options) : await look(options);
  if (options.json === true) printJson(documentOf(proposal));
  else {
    const { printProposal } = await import('../init-page.ts');
    printProposal(proposal);
  }
  if (!proposal.ok) process.exitCode = 1;
}

async function ask(answers: InitAnswers): Promise<AdoptionProposal> {
  const { askForAdoption } = await import('../init-questions.ts');
  return askForAdoption(answers, look);
}

/** Looks with what was said, and what the environment says of the rest. */
async function look(answers: InitAnswers): Promise<AdoptionProposal> {
  const [{ readConfig }, { proposeAdoption }] = await Promise.all([
    import('../../config/config.ts'),
    import('../../assembly-adoption.ts'),
  ]);
  const { databaseUrl, table, bucket, columns } = answers;
  const said = {
    DATABASE_URL: databaseUrl,
    RETENTION_TABLE: table,
    S3_RESULT_BUCKET: bucket,
    RETENTION_COLUMNS: columns,
  };
  const config = readConfig(
    {
      ...process.env,
      // They would lead to another database than the one that was said.
      ...(databaseUrl === undefined
        ? {}
        : { DATABASE_LISTEN_URL: undefined, DATABASE_MIGRATE_URL: undefined }),
      ...Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)),
    },
    { command: 'migrate' },
  );
  const proposal = await proposeAdoption({ config });
  const [only, ...others] = proposal.tables;
  const isSaid = table !== undefined || config.given.has('RETENTION_TABLE');
  // Nothing is done with it yet, and the page says which table it is about.
  return proposal.table === null && !isSaid && only !== undefined && others.length === 0
    ? look({ ...answers, table: only.name })
    : proposal;
}

function documentOf({ ok, checks, ...rest }: AdoptionProposal): object {
  const { columns, ...others } = rest;
  return {
    ok,
    checks: checks.map(({ name, state, found, remedy }) => ({ name, state, found, remedy })),
    ...others,
    columns,
  };
}
