import { afterEach, beforeEach } from 'vitest';
import type { Database } from '../../src/database/database.ts';
import {
  type Notifications,
  type NotificationsOptions,
  createNotifications,
} from '../../src/database/notifications.ts';
import { createPool } from '../../src/database/pool.ts';
import { createBackoff } from '../../src/lifecycle/backoff.ts';
import { silentLogger } from '../../src/logger.ts';
import { type TestDatabase, useDatabase } from './database.ts';
import { type RecordingLogger, createRecordingLogger } from './recording-logger.ts';
import { until } from './until.ts';

/** The channel that the notifications under test listen to. */
export const CHANNEL = 'retention_expired';

/** A notification as it was handed over. */
export interface Heard {
  readonly channel: string;
  readonly payload: unknown;
  readonly raw: string;
}

/** Notifications under test, and what became of them. */
export interface Listening {
  readonly notifications: Notifications;
  readonly applicationName: string;
  readonly heard: Heard[];
  readonly caughtUp: string[];
  readonly logger: RecordingLogger;
  /** Waits until listening has been proven so many times. */
  readonly proven: (times: number) => Promise<unknown>;
  /** How many sessions the server has for it. */
  readonly sessions: () => Promise<number>;
}

/** What the tests of notifications share. */
export interface ListeningBench {
  readonly database: () => TestDatabase;
  /** Sends the probes; a new one for each test. */
  readonly notifier: () => Database;
  readonly makePool: (url: string) => Database;
  /** Makes notifications that are stopped after the test. */
  readonly makeListening: (options?: Partial<NotificationsOptions>) => Listening;
  readonly notify: (payload: string) => Promise<void>;
  /** Ends the sessions of an application. */
  readonly terminate: (applicationName: string) => Promise<void>;
}

/** Makes a database and the rest for the tests of the `describe` that calls it. */
export function useListening(): ListeningBench {
  const database = useDatabase();
  const running: Notifications[] = [];
  let notifier: Database;
  let listeners = 0;

  beforeEach(() => {
    notifier = makePool(database().url);
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((notifications) => notifications.stop()));
    await notifier.close();
  });

  function makePool(url: string): Database {
    return createPool({ url, applicationName: 'notifier', logger: silentLogger });
  }

  function makeListening(options: Partial<NotificationsOptions> = {}): Listening {
    listeners += 1;
    const applicationName = `listener ${listeners}`;
    const heard: Heard[] = [];
    const caughtUp: string[] = [];
    const logger = createRecordingLogger();
    const notifications = createNotifications({
      listenUrl: database().url,
      notifier,
      channels: [CHANNEL],
      logger,
      applicationName,
      backoff: createBackoff({ firstMilliseconds: 10, capMilliseconds: 50 }),
      onNotification: (channel, payload, raw) => heard.push({ channel, payload, raw }),
      onCaughtUp: (reason) => caughtUp.push(reason),
      ...options,
    });
    running.push(notifications);
    return {
      notifications,
      applicationName,
      heard,
      caughtUp,
      logger,
      proven: (times) =>
        until(`listening was proven ${times} times`, () => caughtUp.length >= times, {
          seen: () => notifications.state(),
        }),
      sessions: async () => {
        const { count } = await database().one<{ count: number }>(
          `select count(*)::int as count from pg_stat_activity
            where application_name = $1 and datname = current_database()`,
          [applicationName],
        );
        return count;
      },
    };
  }

  async function notify(payload: string): Promise<void> {
    await database().query('select pg_notify($1, $2)', [CHANNEL, payload]);
  }

  async function terminate(applicationName: string): Promise<void> {
    await database().query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = $1 and datname = current_database()`,
      [applicationName],
    );
  }

  return { database, notifier: () => notifier, makePool, makeListening, notify, terminate };
}
