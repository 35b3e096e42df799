import { openStandingVerify } from './assembly-standing.ts';
import { openPool, withStore } from './assembly-store.ts';
import { CHANNELS, type OnEvent, createTeller } from './assembly-subscribe.ts';
import { openWebhook } from './assembly-webhook.ts';
import { type Config, allowedBuckets, storedSettings } from './config/config.ts';
import { asConfigurationError } from './config/database-faults.ts';
import { formatTable } from './config/sql-names.ts';
import { describeTarget } from './database/connection.ts';
import { type MigrationSettings, runMigrations } from './database/migrations.ts';
import {
  type Notifications,
  type NotificationsState,
  createNotifications,
} from './database/notifications.ts';
import type { Queryable } from './database/queryable.ts';
import { withGrace } from './lifecycle/deadline.ts';
import { MILLISECONDS } from './lifecycle/duration.ts';
import { type Service, createService } from './lifecycle/service.ts';
import { type Logger, silentLogger } from './logger.ts';
import type { ObjectStore } from './objects/object-store.ts';
import { openObjectStore, withObjectStore } from './objects/open-object-store.ts';
import { createSealWatch } from './proof/seal-watch.ts';
import { createCanary } from './reactor/canary.ts';
import { createBucketNotes } from './reactor/bucket-notes.ts';
import { refuseWhileDisabled } from './reactor/gate.ts';
import { createListener } from './reactor/listener.ts';
import { openFence, withFence } from './reactor/open-fence.ts';
import { type Reconciliation, reconcile as runReconcile } from './reactor/reconcile.ts';
import { openWorker } from './reactor/open-worker.ts';
import { checkSelection } from './store/scope.ts';
import type { Selection } from './store/selection.ts';
import { applyVariables } from './store/settings.ts';
import { createStore } from './store/store.ts';
import { observeDeletion } from './telemetry/observed-deletion.ts';
import { loadOpenTelemetry, takesMetrics, withTraceContext } from './telemetry/open-telemetry.ts';
import { createTelemetry } from './telemetry/telemetry.ts';

export { withStore };
export { type VerifyRequest, verify } from './assembly-verify.ts';

const EXPIRED = 'retention_expired';
const SEALED = 'retention_sealed';
const ATTENTION = 'retention_attention';

/** What every entry point of the library takes. */
export interface LibraryOptions {
  /** From `readConfig`. */
  readonly config: Config;
  /** Default: silent. */
  readonly logger?: Logger;
  /** Used in place of S3, and not closed. Default: S3 as the configuration says. */
  readonly objects?: ObjectStore;
}

/** What a reactor takes beside. */
export interface ReactorOptions extends LibraryOptions {
  /** Told of what the database announces, as `subscribe` tells it. Default: only the reactor hears of it. */
  readonly onEvent?: OnEvent;
}

/** A reactor: listens and reacts until it is stopped. */
export interface Reactor extends Service {
  /** What is known about the listening session. */
  listening(): NotificationsState;
  /** The port of health, metrics and the status page; undefined: nothing is served. */
  httpPort(): number | undefined;
}

/** What a reconcile is narrowed to, and who watches. */
export interface ReconcileRequest extends LibraryOptions {
  /** Default: everything that is due. A selection that is there says what it means. */
  readonly selection?: Selection;
  /** Results per batch, for this reconcile. */
  readonly batchSize?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, known: number) => void;
}

/**
 * Makes a reactor. `start` resolves at once and does not wait for the database: it goes on trying.
 * `stop` claims nothing more, finishes what is in flight within the grace period, and resolves when
 * nothing is left.
 *
 * @throws ConfigurationError when the configuration names no bucket.
 */
export function createReactor(options: ReactorOptions): Reactor {
  const { config } = options;
  const openTelemetry = loadOpenTelemetry();
  const logger = withTraceContext(openTelemetry, options.logger ?? silentLogger);
  const buckets = allowedBuckets(config);
  const database = openPool(config, logger, {
    applicationName: 'retention listen',
    mustWrite: true,
    onRenewed: () => notifications.renew(),
  });
  const store = createStore(database);
  const objects = options.objects ?? openObjectStore(config, logger);
  const { inspection } = objects;
  const notes =
    inspection === undefined ? undefined : createBucketNotes({ store, inspection, logger });
  let stopping = false;
  const fence = openFence({ config, store, objects, logger, onHeld: () => listener.wake() });
  const { httpHost: host, httpPort: port } = config;
  const target = describeTarget(config.databaseUrl);
  const state = () => ({
    ...notifications.state(),
    stopping,
    fault: database.fault(),
    waits: fence.isUsed() ? fence.whyNot() : undefined,
  });
  const meter = takesMetrics(openTelemetry) ? openTelemetry : undefined;
  const telemetry =
    port === undefined && meter === undefined
      ? undefined
      : createTelemetry({
          host,
          port,
          target,
          openTelemetry: meter,
          store,
          listener: state,
          logger,
        });
  const listener = createListener({
    store,
    worker: openWorker(
      { config, logger },
      store,
      telemetry === undefined ? objects : observeDeletion(objects, telemetry.timeS3Call),
      fence,
    ),
    fence,
    logger,
    concurrency: config.concurrency,
    buckets,
    pollSeconds: config.pollSeconds,
    shutdownGraceSeconds: config.shutdownGraceSeconds,
    prepare: async () => {
      // The first batch reports what cannot be loaded now.
      const loading = objects.prepare?.().catch(() => undefined);
      await Promise.all([applySettings(config, database, logger), loading]);
    },
    onBatch: (outcome) => {
      if (outcome.isCanary === true) {
        canary.wake();
        return;
      }
      notes?.see(outcome.bucket);
      telemetry?.countBatch(outcome);
    },
  });
  const webhook = openWebhook(config, { store, logger });
  const teller = options.onEvent && createTeller(options.onEvent, logger);
  const isHeard = (channel: string): boolean =>
    teller !== undefined ||
    channel === EXPIRED ||
    channel === SEALED ||
    (channel === ATTENTION && webhook !== undefined);
  const notifications: Notifications = createNotifications({
    listenUrl: config.databaseListenUrl,
    passwordFile: config.passwordFile,
    notifier: database,
    channels: CHANNELS.filter((name) => isHeard(name)),
    logger,
    // Any payload is only a reason to look at the tables. (Promise 9)
    onNotification: (channel, payload, raw) => {
      teller?.notification(channel, payload, raw);
      if (channel === SEALED) seals.wake();
      if (channel === SEALED || channel === ATTENTION) webhook?.wake();
      if (channel !== EXPIRED) return;
      telemetry?.countNotification();
      listener.wake();
    },
    onCaughtUp: (reason) => {
      teller?.caughtUp(reason);
      listener.wake();
      seals.wake();
      webhook?.wake();
    },
  });
  const { sealBucket: bucket, pollSeconds, canarySeconds: everySeconds } = config;
  const canary = createCanary({
    store,
    objects,
    logger,
    buckets: buckets ?? [],
    everySeconds,
    pollSeconds,
  });
  const standing = openStandingVerify(config, { objects, logger });
  const seals = createSealWatch({ store, objects, logger, bucket, pollSeconds });
  const service = createService({
    name: 'the reactor',
    start: async () => {
      // First to start and last to stop, so that health answers also without the database.
      await telemetry?.start();
      await notifications.start();
      await fence.start();
      await listener.start();
      await seals.start();
      await webhook?.start();
      await canary.start();
      await standing?.start();
    },
    stop: async () => {
      stopping = true;
      // A database that does not answer may keep a settle for as long as its lease.
      const cut = (): void => {
        logger.warning('The grace period is over: what is in flight is cut, its leases run out');
        void database.cut();
      };
      await withGrace(config.shutdownGraceSeconds * MILLISECONDS.second, cut, async () => {
        const services = [notifications, listener, seals, canary, webhook, standing];
        await Promise.all(services.map(async (it) => it?.stop()));
        await notes?.stop();
        await fence.stop();
      });
      if (options.objects === undefined) objects.close();
      await database.close();
      await telemetry?.stop();
    },
  });
  return {
    start: () => service.start(),
    stop: () => service.stop(),
    listening: () => notifications.state(),
    httpPort: () => telemetry?.port(),
  };
}

/**
 * Flags and deletes what is due now; needs no listener and no scheduler.
 *
 * @throws UsageError for a selection that does not say what it means.
 * @throws ConfigurationError when the configuration names no bucket.
 * @throws ClosedError while the gate is closed.
 * @throws RefusedError when more results that are not due are selected than were
 * expected.
 * @throws DatabaseError
 */
export async function reconcile(request: ReconcileRequest): Promise<Reconciliation> {
  const { config, logger = silentLogger, selection, batchSize, signal, onProgress } = request;
  if ('selection' in request) checkSelection(selection);
  const buckets = allowedBuckets(config);
  refuseWhileDisabled(config);
  if (selection?.runIds?.length === 0) {
    logger.warning('The list of runs is empty: nothing is selected');
  }
  return withStore({ config, logger, mustWrite: true }, async (store) => {
    return withObjectStore({ ...request, config, logger }, (objects) =>
      withFence({ config, store, objects, logger, signal }, (fence) =>
        runReconcile({
          store,
          worker: openWorker({ config, logger }, store, objects, fence),
          concurrency: config.concurrency,
          selection,
          batchSize,
          buckets,
          signal,
          ...(onProgress === undefined ? {} : { onProgress }),
        }),
      ),
    );
  });
}

/**
 * Runs the migrations as the configuration says; up also writes the settings that live in the
 * database. Returns the names of those that ran.
 *
 * @throws ConfigurationError when `RETENTION_COLUMNS` cannot be read.
 * @throws DatabaseError with what was looked for, what was found and which setting to change.
 */
export async function migrate(
  options: Pick<LibraryOptions, 'config' | 'logger'> & {
    readonly direction: 'up' | 'down';
    /** How many migrations. Default: all. */
    readonly count?: number;
  },
): Promise<readonly string[]> {
  const { config, logger = silentLogger, direction, count } = options;
  const ran = await runMigrations({
    databaseUrl: config.databaseMigrateUrl,
    passwordFile: config.passwordFile,
    direction,
    count,
    logger,
    settings: migrationSettings(config),
  }).catch((error: unknown) => {
    throw asConfigurationError(error, config);
  });
  if (direction === 'up' && count === undefined) {
    const owner = { ...config, databaseUrl: config.databaseMigrateUrl };
    await withStore({ config: owner, logger }, async (_store, database) => {
      await applySettings(config, database, logger);
    });
  }
  return ran;
}

/** What the migrations are told of a configuration. */
export function migrationSettings(config: Config): MigrationSettings {
  return {
    table: formatTable(config.table),
    columns: config.columns,
    scheduler: config.scheduler,
    cronDatabaseUrl: config.cronDatabaseUrl,
    role: config.role,
    operatorRole: config.operatorRole,
    observerRole: config.observerRole,
  };
}

/** Brings the variables of the settings that live in the database, and logs what became of those that differ. */
async function applySettings(config: Config, database: Queryable, logger: Logger): Promise<void> {
  for (const each of await applyVariables(database, storedSettings(config))) {
    const { outcome, message, remedy } = each;
    if (outcome === 'applied') logger.info(`Setting changed: ${message}`);
    else logger.warning(`A variable is not applied: ${message}`, { remedy });
  }
}
