import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { PrivatePostgres } from '../../stack/private-postgres.ts';
import type { Draws } from './draws.ts';
import { type Fault, type Faults, LISTENER_ROLE, last, type Scene } from './scene.ts';

/** What becomes of the server and in it. */
export const SERVER_FAULTS: Faults = [
  [4, ['every backend terminated', terminateBackends]],
  [1, ['the server stopped in immediate mode', restart('immediate')]],
  [1, ['the server restarted', restart('fast')]],
  [3, ['the table locked', lockTable]],
  [2, ['the table renamed and back', renameTable]],
  [3, ['a long idle transaction', idleTransaction]],
  [3, ['a full disk', refuseStamps('53100', 'could not extend file: No space left on device')]],
  [3, ['a deadlock at the stamp', refuseStamps('40P01', 'deadlock detected')]],
  [
    3,
    [
      'a serialization failure at the stamp',
      refuseStamps('40001', 'could not serialize access due to concurrent update'),
    ],
  ],
  [2, ['a trigger that begins to fail', refuseStamps('P0001', 'the books are closed')]],
  [3, ['rows locked by another session', lockRows]],
  [3, ['a flood of notifications', flood]],
  [3, ['a silent scheduler', silence]],
  [2, ['a server that takes no writes', takeNoWrites]],
  [2, ['sessions of strangers by default', changeDefaults]],
];

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

async function lockRows({ postgres }: Scene, draws: Draws): Promise<void> {
  await withSession(postgres, async (client) => {
    await client.query('begin');
    await client.query(
      `select from runs where result_cleared_at is null order by random() limit $1 for update skip locked`,
      [draws.integer(1, 20)],
    );
    await last(draws, 500, 4_000);
    await client.query('rollback');
  });
}

/** A swap by rename that is taken back: meanwhile another table's name is nobody's, and no stamp may land in it. */
async function renameTable({ postgres }: Scene, draws: Draws): Promise<void> {
  try {
    await withSession(postgres, (client) => client.query('alter table runs rename to runs_away'));
    await last(draws, 500, 3_000);
  } finally {
    await retrying(() =>
      withSession(postgres, (client) =>
        client.query('alter table if exists runs_away rename to runs'),
      ),
    );
  }
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

/** As around a switchover: the listeners' sessions are lost, and for a while no new one can write. */
async function takeNoWrites({ postgres }: Scene, draws: Draws): Promise<void> {
  const setting = 'default_transaction_read_only';
  try {
    await setForListeners(postgres, setting, 'on');
    await withSession(postgres, async (client) => {
      await client.query(
        'select pg_terminate_backend(pid) from pg_stat_activity where usename = $1',
        [LISTENER_ROLE],
      );
    });
    await last(draws, 1_000, 8_000);
  } finally {
    await retrying(() => setForListeners(postgres, setting, undefined));
  }
}

/** New sessions begin as a person may want them, and as no session of ours may be. */
async function changeDefaults({ postgres }: Scene, draws: Draws): Promise<void> {
  const settings = [
    ['datestyle', 'German'],
    ['statement_timeout', '200'],
    ['default_transaction_isolation', 'serializable'],
    ['lock_timeout', '50'],
  ] as const;
  const [name, value] = draws.pick(settings);
  try {
    await setForListeners(postgres, name, value);
    await last(draws, 2_000, 8_000);
  } finally {
    await retrying(() => setForListeners(postgres, name, undefined));
  }
}

/** Of the listeners' role alone; the application's sessions stay as they are. */
async function setForListeners(
  postgres: PrivatePostgres,
  name: string,
  value: string | undefined,
): Promise<void> {
  await withSession(postgres, async (client) => {
    await client.query(
      `alter role ${LISTENER_ROLE} ${value === undefined ? `reset ${name}` : `set ${name} = '${value}'`}`,
    );
  });
}

/** Every write of a stamp fails for a while, inside the transaction that settles. */
function refuseStamps(sqlState: string, message: string): Fault {
  return async ({ postgres }, draws) => {
    const name = `refuse_${sqlState.toLowerCase()}`;
    try {
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
    } finally {
      await retrying(() =>
        withSession(postgres, async (client) => {
          // While the table has another name, dropping "if exists" would do nothing and say nothing.
          await client.query(`select 'runs'::regclass`);
          await client.query(`drop trigger if exists ${name} on runs`);
        }),
      );
    }
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
  work: (client: pg.Client) => Promise<unknown>,
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

/** What comes of a server that is going down, of a table that is renamed, or is ended by another fault. */
export function isOfTheServer(error: unknown): boolean {
  if (error instanceof pg.DatabaseError)
    return /^(?:08|53|57|40|55|58|XX|42P01)/u.test(error.code ?? '');
  return error instanceof Error && /connect|ECONN|terminated|closed|server/iu.test(error.message);
}
