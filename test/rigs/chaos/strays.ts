import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { serverEnvironment } from '../../stack/postgres-process.ts';
import { runCli, startCli, type Variables } from '../../support/cli.ts';
import { sqlAt } from '../../support/copies.ts';
import { startHttpProxy } from '../../support/http-proxy.ts';
import type { Ground } from './campaign.ts';
import type { Violation } from './checker.ts';
import { createDeletionRecord } from './deletion-record.ts';
import type { Draws } from './draws.ts';
import { objectName } from './history.ts';

/*
Processes that work in a wrong place: for a copy of the database, or with another platform's bucket. None of them
deletes anything, which is seen on a way to S3 of their own.
*/

const run = promisify(execFile);
const OTHER_BUCKET = 'results-of-another-platform';
const PROMISE = '13: a slip is not a deletion';
const AT_WORK_MS = { min: 2_000, max: 5_000 };

/** Strays, one after the other. */
export interface Strays {
  /** How often which was started. */
  readonly done: ReadonlyMap<string, number>;
  readonly work: () => Promise<void>;
  readonly stop: () => void;
  /** What they asked S3 to delete. */
  readonly judge: () => Violation[];
  readonly close: () => Promise<void>;
}

/** Draws them until told to stop. */
export async function startStrays({ postgres, s3, env }: Ground, draws: Draws): Promise<Strays> {
  const record = createDeletionRecord();
  const proxy = await startHttpProxy(s3.endpoint, record.note);
  const done = new Map<string, number>();
  const failures: Violation[] = [];
  let copies = 0;
  const stopping = new AbortController();
  const { signal } = stopping;
  const own: Variables = {
    ...env,
    DATABASE_URL: postgres.url(),
    S3_ENDPOINT_URL: proxy.endpoint,
    RETENTION_HTTP_PORT: '0',
  };
  const elsewhere: Variables = { ...own, S3_RESULT_BUCKET: OTHER_BUCKET };
  const atWork = (): Promise<void> =>
    pause(draws.integer(AT_WORK_MS.min, AT_WORK_MS.max), undefined, { signal }).catch(
      () => undefined,
    );

  const listen = async (variables: Variables): Promise<void> => {
    await using listener = startCli(['listen'], { env: variables });
    await atWork();
    listener.kill();
    await listener.ended();
  };
  const command = async (...words: readonly string[]): Promise<void> => {
    await runCli(words, { env: elsewhere });
  };
  const copy = async (): Promise<void> => {
    copies += 1;
    const name = `copy_${copies}`;
    await postgres.sql(`create database ${name} template template0`, 'postgres');
    try {
      await restoreInto(name);
      await workOn(postgres.url(name));
    } finally {
      await postgres
        .sql(`drop database if exists ${name} with (force)`, 'postgres')
        .catch(() => undefined);
    }
  };

  async function restoreInto(name: string): Promise<void> {
    // Not pg_cron, which lives in one database of a server alone.
    const schemas = ['public', 'retention', 'history'].map((schema) => `--schema=${schema}`);
    const dump = [...schemas, '--exclude-table-data=history.*', postgres.url()];
    const { stdout } = await run(join(postgres.binFolder, 'pg_dump'), dump, {
      env: serverEnvironment(),
      maxBuffer: 1 << 29,
    });
    const restoring = run(postgres.psqlPath, ['-X', '-q', '-d', postgres.url(name)], {
      env: serverEnvironment(),
      maxBuffer: 1 << 26,
    });
    // psql may end before it has read all.
    restoring.child.stdin?.on('error', () => undefined);
    restoring.child.stdin?.end(stdout);
    await restoring;
  }

  /** Whoever restored it lets it work: a listener, a tick of its own, a reconcile. */
  async function workOn(url: string): Promise<void> {
    const variables = { ...own, DATABASE_URL: url };
    await using listener = startCli(['listen'], { env: variables });
    await sqlAt(
      url,
      `update retention.heartbeat set passed_at = null;
      update retention.batch set visible_at = now() where settled_at is null and dead_at is null and lease is null;
      select retention.tick('internal')`,
    );
    const { code, stdout, stderr } = await runCli(['reconcile', '--json'], { env: variables });
    if (code === 0) {
      failures.push({
        promise: PROMISE,
        what: `a reconcile of a copy ended with 0: ${stdout}${stderr}`,
      });
    }
    await atWork();
    listener.kill();
    await listener.ended();
  }

  return {
    done,
    stop: () => stopping.abort(),
    work: async () => {
      while (!signal.aborted) {
        const [kind, go] = draws.weighted<readonly [string, () => Promise<void>]>([
          [3, ['a copy of the database', copy]],
          [2, ['a listener with a wrong bucket', () => listen(elsewhere)]],
          [2, ['a reconcile with a wrong bucket', () => command('reconcile', '--json')]],
          [1, ['a verify with a wrong bucket', () => command('reconcile', '--verify', '--json')]],
          [1, ['orphans with a wrong bucket', () => command('reconcile', '--orphans', '--json')]],
        ]);
        // The server may be down by another's fault, and the table renamed or away.
        const ended = await go().then(
          () => kind,
          () => `${kind}, in vain`,
        );
        done.set(ended, (done.get(ended) ?? 0) + 1);
        await pause(draws.integer(1_000, 3_000), undefined, { signal }).catch(() => undefined);
      }
    },
    judge: () => [
      ...failures,
      ...record.deletions.slice(0, 10).map(({ bucket, key }) => ({
        promise: PROMISE,
        what: `${objectName(bucket, key)} was asked for from a wrong place`,
      })),
    ],
    close: () => proxy.close(),
  };
}
