import { chownSync, mkdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type MemoryS3, type MemoryS3Request, startMemoryS3 } from '../stack/memory-s3.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../stack/private-postgres.ts';
import { runsTableSql } from '../stack/runs-table.ts';
import { postgresUser } from '../stack/scratch-folder.ts';
import { type RunningCli, type Variables, startCli } from '../support/cli.ts';
import { memoryS3Variables } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { IMPATIENT } from '../support/faulty-network.ts';
import { migrateUp } from '../support/migrated.ts';
import { type SmallDisk, canHaveSmallDisk, makeSmallDisk } from '../support/small-disk.ts';
import { until } from '../support/until.ts';

const BATCH = 100;
const RESULTS = 6_000;
const LATER = 500;
const DISK_MEGABYTES = 64;
/** A new cluster, its first segments of the log, and room for the table. */
const CLUSTER_MEGABYTES = 160;

describe.skipIf(!canHaveSmallDisk())('on a disk that is really full', () => {
  describeDatabase('a bad day of Postgres', () => {
    let disk: SmallDisk | undefined;
    let server: PrivatePostgres | undefined;
    let s3: MemoryS3;
    const requests: MemoryS3Request[] = [];

    beforeEach(async () => {
      requests.length = 0;
      s3 = await startMemoryS3({ onRequest: (request) => requests.push(request) });
      s3.createBucket('dpp-results');
    });
    afterEach(async () => {
      disk?.free();
      await server?.stop();
      server = undefined;
      disk?.remove();
      disk = undefined;
      await s3?.stop();
    });

    const theServer = (): PrivatePostgres => {
      if (server === undefined) throw new Error('The server is only there inside tests.');
      return server;
    };
    const sql = (text: string): Promise<string> => theServer().sql(text, 'app');
    const number = async (text: string): Promise<number> => Number(await sql(text));
    /** The keys that S3 was asked to delete. */
    const asked = (): string[] =>
      requests.flatMap(({ operation, keys }) => (operation === 'DeleteObjects' ? keys : []));

    /** A server of which only the database lies on the small disk: its log has room. */
    async function startOnSmallTablespace(): Promise<SmallDisk> {
      disk = makeSmallDisk(DISK_MEGABYTES);
      const folder = `${disk.folder}/tablespace`;
      mkdirSync(folder, { mode: 0o700 });
      const user = postgresUser();
      if (user !== undefined) chownSync(folder, user.uid, user.gid);
      server = await startPrivatePostgres({ settings: { autovacuum: 'off' } });
      await server.sql(`create tablespace small location '${folder}'`);
      await server.sql('create database app tablespace small');
      await adopt();
      return disk;
    }

    async function adopt(): Promise<void> {
      await sql(runsTableSql);
      await migrateUp(theServer().url('app'));
      await sql(
        `update retention.setting set batch_size = ${BATCH}, pause_base = '300 ms', pause_cap = '1 s'`,
      );
    }

    const listen = (more: Variables = {}): RunningCli =>
      startCli(['listen'], {
        env: {
          DATABASE_URL: theServer().url('app'),
          DPP_JSON_LOGS: 'false',
          ...memoryS3Variables(s3),
          ...IMPATIENT,
          // Longer than the disk is full: what S3 has done is not asked of it again.
          RETENTION_LEASE_SECONDS: '120',
          DPP_RETENTION_CONCURRENCY: '2',
          DPP_RETENTION_MAX_DELETES_PER_SECOND: '1000',
          ...more,
        },
      });

    /** Runs that are due, with their objects. */
    async function insertDue(count: number): Promise<void> {
      const printed = await sql(`
        insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
        select id, 'acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'results/' || id
        from (select gen_random_uuid() as id from generate_series(1, ${count})) made
        returning result_s3_key`);
      for (const key of printed.split('\n')) s3.putObject('dpp-results', key);
    }

    /** How many are stamped, after checking that no stamp stands for an object that is there. */
    async function countCleared(): Promise<number> {
      const printed = await sql(
        'select result_s3_key from runs where result_cleared_at is not null',
      );
      const keys = printed === '' ? [] : printed.split('\n');
      expect(keys.filter((key) => s3.hasObject('dpp-results', key))).toEqual([]);
      return keys.length;
    }

    const cleared = (count: number, listener: RunningCli) =>
      until(`${count} are cleared`, async () => (await countCleared()) >= count, {
        limitMs: 60_000,
        pollMs: 200,
        seen: () => [listener.stderr, theServer().logTail(10)],
      });

    /** Everything there was to do is done, and the rows say so. */
    async function expectAllDone(count: number, listener: RunningCli): Promise<void> {
      await cleared(count, listener);
      expect(s3.countObjects('dpp-results')).toBe(0);
      expect(await number('select count(*) from runs')).toBe(count);
      expect(await number('select count(*) from retention.flagged')).toBe(0);
      expect(await number('select count(*) from retention.batch where settled_at is null')).toBe(0);
      expect(await number('select sum(cleared) from retention.batch')).toBe(count);
      expect(new Set(asked()).size).toBe(count);
      listener.kill();
      expect((await listener.ended()).code).toBe(0);
    }

    test('under its tables: what S3 has done is stamped when there is room again, and flagging goes on', async () => {
      const small = await startOnSmallTablespace();
      await insertDue(RESULTS);
      await sql('select retention.flag_expired()');
      await using listener = listen();
      await cleared(BATCH * 5, listener);
      small.fill();
      await listener.waitForLine(
        /(?:Settling is tried again|its stamp failed for).* could not extend file .*No space left on device/u,
      );
      // The application feels it too, and so does flagging.
      await expect(insertDue(LATER)).rejects.toThrow('No space left on device');
      const before = await countCleared();
      expect(before).toBeLessThan(RESULTS);
      const open = await number('select count(*) from retention.flagged');
      expect(before + open).toBe(RESULTS);
      small.free();
      await insertDue(LATER);
      await sql('select retention.flag_expired()');
      await expectAllDone(RESULTS + LATER, listener);
      expect(asked()).toHaveLength(RESULTS + LATER);
    }, 180_000);

    test('flagging writes nothing by halves', async () => {
      const small = await startOnSmallTablespace();
      await insertDue(RESULTS);
      small.fill();
      await expect(sql('select retention.flag_expired()')).rejects.toThrow(
        'No space left on device',
      );
      expect(await sql('select count(*), coalesce(sum(results), 0) from retention.batch')).toBe(
        '0|0',
      );
      expect(await number('select count(*) from retention.flagged')).toBe(0);
      small.free();
      expect(await number('select retention.flag_expired()')).toBe(RESULTS);
      await using listener = listen();
      await expectAllDone(RESULTS, listener);
    }, 180_000);

    test('under the whole cluster, its log included: the server goes down, and loses nothing', async () => {
      const small = makeSmallDisk(CLUSTER_MEGABYTES);
      disk = small;
      server = await startPrivatePostgres({
        folder: `${small.folder}/pg`,
        settings: {
          autovacuum: 'off',
          max_wal_size: '32MB',
          min_wal_size: '32MB',
          shared_buffers: '16MB',
        },
      });
      await server.sql('create database app');
      await adopt();
      await insertDue(RESULTS);
      await sql('select retention.flag_expired()');
      // A claim whose answer was lost is taken up again when its lease is over.
      await using listener = listen({ RETENTION_LEASE_SECONDS: '20' });
      await cleared(BATCH * 5, listener);
      small.fill();
      // Each of these needs a segment of the log that there is no room for.
      await until(
        'the server is down',
        async () => {
          await sql('select pg_switch_wal(); update runs set updated_at = now()').catch(
            () => undefined,
          );
          return theServer().logTail(200).includes('PANIC');
        },
        { limitMs: 60_000, seen: () => theServer().logTail(20) },
      );
      await listener.waitForLine(
        /(?:Settling is tried again|The retention cycle failed): |its stamp failed/u,
      );
      small.free();
      await until(
        'it is up again',
        () =>
          theServer()
            .up()
            .then(() => sql('select 1')),
        {
          limitMs: 60_000,
          seen: () => theServer().logTail(20),
        },
      );
      await insertDue(LATER);
      await sql('select retention.flag_expired()');
      await expectAllDone(RESULTS + LATER, listener);
    }, 180_000);
  });
});
