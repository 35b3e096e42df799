import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { type Variables, bareEnvironment } from './cli.ts';
import { type DocumentStep, linesMissing, shapesOf, stepsOf } from './document-steps.ts';
import { psql } from './psql.ts';
import { until } from './until.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LIMIT_MS = 60_000;

/** What is typed there ends by Ctrl-C, and the shell does not. */
const LIKE_A_TERMINAL = 'trap : INT TERM';

/** How a command of a document ended. */
export interface StepResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** How a command is run. */
export interface RunOptions {
  /** Default: 0. */
  readonly code?: number;
  /** Typed when a line with `[y/N]` asks for it; the command then has a terminal. */
  readonly answer?: string;
  /** Interrupts it (Ctrl-C) when it has printed this. */
  readonly until?: string | RegExp;
  /** Ends it in place of Ctrl-C. */
  readonly signal?: NodeJS.Signals;
}

/** A document that is followed to the letter, step by step, by a reader who types what it says. */
export interface Story {
  /** The variables of the shell; `export` adds to them. */
  readonly variables: Record<string, string | undefined>;
  /** Puts values in place of a placeholder from here on, one after the other, the last for good. */
  put(placeholder: string, ...values: readonly string[]): void;
  /** Runs the next step, which must be this command. */
  run(command: string, options?: RunOptions): Promise<StepResult>;
  /** Runs a command with the next step, which must be this variable alone, in front of it. */
  set(
    setting: string | readonly string[],
    command: string,
    options?: RunOptions,
  ): Promise<StepResult>;
  /** Runs the next step, which must be a block of SQL that begins so, in psql. */
  sql(beginning: string): Promise<string>;
  /** Takes the next step, which must be a text that contains this, for the test to judge. */
  text(part: string): string;
  /** Passes over the next step, which must be this command: it cannot run here, for this reason. */
  notHere(command: string, reason: string): void;
  /** Runs what the document does not show; between its steps, for the state that they need. */
  type(text: string, options?: RunOptions): Promise<StepResult>;
  /** The folder that the reader works in. */
  readonly folder: string;
  /** Fails when the document goes on. */
  end(): void;
}

/** What a story is told on. */
export interface StoryOptions {
  readonly databaseUrl: () => string;
  readonly variables: Variables;
}

/** Opens a document, by its path from the project's folder, for the test that calls it. */
export function openStory(path: string, options: StoryOptions): Story {
  const folder = makeFolder();
  return new Reader(path, folder, options);
}

/** The folder that the reader works in: `retention` is a command there, and npx finds it. */
function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'retention-story-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [programs, modules] = [join(folder, 'programs'), join(folder, 'node_modules')];
  mkdirSync(programs);
  mkdirSync(join(modules, '.bin'), { recursive: true });
  const main = join(ROOT, 'dist/cli/main.js');
  for (const file of [join(programs, 'retention'), join(modules, '.bin/retention')]) {
    writeFileSync(file, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
    chmodSync(file, 0o755);
  }
  symlinkSync(ROOT, join(modules, 'retention-reactor'));
  symlinkSync(
    join(ROOT, 'node_modules/.bin/node-pg-migrate'),
    join(modules, '.bin/node-pg-migrate'),
  );
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  return folder;
}

class Reader implements Story {
  readonly #path: string;
  readonly folder: string;
  readonly #databaseUrl: () => string;
  readonly #steps: readonly DocumentStep[];
  readonly #values = new Map<string, string[]>();
  readonly variables: Record<string, string | undefined>;
  #next = 0;

  constructor(path: string, folder: string, { databaseUrl, variables }: StoryOptions) {
    this.#path = path;
    this.folder = folder;
    this.#databaseUrl = databaseUrl;
    this.#steps = stepsOf(readFileSync(join(ROOT, path), 'utf8'));
    this.variables = { ...variables };
  }

  put(placeholder: string, ...values: readonly string[]): void {
    this.#values.set(placeholder, [...values]);
  }

  async run(command: string, options: RunOptions = {}): Promise<StepResult> {
    const { text, output } = this.#take('command', (it) => it === command, command);
    const result = await this.type(this.#fill(text), options);
    expect(linesMissing(output.join('\n'), shapesOf(`\n${result.stdout}`))).toEqual([]);
    return result;
  }

  set(
    setting: string | readonly string[],
    command: string,
    options: RunOptions = {},
  ): Promise<StepResult> {
    const settings = [setting].flat();
    const filled = settings.map((it) =>
      this.#fill(this.#take('setting', (text) => text === it, it).text),
    );
    return this.type([...filled, command].join(' '), options);
  }

  async sql(beginning: string): Promise<string> {
    const { text } = this.#take('sql', (it) => it.startsWith(beginning), beginning);
    return psql(this.#databaseUrl(), this.#fill(text));
  }

  text(part: string): string {
    return this.#take('text', (it) => it.includes(part), part).text;
  }

  notHere(command: string, reason: string): void {
    expect(reason.length).toBeGreaterThan(10);
    this.#take('command', (it) => it === command, command);
  }

  end(): void {
    expect(this.#steps.slice(this.#next), `${this.#path} goes on`).toEqual([]);
  }

  #take(kind: DocumentStep['kind'], isIt: (text: string) => boolean, wanted: string): DocumentStep {
    const step = this.#steps[this.#next];
    if (step?.kind === kind && isIt(step.text)) {
      this.#next += 1;
      return step;
    }
    throw new Error(
      `${this.#path} has another step here than the test: run it, or list it with a reason.\n` +
        `expected ${kind}: ${wanted}\n` +
        `found ${step === undefined ? 'the end' : `${step.kind} (line ${step.line}): ${step.text}`}`,
    );
  }

  /** Puts values in place of placeholders. */
  #fill(text: string): string {
    let filled = text;
    for (const [placeholder, values] of this.#values) {
      filled = filled.replaceAll(placeholder, () =>
        values.length > 1 ? (values.shift() ?? '') : (values[0] ?? ''),
      );
    }
    return filled;
  }

  async type(text: string, options: RunOptions = {}): Promise<StepResult> {
    if (text.startsWith('export ')) return this.#export(text);
    const typed =
      options.answer === undefined
        ? ['sh', '-c', `${LIKE_A_TERMINAL}\n${text}`]
        : ['script', '-qefc', text, '/dev/null'];
    const child = this.#spawn(typed);
    const said = listenTo(child);
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    const overdue = setTimeout(() => interrupt(child, 'SIGKILL'), LIMIT_MS);
    try {
      if (options.answer !== undefined) {
        await until(`${text} asks`, () => said.stdout.includes('[y/N]'), { seen: () => said });
        child.stdin.write(`${options.answer}\n`);
      }
      if (options.until !== undefined)
        await waitFor(said, options.until, () => interrupt(child, options.signal ?? 'SIGINT'));
      const [code, signal] = await ended;
      if (code !== (options.code ?? 0)) {
        const how = signal === null ? `exit code ${code}` : signal;
        throw new Error(`${text}\nended with ${how}:\n${said.stdout}\n${said.stderr}`);
      }
      return said;
    } finally {
      clearTimeout(overdue);
      interrupt(child, 'SIGKILL');
    }
  }

  /** Takes over what a line exports, as the shell understands it. */
  async #export(text: string): Promise<StepResult> {
    const child = this.#spawn(['sh', '-c', `${text}\nenv -0`]);
    const said = listenTo(child);
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(0);
    const now = new Map(said.stdout.split('\0').map((pair) => splitOnce(pair, '=')));
    for (const [name = ''] of text.matchAll(/[A-Z_0-9]+(?==)/gu))
      this.variables[name] = now.get(name);
    return { stdout: '', stderr: said.stderr };
  }

  #spawn([program = '', ...parameters]: readonly string[]): ChildProcessWithoutNullStreams {
    const bare = bareEnvironment();
    const PATH = [join(this.folder, 'programs'), bare['PATH']].join(delimiter);
    const child = spawn(program, parameters, {
      cwd: this.folder,
      env: { ...bare, ...this.variables, PATH },
      // A group of its own, which Ctrl-C goes to as a whole.
      detached: true,
      stdio: 'pipe',
    });
    child.stdin.on('error', () => undefined);
    return child;
  }
}

function listenTo(child: ChildProcessWithoutNullStreams): { stdout: string; stderr: string } {
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (chunk: string) => {
      said[stream] += chunk;
    });
  }
  return said;
}

async function waitFor(said: StepResult, wanted: string | RegExp, then: () => void): Promise<void> {
  const matches = (text: string): boolean =>
    typeof wanted === 'string' ? text.includes(wanted) : wanted.test(text);
  await until(`it prints ${String(wanted)}`, () => matches(said.stdout) || matches(said.stderr), {
    limitMs: LIMIT_MS,
    seen: () => said,
  });
  then();
}

function interrupt({ pid }: ChildProcessWithoutNullStreams, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // It has ended.
  }
}

function splitOnce(text: string, at: string): readonly [string, string] {
  const place = text.indexOf(at);
  return [text.slice(0, place), text.slice(place + at.length)];
}
