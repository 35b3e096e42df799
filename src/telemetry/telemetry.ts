import { isTransientDatabaseError } from '../errors.ts';
import { MILLISECONDS } from '../lifecycle/duration.ts';
import { createFailureLog } from '../lifecycle/failure-log.ts';
import { Semaphore } from '../lifecycle/semaphore.ts';
import type { Service } from '../lifecycle/service.ts';
import type { Logger } from '../logger.ts';
import type { Overview, Vitals } from '../store/overview.ts';
import type { Store } from '../store/store.ts';
import { PRODUCT_VERSION } from '../store/version.ts';
import { type Reading, createCachedRead } from './cached-read.ts';
import { type HttpAnswer, createHttpServer } from './http-server.ts';
import type { ListenerState } from './listening.ts';
import { type Metrics, createMetrics } from './metrics.ts';
import type { OpenTelemetry } from './open-telemetry.ts';
import { judgeReadiness } from './readiness.ts';
import { type Snapshot, snapshotAsJson } from './snapshot.ts';
import { answerExplain, createExplainRead } from './explain-page.ts';
import { REFRESH_SECONDS, renderStatusPage } from './status-page.ts';
import { STYLE_POLICY } from './status-style.ts';

/** What telemetry is made of. */
export interface TelemetryOptions {
  readonly host: string;
  /** 0 takes any free one. Undefined: nothing is served. */
  readonly port: number | undefined;
  /** Gets the metrics as well. Default: nothing does. */
  readonly openTelemetry?: OpenTelemetry | undefined;
  readonly store: Pick<Store, 'readVitals' | 'readOverview' | 'pulse' | 'explain'>;
  /** Where the database is, without user and password: the page says which one it is of. */
  readonly target: string;
  readonly listener: () => ListenerState;
  readonly logger: Logger;
}

/** Serves health, metrics and the status page; told of what happens meanwhile. */
export interface Telemetry extends Service, Omit<Metrics, 'render' | 'mirror'> {
  /** The port that is served; undefined before it is. */
  port(): number | undefined;
}

/** For this long, scrapes, probes and pages share one reading of the database. */
const VITALS_MILLISECONDS = 5_000;
/** Longer for the lists of the page, which cost more. */
const OVERVIEW_MILLISECONDS = 9_000;
/** Short, for a probe decides whether a listener gets traffic or is replaced. */
const PULSE_MILLISECONDS = 1_000;
const PULSE_LIMIT_MILLISECONDS = 1_000;
const PULSE_STALE_MILLISECONDS = 10_000;
/** What a reading may take without being called stale. */
const ORDINARY_MILLISECONDS = 2_000;

const JSON_TYPE = 'application/json; charset=utf-8';
const UNAVAILABLE = 503;

/** Makes telemetry. `start` rejects when the port cannot be had, and does not wait for the database. */
export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { store, listener, logger } = options;
  const installation = { target: options.target, version: PRODUCT_VERSION };
  const startedAt = new Date();
  // One of them at work at a time: what watches takes one session from the work, however many look.
  const turn = new Semaphore(1);
  const readVitals = createCachedRead({
    read: logged(logger, 'The status', () => turn.run(undefined, () => store.readVitals())),
    freshMilliseconds: VITALS_MILLISECONDS,
  });
  // Both at once, so that the sums of a page are those of its lists.
  const readBoth = createCachedRead({
    read: logged(logger, 'The overview', () =>
      turn.run(undefined, async () => {
        const vitals = await store.readVitals();
        return [vitals, await store.readOverview(vitals.status)] as const;
      }),
    ),
    freshMilliseconds: OVERVIEW_MILLISECONDS,
  });
  // By itself and not behind the others: a probe waits for no count.
  const readPulse = createCachedRead({
    read: logged(logger, 'The readiness', () => store.pulse()),
    freshMilliseconds: PULSE_MILLISECONDS,
    limitMilliseconds: PULSE_LIMIT_MILLISECONDS,
    staleMilliseconds: PULSE_STALE_MILLISECONDS,
  });
  const explain = createExplainRead({ store, logger, turn });
  const metrics = createMetrics({ readVitals, listener });
  const takeSnapshot = async (): Promise<Snapshot> => {
    const [pulse, both] = await Promise.all([readPulse(), readBoth()]);
    // Where the lists alone fail, there are still the sums; where nothing answers, nothing is asked again.
    const vitals: Reading<Vitals> = both.ok
      ? { ok: true, value: both.value[0], at: both.at }
      : pulse.ok
        ? await readVitals()
        : both;
    const overview: Reading<Overview> = both.ok
      ? { ok: true, value: both.value[1], at: both.at }
      : both;
    // The page shows times by the database's clock, so its ages are by that clock, too.
    const skew = vitals.ok ? vitals.value.asOf.getTime() - vitals.at.getTime() : 0;
    const there = (date: Date): Date => new Date(date.getTime() + skew);
    const { provenAt, fault: _fault, ...state } = listener();
    return {
      installation,
      at: there(vitals.ok ? vitals.at : new Date()),
      staleSeconds: staleSeconds(vitals, OVERVIEW_MILLISECONDS),
      startedAt: there(startedAt),
      listener: { ...state, provenAt: provenAt && there(provenAt) },
      readiness: judgeReadiness(pulse, listener()),
      vitals,
      overview,
    };
  };
  const { port } = options;
  const server =
    port === undefined
      ? undefined
      : createHttpServer({
          host: options.host,
          port,
          logger,
          routes: {
            '/': async (query) => answerPage(await takeSnapshot(), query.get('refresh') !== 'off'),
            '/explain': (query) => answerExplain(installation, query, explain),
            '/status.json': async () => answerStatus(await takeSnapshot()),
            '/healthz': () => answerLiveness(listener()),
            '/readyz': async () => answerReadiness(await readPulse(), listener()),
            '/metrics': async () => {
              const { contentType, text } = await metrics.render();
              return { contentType, body: text };
            },
          },
        });
  const { countBatch, countNotification, timeS3Call } = metrics;
  let stopMirror = (): void => undefined;
  return {
    start: async () => {
      await server?.start();
      if (options.openTelemetry) stopMirror = await metrics.mirror(options.openTelemetry);
    },
    stop: async () => {
      stopMirror();
      await server?.stop();
    },
    port: () => server?.address()?.port,
    countBatch,
    countNotification,
    timeS3Call,
  };
}

function answerPage(snapshot: Snapshot, isRefreshed: boolean): HttpAnswer {
  return {
    status: snapshot.vitals.ok ? 200 : UNAVAILABLE,
    contentType: 'text/html; charset=utf-8',
    contentSecurityPolicy: STYLE_POLICY,
    refreshSeconds: isRefreshed ? REFRESH_SECONDS : undefined,
    body: renderStatusPage(snapshot, isRefreshed),
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
  pulse: Parameters<typeof judgeReadiness>[0],
  listener: ListenerState,
): HttpAnswer {
  const readiness = judgeReadiness(pulse, listener);
  return {
    status: readiness.ready ? 200 : UNAVAILABLE,
    contentType: JSON_TYPE,
    body: `${JSON.stringify(readiness)}\n`,
  };
}

/** How old a reading is that was not renewed in time; 0: it is as young as it is asked for. */
function staleSeconds(reading: Reading<unknown>, freshMilliseconds: number): number {
  const age = reading.ok ? Date.now() - reading.at.getTime() : 0;
  return age > freshMilliseconds + ORDINARY_MILLISECONDS ? Math.round(age / 1_000) : 0;
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
