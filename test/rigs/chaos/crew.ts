import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type CliResult, type RunningCli, type Variables, startCli } from '../../support/cli.ts';
import { type TcpProxy, startTcpProxy } from '../../support/tcp-proxy.ts';
import type { Draws } from './draws.ts';

const SUSPENDED_CLOCK = fileURLToPath(new URL('suspended-clock.mjs', import.meta.url));
const SKEWED_CLOCK = fileURLToPath(new URL('skewed-clock.mjs', import.meta.url));
/** A listener's grace period, the longest that one is stopped, and a machine that does other work. */
const END_WITHIN_MS = 60_000;
/** So many of its last lines show why a process ended. */
const LAST_LINES = 20;
/**
 * A reconcile run waits for its database as long as that takes, since a person can end it: in a network
 * that went dead, until TCP's own keep-alive ends its session, which here is sooner than elsewhere.
 */
const KEEP_ALIVE_MS = 30_000;
const RUN_EVERY_MS = { min: 2_000, max: 8_000 };

/** A listener and its own way to the database. */
export interface Post {
  readonly network: TcpProxy;
  /** Undefined for a moment, between one process and the next. */
  readonly process: () => RunningCli | undefined;
  /** Ends the present process as told; another follows. */
  readonly relieve: (signal: 'SIGTERM' | 'SIGKILL') => Promise<void>;
}

/** The reactor's processes under trial: some listeners, and reconcile runs beside them. */
export interface Crew {
  readonly posts: readonly Post[];
  /** The reconcile run of the moment. */
  readonly reconciling: () => RunningCli | undefined;
  /** How often a process was started. */
  readonly started: () => number;
  /** What ended in a way that nobody asked for, with its last words. */
  readonly complaints: readonly string[];
  /** Starts reconcile runs, one after the other, until {@link stop}. */
  readonly reconcile: () => Promise<void>;
  /** Ends everything by SIGTERM; each has to end with 0. */
  readonly stop: () => Promise<void>;
  /** Ends everything, however. */
  readonly dispose: () => Promise<void>;
}

export interface CrewOptions {
  readonly listeners: number;
  readonly databaseUrl: string;
  readonly databasePort: number;
  /** Of a transaction pooler, by which the last listener reaches its database. */
  readonly pooledPort?: number;
  readonly env: Variables;
  readonly draws: Draws;
  /** From the end of one reconcile run to the next. */
  readonly reconcileEveryMs?: { readonly min: number; readonly max: number };
  /** Modules for each listener to load before anything else. */
  readonly preload?: readonly string[];
}

/** As which the sessions of one listener are known to the server. */
export function sessionName(index: number): string {
  return `listener ${index}`;
}

/** Starts the listeners, each behind a proxy of its own. */
export async function startCrew(options: CrewOptions): Promise<Crew> {
  const { draws, reconcileEveryMs = RUN_EVERY_MS } = options;
  const complaints: string[] = [];
  const posts: ListenerPost[] = [];
  let started = 0;
  let reconciling: RunningCli | undefined;
  const stopping = new AbortController();

  const start = (
    name: string,
    parameters: readonly string[],
    network: TcpProxy,
    more: Variables,
  ): RunningCli => {
    started += 1;
    const url = new URL(network.through(options.databaseUrl));
    url.searchParams.set('application_name', name);
    return startCli(parameters, { env: { ...options.env, ...more, DATABASE_URL: url.href } });
  };
  for (let index = 0; index < options.listeners; index += 1) {
    const isPooled = options.pooledPort !== undefined && index === options.listeners - 1;
    const network = await startTcpProxy(isPooled ? options.pooledPort : options.databasePort);
    posts.push(
      new ListenerPost(
        network,
        (more) => start(sessionName(index), ['listen'], network, more),
        index,
        options,
        complaints,
      ),
    );
  }

  return {
    posts,
    reconciling: () => reconciling,
    started: () => started,
    complaints,
    reconcile: async () => {
      while (!stopping.signal.aborted) {
        const { network } = draws.pick(posts);
        reconciling = start('reconcile', ['reconcile', '--json'], network, {});
        const keepAlive = setInterval(() => network.lapse(), KEEP_ALIVE_MS);
        const { code, signal, stderr, stdout } = await reconciling.ended();
        clearInterval(keepAlive);
        reconciling = undefined;
        // 1: something failed or is dead, or the database went away; 3 while the table is renamed, or a trigger
        // refuses every stamp: refused. The rest nobody asked for.
        const isRefused =
          code === 3 &&
          (/there is no table public\.runs any more|stamps fail with P0001/u.test(stderr) ||
            // It has found a surge.
            /"surges": ?\[\s*\d/u.test(stdout));
        if (signal === null && code !== 0 && code !== 1 && !isRefused) {
          complaints.push(`reconcile ended with ${code}: ${lastWords(stderr)}`);
        }
        await pause(draws.integer(reconcileEveryMs.min, reconcileEveryMs.max), undefined, {
          signal: stopping.signal,
        }).catch(() => undefined);
      }
    },
    stop: async () => {
      stopping.abort();
      const last = reconciling && endWithin(reconciling, 'reconcile', complaints);
      await Promise.all([last, ...posts.map((post) => post.stop())]);
    },
    dispose: async () => {
      stopping.abort();
      await reconciling?.[Symbol.asyncDispose]();
      await Promise.all(posts.map((post) => post.dispose()));
    },
  };
}

/** Keeps one listener running. */
class ListenerPost implements Post {
  readonly network: TcpProxy;
  readonly #begin: (more: Variables) => RunningCli;
  readonly #index: number;
  readonly #draws: Draws;
  readonly #preload: readonly string[];
  readonly #complaints: string[];
  #process: RunningCli | undefined;
  #isExpectedToEnd = false;
  #isStopped = false;

  constructor(
    network: TcpProxy,
    begin: (more: Variables) => RunningCli,
    index: number,
    { draws, preload = [] }: CrewOptions,
    complaints: string[],
  ) {
    this.network = network;
    this.#begin = begin;
    this.#index = index;
    this.#draws = draws;
    this.#preload = preload;
    this.#complaints = complaints;
    this.#start();
  }

  process(): RunningCli | undefined {
    return this.#process;
  }

  async relieve(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const process = this.#process;
    if (process === undefined || this.#isExpectedToEnd) return;
    this.#isExpectedToEnd = true;
    process.kill(signal);
    const name = `listener ${this.#index}`;
    const { code, stderr } = await endWithin(process, name, this.#complaints);
    // Before it has said its first word it knows no signals, and holds nothing.
    if (signal === 'SIGTERM' && code !== 0 && stderr !== '') {
      this.#complaints.push(
        `SIGTERM ended listener ${this.#index} with ${code}: ${lastWords(stderr)}`,
      );
    }
    if (!this.#isStopped) this.#start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.relieve('SIGTERM');
  }

  async dispose(): Promise<void> {
    this.#isStopped = true;
    this.#isExpectedToEnd = true;
    await this.#process?.[Symbol.asyncDispose]();
    await this.network.close();
  }

  #start(): void {
    const process = this.#begin(this.#circumstances());
    this.#process = process;
    this.#isExpectedToEnd = false;
    void this.#watch(process);
  }

  async #watch(process: RunningCli): Promise<void> {
    const { code, signal, stderr } = await process.ended();
    if (this.#process !== process || this.#isExpectedToEnd) return;
    this.#complaints.push(
      `listener ${this.#index} ended by itself with ${code ?? signal}: ${lastWords(stderr)}`,
    );
    this.#start();
  }

  /**
   * Only the database's clock counts, so a host's may be a day ahead. One behind would do nothing. And a stop may be one of the whole
   * machine, which one of the two clocks does not notice.
   */
  #circumstances(): Variables {
    const days = this.#draws.pick([0, 0, 1, 2]);
    const modules = [
      ...this.#preload,
      ...(days === 0 ? [] : [SKEWED_CLOCK]),
      ...(this.#draws.pick([true, false]) ? [SUSPENDED_CLOCK] : []),
    ];
    if (modules.length === 0) return {};
    return {
      NODE_OPTIONS: modules.map((module) => `--import=${module}`).join(' '),
      SKEW_DAYS: String(days),
    };
  }
}

/** Waits for an end that is due; where it does not come, says so and brings it about. */
async function endWithin(
  process: RunningCli,
  name: string,
  complaints: string[],
): Promise<CliResult> {
  const timer = setTimeout(() => {
    complaints.push(`${name} does not end: ${lastWords(process.stderr)}`);
    process.kill('SIGKILL');
  }, END_WITHIN_MS);
  try {
    return await process.ended();
  } finally {
    clearTimeout(timer);
  }
}

function lastWords(stderr: string): string {
  return stderr.trimEnd().split('\n').slice(-LAST_LINES).join('\n      ');
}
