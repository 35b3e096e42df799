import type { AdoptionProposal } from '../assembly-adoption.ts';
import { PASSWORD, envLine } from '../first-steps.ts';
import { printFindings } from './findings.ts';
import { printLine, printTable } from './output.ts';
import { escapeControls } from '../safe-text.ts';

/** Writes what was found of a table, and what a person does first, to be copied. */
export function printProposal(proposal: AdoptionProposal): void {
  const { database, table, tables, ok } = proposal;
  say(`Database ${database.name} as ${database.user}, PostgreSQL ${database.version}`);
  if (table === null) printTables(tables);
  else printMapping(proposal, table);
  printLine();
  printFindings(proposal);
  printLine();
  printLine('Nothing was changed: what was tried was rolled back.');
  if (table === null) return;
  printSteps(proposal);
  printLine();
  printLine(
    ok
      ? 'The table can be adopted: retention migrate up'
      : 'What failed above comes first; then: retention init',
  );
}

function printTables(tables: AdoptionProposal['tables']): void {
  if (tables.length === 0) return;
  printLine('Tables that look like one of runs with results; say which with --table:');
  printTable(
    ['table', 'rows (estimate)'],
    tables.map(({ name, about_rows }) => [name, about_rows]),
  );
}

function printMapping({ columns, mapping }: AdoptionProposal, table: string): void {
  say(`Table ${table}`);
  printLine();
  for (const column of columns) {
    const { view_column, type, samples, others, note } = column;
    say(
      `  ${view_column.padEnd('completed_at'.length)}  ${describe(column)}${type === null ? '' : ` (${type})`}`,
    );
    const remarks = [
      ...(note === null || column.column === null ? [] : [note]),
      ...(samples === null || samples.length === 0 ? [] : [`such as ${samples.join(' | ')}`]),
      ...(others.length === 0 ? [] : [`looks right too: ${others.join(', ')}`]),
    ];
    for (const remark of remarks) say(`                  ${remark}`);
  }
  printLine();
  say(`RETENTION_COLUMNS=${mapping}`);
}

function describe(column: AdoptionProposal['columns'][number]): string {
  const { problem, note, completed, fixed, is_given } = column;
  if (problem !== null && !is_given) return `? ${problem}`;
  if (fixed !== null) return `always ${fixed}`;
  if (column.column === null) return note ?? 'none';
  return completed === null ? column.column : `${column.column}, where it is ${completed}`;
}

function printSteps({ env, grants, iam, commands }: AdoptionProposal): void {
  const lines = Object.entries(env).map(([name, value]) => envLine(name, value));
  head(`The file .env (put the passwords in place of ${PASSWORD})`);
  for (const line of lines) say(line);
  head('SQL, as a role that may create roles; migrate up grants the rest');
  for (const line of grants) say(line);
  head('The IAM policy of the listener');
  for (const line of JSON.stringify(iam, null, 2).split('\n')) say(line);
  head('The first commands');
  printLine('set -a; . ./.env; set +a');
  for (const line of commands) printLine(line);
}

function head(title: string): void {
  printLine();
  printLine(`# ${title}`);
  printLine();
}

function say(line: string): void {
  printLine(escapeControls(line));
}
