import { setTimeout as delay } from 'node:timers/promises';
import type { BenchDatabase } from './bench.ts';
import { type Command, startCommand } from './processes.ts';

const HIDE = `update retention.batch set visible_at = now() + interval '1 day' where settled_at is null`;
const SHOW = `update retention.batch set visible_at = now() where settled_at is null`;
const LOOK_MILLISECONDS = 50;

/** Flags all that is due and lets nobody see it yet. */
export async function flagHidden(database: BenchDatabase): Promise<void> {
  for (;;) {
    const [row] = await database.query<{ flagged: number }>(
      `select retention.flag_expired() as flagged`,
    );
    if (row?.flagged === 0) break;
  }
  await database.query(HIDE);
  // The passes are over, and the next is not before tomorrow.
  await database.query(
    `update retention.heartbeat set more = false, passed_at = now(), ticked_at = now()`,
  );
  await database.query('vacuum analyze');
}

/** Starts a listener and waits until it listens. */
export async function startListener(
  database: BenchDatabase,
  env: Readonly<Record<string, string>> = {},
  nodeFlags: readonly string[] = [],
): Promise<Command> {
  const listener = startCommand(['listen'], { ...database.env, ...env }, nodeFlags);
  await listener.says('Listening for notifications');
  return listener;
}

/** Lets the listeners work off so many batches, so that they have compiled and planned what they do. */
export async function warmUp(database: BenchDatabase, batches: number): Promise<void> {
  await database.query(
    `update retention.batch set visible_at = now()
    where batch_id in (select batch_id from retention.batch order by batch_id limit $1)`,
    [batches],
  );
  await database.query(`notify retention_expired, '{}'`);
  for (;;) {
    const [row] = await database.query<{ settled: number }>(
      'select count(*)::int as settled from retention.batch where settled_at is not null',
    );
    if (row?.settled === batches) return;
    await delay(LOOK_MILLISECONDS);
  }
}

/** How many results were left at some moment. */
export interface BacklogPoint {
  readonly seconds: number;
  readonly results: number;
}

/**
 * Shows the hidden work to whoever listens; returns the seconds until the last batch settled.
 *
 * @param points gets the backlog against time.
 */
export async function drainShown(
  database: BenchDatabase,
  points?: BacklogPoint[],
): Promise<number> {
  const session = await database.connect();
  await session.query(SHOW);
  await session.query(`notify retention_expired, '{}'`);
  const { rows: started } = await session.query<{ at: Date }>('select clock_timestamp() as at');
  for (;;) {
    const { rows } = await session.query<{ now: string; last: string; results: number }>(
      `select extract(epoch from clock_timestamp() - $1::timestamptz) as now,
        extract(epoch from max(settled_at) - $1::timestamptz) as last,
        coalesce(sum(results) filter (where settled_at is null), 0)::int as results
      from retention.batch`,
      [started[0]?.at],
    );
    const [row] = rows;
    if (row === undefined) throw new Error('the backlog could not be read');
    points?.push({ seconds: Number(row.now), results: row.results });
    if (row.results === 0) return Number(row.last);
    await delay(LOOK_MILLISECONDS);
  }
}

/** Waits until no batch is left to be worked on. */
export async function untilDrained(database: BenchDatabase): Promise<void> {
  for (;;) {
    const [row] = await database.query<{ open: boolean }>(
      'select exists (select from retention.batch where settled_at is null) as open',
    );
    if (row?.open === false) return;
    await delay(LOOK_MILLISECONDS);
  }
}
