import pg from 'pg';
import { runCli, startCli } from '../../support/cli.ts';
import { until } from '../../support/until.ts';
import type { Application } from './application.ts';
import type { Ground } from './campaign.ts';
import type { Violation } from './checker.ts';

const LISTENED = 300;
const RECONCILED = 200;

/** As which the sessions are known whose figures are compared. */
const COUNTED = 'counted';

/**
 * Promise 12 in the calm: what a listener's metrics, its notifications, the status and reconcile
 * say, against what the wire and the triggers saw of these very processes. Others may have flagged
 * what they cleared, and what was spared before may have come back; so nothing is expected to be
 * just what was completed, but at least that.
 */
export async function compareCounters(
  ground: Ground & { readonly application: Application },
): Promise<Violation[]> {
  const { postgres, env, application, record } = ground;
  const own = { ...env, DATABASE_URL: knownAs(postgres.url(), COUNTED) };
  const start = await seen(ground);
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
      async () => {
        const { settled, leased } = await seen(ground);
        const cleared = settled - start.settled;
        return leased === 0 && cleared >= LISTENED && announced.total() >= cleared;
      },
      { limitMs: 30_000, pollMs: 250, seen: () => [announced.total(), listener.stderr] },
    );
    const metrics = await metricsOf(line);
    listener.kill();
    await listener.ended();
    const cleared = (await seen(ground)).settled - start.settled;
    figures.push(
      ['objects deleted, by the metrics', metrics, cleared],
      ['cleared, by the notifications', announced.total(), cleared],
    );
  } finally {
    await announced.end();
  }

  const listened = await seen(ground);
  await application.completeDue(RECONCILED);
  const { stdout } = await runCli(['reconcile', '--json'], { env: own });
  const summary = JSON.parse(stdout) as { readonly flagged: number; readonly cleared: number };
  const status = await runCli(['status', '--json'], { env: own });
  const { cleared_today: today } = JSON.parse(status.stdout) as { readonly cleared_today: number };
  const end = await seen(ground);
  const asked = record.deletions.length - askedBefore;
  figures.push(
    ['flagged, by reconcile', summary.flagged, end.flagged - listened.flagged],
    ['cleared, by reconcile', summary.cleared, end.settled - listened.settled],
    ['keys asked for, on the wire', asked, end.settled - start.settled],
    ['cleared today, by the status', today, end.settledToday],
    ['stamps, by the triggers', end.stamps - start.stamps, end.settled - start.settled],
  );
  const short = LISTENED + RECONCILED - (end.stamps - start.stamps);
  return [
    ...(short > 0 ? [`${short} that were completed in the calm have no stamp`] : []),
    ...figures
      .filter(([, figure, counted]) => figure !== counted)
      .map(([what, figure, counted]) => `${what}: ${figure}; counted: ${counted}`),
  ].map((what) => ({ promise: '12: every figure is one it counted', what }));
}

function knownAs(url: string, name: string): string {
  const address = new URL(url);
  address.searchParams.set('application_name', name);
  return address.href;
}

/** What the triggers have seen up to now. */
interface Seen {
  readonly stamps: number;
  /** By the counted sessions: what they flagged, and what left the work tables with its batch. */
  readonly flagged: number;
  readonly settled: number;
  /** By all. */
  readonly settledToday: number;
  /** Batches that somebody works on now. */
  readonly leased: number;
}

const SEEN = `
with settled as (
  select i.by, b.settled_at >= date_trunc('day', now(), 'UTC') as today
  from history.item_change i
  join history.batch_change b on b.xid = i.xid and b.batch_id = i.batch_id
  where i.op = 'DELETE' and b.cleared > 0
    and b.settled_at is not null and b.was_settled_at is null
)
select json_build_object(
  'stamps', (
    select count(*) from history.run_change
    where only_stamped and cleared_at is not null and was_cleared_at is null
  ),
  'flagged', (
    select count(*) from history.item_change where op = 'INSERT' and by = '${COUNTED}'
  ),
  'settled', (select count(*) from settled where by = '${COUNTED}'),
  'settledToday', (select count(*) from settled where today),
  'leased', (select count(*) from retention.batch where lease is not null)
)`;

async function seen({ postgres }: Ground): Promise<Seen> {
  return JSON.parse(await postgres.sql(SEEN, 'app')) as Seen;
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
