import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { checkDocument } from './documents.ts';
import { until } from './until.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Variables for the command; `undefined` takes one away. */
export type Variables = Readonly<Record<string, string | undefined>>;

/** How a command ended. */
export interface CliResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that runs. */
export interface RunningCli {
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Types into it. */
  type(text: string): void;
  /** Ends its input, as Ctrl-D does. */
  endInput(): void;
  /** Waits for a line, on either stream, that contains the text or matches; returns that line. */
  waitForLine(wanted: string | RegExp, limitMs?: number): Promise<string>;
  /** Sends a signal by process id. Default: SIGTERM. */
  kill(signal?: NodeJS.Signals): void;
  /** Waits for its end. */
  ended(): Promise<CliResult>;
  /** Ends it, if it still runs, and waits. For `finally` and `afterEach`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Options of {@link startCli}. */
export interface CliOptions {
  /** On top of a bare environment: nothing of DATABASE_*, DPP_*, RETENTION_*, S3_*, AWS_*, PG*. */
  readonly env?: Variables;
  /** Default: the project's folder. */
  readonly cwd?: string;
  /** Another program of the project, in place of the built command. */
  readonly main?: string;
  /** Another Node. Default: the one that runs the tests. */
  readonly execPath?: string;
  /** Runs it on a terminal of its own, made by util-linux's `script`; both streams are its stdout. */
  readonly onTerminal?: boolean;
}

/**
 * Starts the built command, `node dist/cli/main.js ...`, in an environment without any of the
 * product's own variables but the ones given.
 *
 * @throws when it has not been built.
 */
export function startCli(parameters: readonly string[], options: CliOptions = {}): RunningCli {
  if (!existsSync(MAIN)) throw new Error('dist/cli/main.js is missing: run "npm run build" first.');
  const words = [options.execPath ?? process.execPath, options.main ?? MAIN, ...parameters];
  const [program = '', ...rest] = commandLine(words, options.onTerminal === true);
  const child = spawn(program, rest, {
    cwd: options.cwd ?? fileURLToPath(new URL('../..', import.meta.url)),
    env: {
      ...bareEnvironment(),
      ...(options.onTerminal === true ? A_TERMINAL : {}),
      ...options.env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return new CliProcess(child, options.main === undefined ? parameters : []);
}

/** Wherever the tests run: one that can be drawn on. */
const A_TERMINAL = { TERM: 'xterm' };

function commandLine(line: readonly string[], onTerminal: boolean): readonly string[] {
  if (!onTerminal) return line;
  const quoted = line.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`);
  return ['script', '--quiet', '--return', '--command', quoted.join(' '), '/dev/null'];
}

/** Runs the built command to its end. */
export async function runCli(
  parameters: readonly string[],
  options: CliOptions & { readonly input?: string } = {},
): Promise<CliResult> {
  const running = startCli(parameters, options);
  running.type(options.input ?? '');
  running.endInput();
  return running.ended();
}

const OWN_VARIABLES =
  /^(DATABASE_|CRON_DATABASE_|DPP_|RETENTION_|S3_|AWS_|PG|LOG_LEVEL$|CI$|FORCE_COLOR$|NODE_OPTIONS$|VITEST)/;

/** The environment without any variable of the product. */
export function bareEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !OWN_VARIABLES.test(name)),
  );
}

class CliProcess implements RunningCli {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #parameters: readonly string[];
  readonly #ended: Promise<[number | null, NodeJS.Signals | null]>;
  #closed = false;
  stdout = '';
  stderr = '';

  constructor(
    child: ChildProcessByStdio<Writable, Readable, Readable>,
    parameters: readonly string[],
  ) {
    this.#child = child;
    this.#parameters = parameters;
    this.#ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    child.once('close', () => {
      this.#closed = true;
    });
    // A command that ends without reading its input is no fault of the test.
    child.stdin.on('error', () => undefined);
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      this.stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      this.stderr += chunk;
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('The command did not start.');
    return this.#child.pid;
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  endInput(): void {
    this.#child.stdin.end();
  }

  async waitForLine(wanted: string | RegExp, limitMs?: number): Promise<string> {
    const matches = (line: string): boolean =>
      typeof wanted === 'string' ? line.includes(wanted) : wanted.test(line);
    const said = (): string => `${this.stdout}\n${this.stderr}`;
    const find = (): string | undefined => said().split('\n').find(matches);
    await until(
      `the command prints ${String(wanted)}`,
      () => find() !== undefined || this.#closed,
      {
        seen: said,
        ...(limitMs === undefined ? {} : { limitMs }),
      },
    );
    const line = find();
    if (line !== undefined) return line;
    throw new Error(
      `The command ended with ${this.#child.exitCode} before it printed ${String(wanted)}. ` +
        `It printed:\n${said()}`,
    );
  }

  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#child.kill(signal);
  }

  async ended(): Promise<CliResult> {
    const [code, signal] = await this.#ended;
    checkDocument(this.#parameters, this.stdout);
    return { code, signal, stdout: this.stdout, stderr: this.stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.kill('SIGKILL');
    await this.#ended;
  }
}
