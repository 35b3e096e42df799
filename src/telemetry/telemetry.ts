import { isTransientDatabaseError } from '../errors.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import { createFailureLog } from '../lifecycle/failure-log.ts';
import type { Service } from '../lifecycle/service.ts';
import type { Logger } from '../logger.ts';
import type { Store } from '../store/store.ts';
import { type Reading, createCachedRead } from './cached-read.ts';
import { type HttpAnswer, createHttpServer } from './http-server.ts';
import type { ListenerState } from './listening.ts';
import { type Metrics, createMetrics } from './metrics.ts';
import { judgeReadiness } from './readiness.ts';
import { type Snapshot, snapshotAsJson } from './snapshot.ts';
import { renderStatusPage } from './status-page.ts';
import { STYLE_POLICY } from './status-style.ts';

/** What telemetry is made of. */
export interface TelemetryOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly store: Pick<Store, 'readVitals' | 'readOverview'>;
  readonly listener: () => ListenerState;
  readonly logger: Logger;
}

/** Serves health, metrics and the status page; told of what happens meanwhile. */
export interface Telemetry extends Service, Omit<Metrics, 'render'> {
  /** The port that is served; undefined before it is. */
  port(): number | undefined;
}

/** For this long, scrapes, probes and pages share one reading of the database. */
const VITALS_MILLISECONDS = 5_000;
/** Longer for the lists of the page, which cost more. */
const OVERVIEW_MILLISECONDS = 9_000;

const JSON_TYPE = 'application/json; charset=utf-8';
const UNAVAILABLE = 503;

/** Makes telemetry. `start` rejects when the port cannot be had, and does not wait for the database. */
export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { store, listener, logger } = options;
  const startedAt = new Date();
  const readVitals = createCachedRead({
    read: logged(logger, 'The status', () => store.readVitals()),
    freshMilliseconds: VITALS_MILLISECONDS,
  });
  // Both at once, so that the sums of a page are those of its lists.
  const readBoth = createCachedRead({
    read: logged(logger, 'The overview', () =>
      Promise.all([store.readVitals(), store.readOverview()]),
    ),
    freshMilliseconds: OVERVIEW_MILLISECONDS,
  });
  const metrics = createMetrics({ readVitals, listener });
  const takeSnapshot = async (): Promise<Snapshot> => {
    const now = await readVitals();
    // Where the first look failed, the second would only make the reader wait longer.
    const both = now.ok ? await readBoth() : failed(now);
    // The page shows times by the database's clock, so its ages are by that clock, too.
    const skew = now.ok ? now.value.asOf.getTime() - now.at.getTime() : 0;
    const there = (date: Date): Date => new Date(date.getTime() + skew);
    const { provenAt, fault: _fault, ...state } = listener();
    const known = {
      startedAt: there(startedAt),
      listener: { ...state, provenAt: provenAt && there(provenAt) },
      readiness: judgeReadiness(now, listener()),
    };
    if (!both.ok) return { ...known, at: there(new Date()), vitals: now, overview: both };
    const { at } = both;
    const [vitals, overview] = both.value;
    return {
      ...known,
      at: there(at),
      vitals: { ok: true, value: vitals, at },
      overview: { ok: true, value: overview, at },
    };
  };
  const server = createHttpServer({
    host: options.host,
    port: options.port,
    logger,
    routes: {
      '/': async () => answerPage(await takeSnapshot()),
      '/status.json': async () => answerStatus(await takeSnapshot()),
      '/healthz': () => answerLiveness(listener()),
      '/readyz': async () => answerReadiness(await readVitals(), listener()),
      '/metrics': async () => {
        const { contentType, text } = await metrics.render();
        return { contentType, body: text };
      },
    },
  });
  const { countBatch, countNotification, timeS3Call } = metrics;
  return {
    start: () => server.start(),
    stop: () => server.stop(),
    port: () => server.address()?.port,
    countBatch,
    countNotification,
    timeS3Call,
  };
}

function answerPage(snapshot: Snapshot): HttpAnswer {
  return {
    status: snapshot.vitals.ok ? 200 : UNAVAILABLE,
    contentType: 'text/html; charset=utf-8',
    contentSecurityPolicy: STYLE_POLICY,
    body: renderStatusPage(snapshot),
  };
}

function answerStatus(snapshot: Snapshot): HttpAnswer {
  return {
    status: snapshot.vitals.ok ? 200 : UNAVAILABLE,
    contentType: JSON_TYPE,
    body: snapshotAsJson(snapshot),
  };
}

/**
 * Alive, unless for a minute something has kept sessions of the database away that a restart may help with:
 * a login or an address that have changed in the environment since. A database that is down is no such thing.
 */
function answerLiveness({ fault }: ListenerState): HttpAnswer {
  const lasts = fault === undefined ? 0 : Date.now() - fault.since.getTime();
  const alive = lasts < MILLISECONDS.minute;
  const reason = alive ? {} : { reason: `no session of the database for a minute: ${fault?.kind}` };
  return {
    status: alive ? 200 : UNAVAILABLE,
    contentType: JSON_TYPE,
    body: `${JSON.stringify({ alive, ...reason })}\n`,
  };
}

function answerReadiness(
  vitals: Parameters<typeof judgeReadiness>[0],
  listener: ListenerState,
): HttpAnswer {
  const readiness = judgeReadiness(vitals, listener);
  return {
    status: readiness.ready ? 200 : UNAVAILABLE,
    contentType: JSON_TYPE,
    body: `${JSON.stringify(readiness)}\n`,
  };
}

function failed({ at }: Reading<unknown>): Reading<never> {
  return { ok: false, error: undefined, at };
}

/** Says why a read failed, since an answer over HTTP does not. */
function logged<Value>(
  logger: Logger,
  what: string,
  read: () => Promise<Value>,
): () => Promise<Value> {
  const failures = createFailureLog({
    logger,
    failed: `${what} could not be read`,
    recovered: `${what} can be read again`,
    level: 'warning',
  });
  return async () => {
    try {
      const value = await read();
      failures.works();
      return value;
    } catch (error) {
      // The listener reports an unreachable database.
      if (!isTransientDatabaseError(error)) failures.failed(error);
      throw error;
    }
  };
}
