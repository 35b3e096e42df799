import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { RetentionError } from '../../src/errors.ts';
import type { ServerUser } from './scratch-folder.ts';

/** How PostgreSQL is asked to stop: after its clients left, at once and tidily, or as if it had crashed. */
export type StopMode = 'smart' | 'fast' | 'immediate';

const STOP_SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 30_000;
const READY_POLL_MS = 10;
const LOG_TAIL_LINES = 20;

/** What one server process needs to run. */
export interface PostgresProcessSettings {
  readonly binFolder: string;
  readonly dataFolder: string;
  readonly logFile: string;
  readonly user: ServerUser;
}

/** Thrown when a server did not come up; the message carries the tail of its log. */
export class PostgresStartError extends RetentionError {
  override readonly name = 'PostgresStartError';
}

const running = new Set<ChildProcess>();

// A safety net for exits that skipped stop(). Only synchronous work is possible here.
process.on('exit', () => {
  for (const child of running) child.kill('SIGQUIT');
});

/** The postmaster of one data folder: up, down, and up again. */
export class PostgresProcess {
  readonly #settings: PostgresProcessSettings;
  #child: ChildProcess | undefined;

  constructor(settings: PostgresProcessSettings) {
    this.#settings = settings;
  }

  /** The postmaster's process id, while it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Starts the server and resolves once it takes connections.
   *
   * @throws PostgresStartError when it ends before that, or is not ready within a minute.
   */
  async up(): Promise<void> {
    if (this.#child !== undefined) return;
    const child = this.#spawn();
    this.#child = child;
    const deadline = Date.now() + START_LIMIT_MS;
    while (!this.#isReady(child)) {
      if (this.#child !== child) throw this.#startError('PostgreSQL ended while starting');
      if (Date.now() > deadline) {
        await this.down('immediate');
        throw this.#startError(`PostgreSQL was not ready after ${START_LIMIT_MS / 1000} s`);
      }
      await delay(READY_POLL_MS);
    }
  }

  /**
   * Stops the server and resolves once its process has ended; harmless when it is not running. A
   * server that does not obey within half a minute is stopped the hard way.
   */
  async down(mode: StopMode = 'fast'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    // An unreferenced child would let this program end while it waits.
    child.ref();
    const ended = once(child, 'exit');
    for (const signal of [STOP_SIGNALS[mode], 'SIGQUIT', 'SIGKILL'] as const) {
      child.kill(signal);
      if (await settlesWithin(ended, STOP_LIMIT_MS)) break;
    }
  }

  #spawn(): ChildProcess {
    const { binFolder, dataFolder, logFile, user } = this.#settings;
    const log = openSync(logFile, 'a');
    try {
      const child = spawn(join(binFolder, 'postgres'), ['-D', dataFolder], {
        ...user,
        cwd: dataFolder,
        env: serverEnvironment(),
        // Its own session: a Ctrl-C meant for this program must not stop the server under it.
        detached: true,
        stdio: ['ignore', log, log],
      });
      running.add(child);
      const forget = (): void => {
        running.delete(child);
        if (this.#child === child) this.#child = undefined;
      };
      child.once('exit', forget);
      child.once('error', forget);
      child.unref();
      return child;
    } finally {
      closeSync(log);
    }
  }

  // The postmaster writes its own id first and "ready" on the eighth line of its pid file, which
  // is also what pg_ctl waits for.
  #isReady(child: ChildProcess): boolean {
    try {
      const lines = readFileSync(join(this.#settings.dataFolder, 'postmaster.pid'), 'utf8').split(
        '\n',
      );
      return Number(lines[0]) === child.pid && lines[7]?.trim() === 'ready';
    } catch {
      return false;
    }
  }

  #startError(what: string): PostgresStartError {
    return new PostgresStartError(`${what}. The end of its log:\n${this.logTail()}`);
  }

  /** The last lines of the server's log. */
  logTail(lines = LOG_TAIL_LINES): string {
    return readFileSync(this.#settings.logFile, 'utf8')
      .trimEnd()
      .split('\n')
      .slice(-lines)
      .join('\n');
  }
}

async function settlesWithin(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  const abort = new AbortController();
  try {
    return await Promise.race([
      promise.then(() => true),
      delay(limitMs, false, { signal: abort.signal }),
    ]);
  } finally {
    abort.abort();
  }
}

/**
 * The environment for PostgreSQL's programs: without PG* variables, which would point them at
 * another cluster, and with the one locale that every machine has.
 */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('PG') && !name.startsWith('LC_') && name !== 'LANGUAGE',
  );
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}
