import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { serverEnvironment } from '../stack/postgres-process.ts';
import { runningPostgres } from './database.ts';
import { until } from './until.ts';

const run = promisify(execFile);

/** A notification as psql printed it. */
export interface PrintedNotification {
  readonly channel: string;
  /** Empty when psql printed none. */
  readonly payload: string;
  readonly processId: number;
}

/**
 * Runs SQL or backslash commands through a real psql and returns what it printed.
 *
 * @param url the database's address.
 * @param text what a person would type.
 * @param psqlPath default: the psql of the run's PostgreSQL.
 * @throws when psql reports an error; the message carries it.
 */
export async function psql(
  url: string,
  text: string,
  psqlPath = runningPostgres().psqlPath,
): Promise<string> {
  const result = run(psqlPath, ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', url, '-f', '-'], {
    env: serverEnvironment(),
  });
  result.child.stdin?.end(text);
  return (await result).stdout;
}

/** A psql in which somebody types. */
export interface TypedPsql {
  /** Everything printed so far, on both streams. */
  readonly output: string;
  /** Types a line. */
  type(line: string): void;
  /** Leaves psql and waits for its end. */
  close(): Promise<void>;
}

/** A psql in which somebody listens. */
export interface ListeningPsql extends TypedPsql {
  /** Every notification printed so far, in order. */
  readonly notifications: readonly PrintedNotification[];
  /** Waits for a notification that matches, printed already or not. */
  waitFor(
    matches: (notification: PrintedNotification) => boolean,
    limitMs?: number,
  ): Promise<PrintedNotification>;
}

const NOTIFICATION =
  /Asynchronous notification "([^"]*)" (?:with payload "(.*)" )?received from server process with PID (\d+)\./g;

/**
 * Opens a psql and listens in it, as a person would. Resolves when LISTEN has taken effect.
 *
 * @param url the database's address.
 * @param channels what to listen to.
 * @param psqlPath default: the psql of the run's PostgreSQL.
 */
export async function listenInPsql(
  url: string,
  channels: readonly string[],
  psqlPath = runningPostgres().psqlPath,
): Promise<ListeningPsql> {
  const child = spawn(psqlPath, ['-X', '-q', '-A', '-t', '-d', url], { env: serverEnvironment() });
  const session = new PsqlSession(child);
  for (const channel of channels) session.type(`listen "${channel.replaceAll('"', '""')}";`);
  session.type(`\\echo ${LISTENING}`);
  try {
    await until('psql listens', () => session.output.includes(LISTENING), {
      seen: () => session.output,
    });
  } catch (error) {
    await session.close();
    throw error;
  }
  return session;
}

const LISTENING = 'psql-is-listening';

/** Opens a psql that prints as it does on a terminal, for what a person types line by line. */
export function startPsql(url: string, psqlPath = runningPostgres().psqlPath): TypedPsql {
  return new PsqlSession(spawn(psqlPath, ['-X', '-d', url], { env: serverEnvironment() }));
}

class PsqlSession implements ListeningPsql {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<unknown>;
  output = '';

  constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#ended = once(child, 'close');
    // Ending psql under a pending line is no fault of the test.
    child.stdin.on('error', () => undefined);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (chunk: string) => {
        this.output += chunk;
      });
    }
  }

  get notifications(): readonly PrintedNotification[] {
    return [...this.output.matchAll(NOTIFICATION)].map(([, channel, payload, processId]) => ({
      channel: channel ?? '',
      payload: payload ?? '',
      processId: Number(processId),
    }));
  }

  type(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  waitFor(
    matches: (notification: PrintedNotification) => boolean,
    limitMs?: number,
  ): Promise<PrintedNotification> {
    return until(
      'psql prints the notification',
      () => {
        // psql prints what has arrived only after it ran something.
        this.type(';');
        return this.notifications.find(matches);
      },
      { seen: () => this.output, pollMs: 50, ...(limitMs === undefined ? {} : { limitMs }) },
    );
  }

  async close(): Promise<void> {
    this.#child.stdin.end('\\q\n');
    await this.#ended;
  }
}
