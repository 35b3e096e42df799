import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { COMMAND_FILE, PROJECT } from '../../stack/project.ts';

const TICKS_PER_SECOND = 100;

/** A part of the benchmark that runs in its own process and answers one question at a time. */
export interface Part {
  readonly pid: number;
  /** Asks and waits for the answer. */
  ask<Answer>(question: object): Promise<Answer>;
  stop(): Promise<void>;
}

/**
 * Starts `<name>.ts` of this folder in its own process.
 *
 * @param isApart in a session of its own, as each of Postgres's: Linux shares the processors among sessions
 *   first, and a crowd within one gets no more than a single process of another.
 */
export async function startPart(name: string, isApart = false): Promise<Part> {
  const file = fileURLToPath(new URL(`${name}.js`, import.meta.url));
  const env = { ...process.env, ...PLAIN_AWS };
  const child = fork(file, { env, stdio: 'inherit', detached: isApart });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${name} ended`)));
  ended.catch(() => undefined);
  const ask = async <Answer>(question: object): Promise<Answer> => {
    const answered = once(child, 'message');
    child.send(question);
    const [answer] = (await Promise.race([answered, ended])) as [Answer | { failed: string }];
    if (typeof answer === 'object' && answer !== null && 'failed' in answer) {
      throw new Error(`${name}: ${answer.failed}`);
    }
    return answer;
  };
  return { pid: child.pid ?? 0, ask, stop: () => end(child) };
}

/** Answers the questions of whoever started this process, until that goes. */
export function answerQuestions(answer: (question: never) => Promise<unknown>): void {
  process.on('message', (question) => {
    answer(question as never).then(
      (it) => process.send?.(it ?? {}),
      (error: unknown) => process.send?.({ failed: String((error as Error).stack) }),
    );
  });
  process.once('disconnect', () => process.exit());
}

const PLAIN_AWS = {
  AWS_REGION: 'us-east-1',
  AWS_ACCESS_KEY_ID: 'MEMORYS3OWNER0000001',
  AWS_SECRET_ACCESS_KEY: 'memory-s3-owner-secret',
  AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
};

/** A running `retention` command. */
export interface Command {
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Waits for a text on either stream. */
  says(text: string): Promise<void>;
  /** Waits for the end; throws when it is another than 0. */
  ended(): Promise<void>;
  /** SIGTERM, and waits. */
  stop(): Promise<void>;
}

/** Starts the built command with nothing but these settings. */
export function startCommand(
  parameters: readonly string[],
  env: Readonly<Record<string, string>>,
  nodeFlags: readonly string[] = [],
): Command {
  const kept = ['PATH', 'HOME', 'LANG', 'TMPDIR'].map((name) => [name, process.env[name]] as const);
  const child = spawn(process.execPath, [...nodeFlags, COMMAND_FILE, ...parameters], {
    cwd: PROJECT,
    env: { ...Object.fromEntries(kept), ...PLAIN_AWS, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  const listeners = new Set<() => void>();
  const hear = (): void => {
    for (const listener of listeners) listener();
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    hear();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    hear();
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  void closed.then(hear);
  const failed = (what: string): Error =>
    new Error(`retention ${parameters.join(' ')} ${what}:\n${stdout}\n${stderr}`);
  return {
    pid: child.pid ?? 0,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    says: (text) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const isSaid = stdout.includes(text) || stderr.includes(text);
          if (!isSaid && child.exitCode === null) return;
          listeners.delete(look);
          if (isSaid) resolve();
          else reject(failed(`ended before it said "${text}"`));
        };
        listeners.add(look);
        look();
      }),
    ended: async () => {
      const [code] = await closed;
      if (code !== 0) throw failed(`ended with ${code}`);
    },
    stop: () => end(child),
  };
}

/** Runs the built command to its end and returns its standard output. */
export async function runCommand(
  parameters: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string> {
  const command = startCommand(parameters, env);
  await command.ended();
  return command.stdout;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** The CPU seconds that a process has used. Linux only; elsewhere 0. */
export function cpuSeconds(pid: number): number {
  const fields = readStat(pid);
  return fields === undefined ? 0 : (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The CPU seconds of the processes that run below another, such as a server's sessions. */
export function childrenCpuSeconds(parent: number): number {
  let sum = 0;
  for (const name of listProcesses()) {
    if (Number(readStat(name)?.[1]) === parent) sum += cpuSeconds(name);
  }
  return sum;
}

/** The CPU seconds of a process of one thread, to the microsecond. Linux only; elsewhere 0. */
export function ranSeconds(pid: number): number {
  return schedulerStatistic(pid, 0);
}

/** The seconds that a process was ready to run and had no processor. Linux only; elsewhere 0. */
export function waitedSeconds(pid: number): number {
  return schedulerStatistic(pid, 1);
}

/** https://docs.kernel.org/scheduler/sched-stats.html: on a processor, waiting for one, times. */
function schedulerStatistic(pid: number, place: 0 | 1): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[place]) / 1e9;
  } catch {
    return 0;
  }
}

/** The most memory that a process has held so far, in megabytes. Linux only; elsewhere 0. */
export function peakMegabytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/u.exec(status)?.[1] ?? 0) / 1_024;
  } catch {
    return 0;
  }
}

function listProcesses(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** The fields after the name, which may itself hold spaces; the state is the first. */
function readStat(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
