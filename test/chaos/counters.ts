import pg from 'pg';
import { runCli, startCli } from '../support/cli.ts';
import { until } from '../support/until.ts';
import type { Application } from './application.ts';
import type { Ground } from './campaign.ts';
import type { Violation } from './checker.ts';

const LISTENED = 300;
const RECONCILED = 200;

/**
 * Promise 12 in the calm: what a listener's metrics, its notifications, the status and reconcile
 * say, against what the wire and the triggers saw meanwhile.
 */
export async function compareCounters(
  ground: Ground & { readonly application: Application },
): Promise<Violation[]> {
  const { postgres, env, application, record } = ground;
  const own = { ...env, DATABASE_URL: postgres.url() };
  const seenBefore = await stampsSeen(ground);
  const askedBefore = record.deletions.length;
  const announced = await listenForCleared(postgres.url());
  const figures: (readonly [what: string, figure: number, counted: number])[] = [];
  try {
    await using listener = startCli(['listen'], { env: { ...own, RETENTION_HTTP_PORT: '0' } });
    const line = await listener.waitForLine('Serving health, metrics and status on');
    await listener.waitForLine('Listening for notifications');
    await application.completeDue(LISTENED);
    await postgres.sql('select retention.flag_expired()', 'app');
    await until(
      'the listener has cleared all',
      async () =>
        (await stampsSeen(ground)) === seenBefore + LISTENED && announced.total() >= LISTENED,
      { limitMs: 30_000, pollMs: 100, seen: () => [announced.total(), listener.stderr] },
    );
    const metrics = await metricsOf(line);
    listener.kill();
    await listener.ended();
    figures.push(
      ['objects deleted, by the metrics', metrics, LISTENED],
      ['cleared, by the notifications', announced.total(), LISTENED],
    );
  } finally {
    await announced.end();
  }

  await application.completeDue(RECONCILED);
  const { stdout } = await runCli(['reconcile', '--json'], { env: own });
  const summary = JSON.parse(stdout) as { readonly flagged: number; readonly cleared: number };
  const status = await runCli(['status', '--json'], { env: own });
  const { cleared_today: today } = JSON.parse(status.stdout) as { readonly cleared_today: number };
  figures.push(
    ['flagged, by reconcile', summary.flagged, RECONCILED],
    ['cleared, by reconcile', summary.cleared, RECONCILED],
    ['keys asked for, on the wire', record.deletions.length - askedBefore, LISTENED + RECONCILED],
    ['cleared today, by the status', today, await settledSeen(ground)],
    ['stamps, by the triggers', (await stampsSeen(ground)) - seenBefore, LISTENED + RECONCILED],
  );
  return figures
    .filter(([, figure, counted]) => figure !== counted)
    .map(([what, figure, counted]) => ({
      promise: '12: every figure is one it counted',
      what: `${what}: ${figure}; counted: ${counted}`,
    }));
}

async function stampsSeen({ postgres }: Ground): Promise<number> {
  const text = await postgres.sql(
    `select count(*) from history.run_change
    where only_stamped and cleared_at is not null and was_cleared_at is null`,
    'app',
  );
  return Number(text);
}

/** Results that left the work tables with the settle of their batch, by the triggers. */
async function settledSeen({ postgres }: Ground): Promise<number> {
  const text = await postgres.sql(
    `select count(*) from history.item_change i
    where op = 'DELETE' and exists (
      select from history.batch_change b
      where b.xid = i.xid and b.batch_id = i.batch_id
        and b.settled_at is not null and b.was_lease is not null and b.lease is null
        and b.settled_at >= date_trunc('day', now(), 'UTC') and b.cleared > 0
    )`,
    'app',
  );
  return Number(text);
}

async function metricsOf(line: string): Promise<number> {
  const address = /http:\/\/\S+/u.exec(line)?.[0]?.replace(/[",.]+$/u, '') ?? '';
  const response = await fetch(new URL('/metrics', address));
  const text = await response.text();
  const [, value] =
    /^retention_cleanup_s3_objects_deleted_total(?:\{[^}]*\})? (\d+)$/mu.exec(text) ?? [];
  return Number(value);
}

interface Announced {
  /** The sum of what was announced as cleared. */
  readonly total: () => number;
  readonly end: () => Promise<void>;
}

async function listenForCleared(url: string): Promise<Announced> {
  const client = new pg.Client({ connectionString: url });
  let total = 0;
  client.on('notification', ({ payload = '' }) => {
    total += (JSON.parse(payload) as { readonly cleared: number }).cleared;
  });
  await client.connect();
  await client.query('listen retention_cleared');
  return { total: () => total, end: () => client.end() };
}
