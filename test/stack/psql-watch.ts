import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { RetentionError } from '../../src/errors.ts';
import { serverEnvironment } from './postgres-process.ts';

/** A psql in which a person types and listens. */
export interface PsqlWatch {
  /** Types a statement; resolves when psql has printed its answer. */
  ask(statement: string): Promise<void>;
  /** How many notifications of a channel psql has printed. */
  countNotifications(channel: string): number;
  /** Leaves psql and waits for its end; harmless when repeated. */
  stop(): Promise<void>;
}

export interface PsqlWatchOptions {
  readonly psqlPath: string;
  readonly url: string;
  readonly databaseName: string;
  /** Hears what is typed and what psql prints, line by line. */
  readonly hear: (line: string) => void;
}

// psql prints the notifications that have arrived after each statement, also after an empty one.
const LOOK_MILLISECONDS = 100;
const STOP_MILLISECONDS = 5_000;
const NOTIFICATION = /^Asynchronous notification "([^"]*)"/;
const ANSWERED = 'answered-statement-';

/** Opens a psql session. */
export function startPsqlWatch(options: PsqlWatchOptions): PsqlWatch {
  return new PsqlSession(options);
}

class PsqlSession implements PsqlWatch {
  readonly #options: PsqlWatchOptions;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<unknown>;
  readonly #looking: NodeJS.Timeout;
  readonly #counts = new Map<string, number>();
  readonly #waiting = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();
  #statements = 0;
  #complaint = '';

  constructor(options: PsqlWatchOptions) {
    this.#options = options;
    this.#child = spawn(options.psqlPath, ['-X', '-d', options.url], {
      env: { ...serverEnvironment(), PGTZ: 'UTC' },
      // Its own session: a Ctrl-C is meant for the tour, which closes psql in its turn.
      detached: true,
    });
    this.#child.stdin.on('error', () => undefined);
    this.#child.once('error', (error) => {
      this.#complaint = error.message;
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', resolve);
    }).then(() => this.#giveUp());
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#read(line));
    }
    this.#looking = setInterval(() => this.#type(';'), LOOK_MILLISECONDS);
  }

  ask(statement: string): Promise<void> {
    const { databaseName, hear } = this.#options;
    const [first = '', ...rest] = statement.split('\n');
    hear(`${databaseName}=# ${first}`);
    for (const line of rest) hear(`${databaseName}-# ${line}`);
    this.#statements += 1;
    const mark = `${ANSWERED}${this.#statements}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(mark, { resolve, reject });
      if (this.#child.exitCode !== null || this.#complaint !== '') this.#giveUp();
      this.#type(`${statement}\n\\echo ${mark}`);
    });
  }

  countNotifications(channel: string): number {
    return this.#counts.get(channel) ?? 0;
  }

  async stop(): Promise<void> {
    clearInterval(this.#looking);
    this.#child.stdin.end('\\q\n');
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MILLISECONDS);
    await this.#ended;
    clearTimeout(kill);
  }

  #type(text: string): void {
    this.#child.stdin.write(`${text}\n`);
  }

  #read(line: string): void {
    const waiting = this.#waiting.get(line);
    if (waiting !== undefined) {
      this.#waiting.delete(line);
      waiting.resolve();
      return;
    }
    const channel = NOTIFICATION.exec(line)?.[1];
    if (channel !== undefined) this.#counts.set(channel, this.countNotifications(channel) + 1);
    if (line.trim() !== '') this.#options.hear(line);
  }

  #giveUp(): void {
    clearInterval(this.#looking);
    for (const { reject } of this.#waiting.values()) {
      reject(new RetentionError(`psql ended before it answered. ${this.#complaint}`.trim()));
    }
    this.#waiting.clear();
  }
}
