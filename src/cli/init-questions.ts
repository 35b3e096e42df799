import { showCount } from '../numbers.ts';
import { type Interface, createInterface } from 'node:readline/promises';
import type { AdoptionProposal } from '../assembly-adoption.ts';
import { UsageError } from '../errors.ts';
import { quoteName } from '../first-steps.ts';
import { escapeControls } from '../safe-text.ts';

/** What a person has said for `retention init`. */
export interface InitAnswers {
  readonly databaseUrl?: string;
  readonly table?: string;
  readonly bucket?: string;
  readonly columns?: string;
}

type Look = (answers: InitAnswers) => Promise<AdoptionProposal>;
type Ask = (question: string, suggested?: string) => Promise<string>;

/** A person who has answered so often does not find the right column. */
const MOST_QUESTIONS = 12;

/**
 * Asks at the terminal for what was not said: the address, the table, columns that several names fit, and the buckets.
 *
 * @throws UsageError when the input ends before the last answer.
 */
export async function askForAdoption(given: InitAnswers, look: Look): Promise<AdoptionProposal> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const ask = questions(prompt);
    const answers = await askForPlace(given, look, ask);
    const mapped = await askForColumns(answers, look, ask);
    return await askForBuckets(mapped, look, ask);
  } finally {
    prompt.close();
  }
}

function questions(prompt: Interface): Ask {
  // Once the input has ended an error comes, or no answer ever: by the version of Node.
  const ended = new Promise<never>((_, reject) => {
    prompt.once('close', () => {
      reject(
        new UsageError('the input ended before the last answer', {
          remedy:
            'Say it with --database-url, --table, --columns and --bucket; nothing was changed.',
        }),
      );
    });
  });
  ended.catch(() => undefined);
  return async (question, suggested) => {
    const suffix = suggested === undefined || suggested === '' ? ': ' : ` [${suggested}]: `;
    const answer = await Promise.race([
      prompt.question(escapeControls(question + suffix)).catch(() => ended),
      ended,
    ]);
    return answer.trim() === '' ? (suggested ?? '') : answer.trim();
  };
}

async function askForPlace(given: InitAnswers, look: Look, ask: Ask): Promise<InitAnswers> {
  const isSaid = (process.env['DATABASE_URL'] ?? '') !== '';
  const answers =
    given.databaseUrl === undefined && !isSaid
      ? {
          ...given,
          databaseUrl: await ask('Address of the database (postgres://owner@host/database)'),
        }
      : given;
  if (answers.table !== undefined || (process.env['RETENTION_TABLE'] ?? '') !== '') return answers;
  const { table, tables } = await look(answers);
  if (tables.length > 0) {
    say('Tables that look like one of runs with results:');
    for (const { name, about_rows } of tables)
      say(`  ${name}, about ${showCount(about_rows, 'row')}`);
  }
  return { ...answers, table: await ask('Table of the runs', table ?? tables[0]?.name) };
}

async function askForColumns(answers: InitAnswers, look: Look, ask: Ask): Promise<InitAnswers> {
  let known = answers;
  for (let asked = 0; asked < MOST_QUESTIONS; asked += 1) {
    const { columns, mapping } = await look(known);
    const unclear = columns.find(({ problem, is_given }) => problem !== null && !is_given);
    if (unclear === undefined) return known;
    const { view_column, column, problem, others } = unclear;
    say(`${view_column}: ${problem ?? ''}`);
    const pair =
      view_column === 'status' && column !== null
        ? `${quoteName(column)}:${await ask('Which word means completed')}`
        : quoteAnswer(await ask(`Which column is ${view_column}`, others[0]));
    known = { ...known, columns: [mapping, `${view_column}=${pair}`].filter(Boolean).join(',') };
  }
  return known;
}

async function askForBuckets(
  answers: InitAnswers,
  look: Look,
  ask: Ask,
): Promise<AdoptionProposal> {
  const proposal = await look(answers);
  const isSaid = answers.bucket !== undefined || (process.env['S3_RESULT_BUCKET'] ?? '') !== '';
  if (isSaid || proposal.table === null) return proposal;
  const bucket = await ask(
    'Buckets that may be deleted from, comma-separated',
    proposal.buckets.join(','),
  );
  return bucket === '' ? proposal : look({ ...answers, bucket });
}

function quoteAnswer(answer: string): string {
  return answer === '' || answer.startsWith('"') ? answer : quoteName(answer);
}

function say(line: string): void {
  process.stderr.write(`${escapeControls(line)}\n`);
}
