import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { guardProcess } from './orphan-guard.ts';
import { COMMAND_FILE } from './project.ts';

/** The command `retention`, running as a process of its own. */
export interface RetentionCommand {
  readonly pid: number | undefined;
  /** What it exited with; undefined while it runs, -1 when a signal ended it. */
  readonly exitCode: number | undefined;
  /** Resolves with what it exited with, once everything it printed was heard. */
  readonly ended: Promise<number>;
  /** Asks it to end, in good order at first, and waits; harmless when repeated. */
  stop(): Promise<void>;
}

const STOP_MILLISECONDS = 10_000;

/**
 * Starts the command `retention` as a person would, as a real process. It ends with this one, even
 * when this one is killed outright.
 *
 * @param parameters what follows `retention`.
 * @param environment the settings, on top of this process's environment.
 * @param hear hears what it prints, on both streams, line by line.
 */
export function startCommand(
  parameters: readonly string[],
  environment: Readonly<Record<string, string>>,
  hear: (line: string) => void,
): RetentionCommand {
  const child: ChildProcessByStdio<null, Readable, Readable> = spawn(
    process.execPath,
    [COMMAND_FILE, ...parameters],
    {
      env: { ...process.env, ...environment },
      // Its own session: a Ctrl-C is meant for the tour, which stops the command in its turn.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const callOffGuard = guardProcess(child.pid, COMMAND_FILE);
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', hear);
  }
  let exitCode: number | undefined;
  const ended = new Promise<number>((resolve) => {
    child.once('error', (error) => hear(error.message));
    child.once('close', (code) => {
      exitCode = code ?? -1;
      callOffGuard();
      resolve(exitCode);
    });
  });
  return {
    pid: child.pid,
    get exitCode() {
      return exitCode;
    },
    ended,
    stop: async () => {
      if (exitCode === undefined) child.kill('SIGTERM');
      const kill = setTimeout(() => child.kill('SIGKILL'), STOP_MILLISECONDS);
      await ended;
      clearTimeout(kill);
    },
  };
}
