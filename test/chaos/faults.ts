import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { PrivatePostgres } from '../../src/demo/private-postgres.ts';
import type { HttpProxy } from '../support/http-proxy.ts';
import type { Crew, Post } from './crew.ts';
import type { Draws } from './draws.ts';
import { drawWeather } from './s3-weather.ts';

/** What faults are done to. */
export interface Scene {
  readonly postgres: PrivatePostgres;
  readonly s3: HttpProxy;
  readonly crew: Crew;
  /** Ticks, or falls silent. */
  readonly scheduler: { isSilent: boolean };
  /** While the server goes down and comes up; once at a time. */
  restarting: Promise<void> | undefined;
}

/** Faults done to a campaign until it is to be calm. */
export interface Trouble {
  /** How often each was done. */
  readonly done: ReadonlyMap<string, number>;
  readonly work: () => Promise<void>;
  /** No new fault; those that run heal themselves, and {@link work} ends with them. */
  readonly stop: () => void;
}

type Fault = (scene: Scene, draws: Draws) => Promise<void>;

/** Which faults, and how close together. */
export interface TroubleOptions {
  /** Names of faults that are not to be done. */
  readonly without?: readonly string[];
  /** From the beginning of one to that of the next, at least. */
  readonly pauseMs?: { readonly min: number; readonly max: number };
}

const PAUSE_MS = { min: 200, max: 2_500 };
const AT_ONCE = 3;

/** By weight. Each strikes, lasts, and leaves nothing behind. */
const FAULTS: readonly (readonly [weight: number, fault: readonly [name: string, run: Fault]])[] = [
  [6, ['kill -9 of a listener', ({ crew }, draws) => draws.pick(crew.posts).relieve('SIGKILL')]],
  [4, ['SIGTERM to a listener', ({ crew }, draws) => draws.pick(crew.posts).relieve('SIGTERM')]],
  [4, ['a listener stopped for longer than its lease', stopListener]],
  [3, ['kill -9 of a reconcile run', killReconcile]],
  [4, ['every backend terminated', terminateBackends]],
  [1, ['the server stopped in immediate mode', restart('immediate')]],
  [1, ['the server restarted', restart('fast')]],
  [4, ['connections cut', onNetwork((network) => network.cut())]],
  [4, ['connections dead', onNetwork(({ freeze }) => freeze())]],
  [
    3,
    [
      'connections cut mid-word',
      onNetwork((network, draws) => network.cutAfter(draws.integer(1, 4_000))),
    ],
  ],
  [
    3,
    [
      'new connections dead',
      onNetwork((network) => {
        network.freeze();
        network.letThrough(false);
      }),
    ],
  ],
  [
    3,
    [
      'connections refused',
      onNetwork((network) => {
        network.refuse(true);
        network.cut();
      }),
    ],
  ],
  [3, ['a slow network', onNetwork((network, draws) => network.delay(draws.integer(20, 400)))]],
  [
    3,
    [
      'a narrow network',
      onNetwork((network, draws) => network.throttle(draws.integer(2_000, 50_000))),
    ],
  ],
  [3, ['the table locked', lockTable]],
  [3, ['a long idle transaction', idleTransaction]],
  [3, ['a full disk', refuseStamps('53100', 'could not extend file: No space left on device')]],
  [3, ['a deadlock at the stamp', refuseStamps('40P01', 'deadlock detected')]],
  [3, ['a flood of notifications', flood]],
  [3, ['a silent scheduler', silence]],
  [24, ['weather', weather]],
];

/** Draws faults and does them, a few at a time. */
export function createTrouble(
  scene: Scene,
  draws: Draws,
  { without = [], pauseMs = PAUSE_MS }: TroubleOptions = {},
): Trouble {
  const faults = FAULTS.filter(([, [name]]) => !without.includes(name));
  const done = new Map<string, number>();
  const running = new Set<Promise<void>>();
  const stopping = new AbortController();
  return {
    done,
    stop: () => stopping.abort(),
    work: async () => {
      while (!stopping.signal.aborted) {
        const [name, run] = draws.weighted(faults);
        done.set(name, (done.get(name) ?? 0) + 1);
        // A fault may find the server down by another.
        const fault: Promise<void> = run(scene, draws)
          .catch((error: unknown) => {
            if (!isOfTheServer(error)) throw error;
          })
          .finally(() => running.delete(fault));
        running.add(fault);
        if (running.size >= AT_ONCE) await Promise.race(running);
        await pause(draws.integer(pauseMs.min, pauseMs.max));
      }
      await Promise.all(running);
    },
  };
}

async function last(draws: Draws, min = 500, max = 6_000): Promise<void> {
  await pause(draws.integer(min, max));
}

function onNetwork(strike: (network: Post['network'], draws: Draws) => void): Fault {
  return async ({ crew }, draws) => {
    const { network } = draws.pick(crew.posts);
    strike(network, draws);
    await last(draws);
    network.heal();
  };
}

function restart(mode: 'immediate' | 'fast'): Fault {
  return async (scene, draws) => {
    scene.restarting ??= (async () => {
      await scene.postgres.down(mode);
      await last(draws, 0, 4_000);
      await scene.postgres.up();
      scene.restarting = undefined;
    })();
    await scene.restarting;
  };
}

async function weather({ s3 }: Scene, draws: Draws): Promise<void> {
  const { fault } = drawWeather(draws);
  s3.steer(fault);
  await last(draws);
  s3.heal();
}

/** It wakes up when others have taken over what it thinks is its own. */
async function stopListener({ crew }: Scene, draws: Draws): Promise<void> {
  const process = draws.pick(crew.posts).process();
  if (process === undefined) return;
  process.kill('SIGSTOP');
  await last(draws, 1_000, 16_000);
  process.kill('SIGCONT');
}

async function killReconcile({ crew }: Scene): Promise<void> {
  crew.reconciling()?.kill('SIGKILL');
  await Promise.resolve();
}

async function terminateBackends({ postgres }: Scene): Promise<void> {
  await withSession(postgres, async (client) => {
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
      where pid <> pg_backend_pid() and backend_type = 'client backend'`,
    );
  });
}

async function lockTable({ postgres }: Scene, draws: Draws): Promise<void> {
  await withSession(postgres, async (client) => {
    await client.query('begin');
    await client.query('lock table runs in access exclusive mode');
    await last(draws, 500, 4_000);
    await client.query('rollback');
  });
}

async function idleTransaction({ postgres }: Scene, draws: Draws): Promise<void> {
  await withSession(postgres, async (client) => {
    await client.query('begin isolation level repeatable read');
    await client.query('listen retention_expired');
    await client.query('select count(*) from retention.batch');
    await last(draws, 2_000, 10_000);
    await client.query('rollback');
  });
}

/** Every write of a stamp fails for a while, inside the transaction that settles. */
function refuseStamps(sqlState: string, message: string): Fault {
  return async ({ postgres }, draws) => {
    const name = `refuse_${sqlState.toLowerCase()}`;
    await withSession(postgres, async (client) => {
      await client.query(`
        create or replace function history.${name}() returns trigger language plpgsql as $$
        begin
          if new.result_cleared_at is not null and old.result_cleared_at is null then
            raise exception using errcode = '${sqlState}', message = '${message}';
          end if;
          return new;
        end
        $$`);
      await client.query(
        `create or replace trigger ${name} before update on runs
        for each row execute function history.${name}()`,
      );
    });
    await last(draws);
    await retrying(() =>
      withSession(postgres, async (client) => {
        await client.query(`drop trigger if exists ${name} on runs`);
      }),
    );
  };
}

async function flood({ postgres }: Scene, draws: Draws): Promise<void> {
  const payloads = [
    '',
    'not JSON',
    '{"batches":1e99}',
    '{"batch":1,"run_ids":["x"]}',
    '\u001B[2J\nforged',
    'x'.repeat(7_900),
  ];
  await withSession(postgres, async (client) => {
    for (let turn = 0; turn < 200; turn += 1) {
      const channel = draws.pick(['retention_expired', 'retention_cleared', 'retention_failed']);
      await client.query('select pg_notify($1, $2)', [channel, draws.pick(payloads)]);
    }
  });
}

async function silence({ scheduler }: Scene, draws: Draws): Promise<void> {
  scheduler.isSilent = true;
  await last(draws, 2_000, 8_000);
  scheduler.isSilent = false;
}

async function withSession(
  { url }: PrivatePostgres,
  work: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({ connectionString: url(), application_name: 'a fault' });
  // Another fault may end it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

/** What a fault leaves behind has to go, also when the server is down for a moment. */
async function retrying(work: () => Promise<void>): Promise<void> {
  for (let left = 100; ; left -= 1) {
    try {
      await work();
      return;
    } catch (error) {
      if (left === 0 || !isOfTheServer(error)) throw error;
      await pause(200);
    }
  }
}

function isOfTheServer(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return /^(?:08|53|57|40|55|58|XX)/u.test(error.code ?? '');
  return error instanceof Error && /connect|ECONN|terminated|closed|server/iu.test(error.message);
}
