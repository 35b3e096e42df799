import { rmSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { runsTableSql } from '../stack/runs-table.ts';
import { type MemoryS3, startMemoryS3 } from '../stack/memory-s3.ts';
import type { PrivatePostgres } from '../stack/private-postgres.ts';
import { makeScratchFolder, postgresUser } from '../stack/scratch-folder.ts';
import {
  backUp,
  bringUp,
  expectToldAsCopy,
  sqlAt,
  type WatchedCopy,
  watchCopy,
} from '../support/copies.ts';
import { describeDatabase, startOwnPostgres } from '../support/database.ts';
import { migrateUp } from '../support/migrated.ts';
import { startPostgresFront } from '../support/postgres-front.ts';
import { until } from '../support/until.ts';

const OTHER_TIMELINE = /the server is on timeline \d+, and timeline \d+ was accepted/u;
const OTHER_FENCE = /another database renewed the fence in bucket dpp-results/u;
const WITH_FENCE = { RETENTION_FENCE: 's3' };

describeDatabase('promise 13: a copy of the whole server', () => {
  let server: PrivatePostgres;
  let s3: MemoryS3;
  let archive = '';

  beforeAll(async () => {
    archive = makeScratchFolder(postgresUser());
    server = await startOwnPostgres({
      cron: false,
      settings: {
        archive_mode: 'on',
        archive_command: `cp %p ${archive}/%f`,
        full_page_writes: 'on',
      },
    });
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(archive, { recursive: true, force: true });
  });
  beforeEach(async () => {
    await server.sql('drop database if exists app with (force)', 'postgres');
    await server.sql('create database app', 'postgres');
    await server.sql(runsTableSql, 'app');
    await migrateUp(server.url('app'));
    s3 = await startMemoryS3();
    onTestFinished(() => s3.stop());
    s3.createBucket('dpp-results');
  });

  /** Adds results that are due. */
  async function addDue({ sql }: Pick<WatchedCopy, 'sql'>, count = 10): Promise<void> {
    const rows = await sql(`
      insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select 'acme', 'COMPLETED', now() - interval '31 days', 'dpp-results', 'results/' || gen_random_uuid()
      from generate_series(1, ${count})
      returning result_s3_key as key`);
    for (const { key } of rows) s3.putObject('dpp-results', String(key));
  }

  const original = (more = {}): Promise<WatchedCopy> => watchCopy(server.url('app'), s3, more);

  async function expectToGoOn(database: WatchedCopy, count: number): Promise<void> {
    const { stdout, stderr } = await database.run('reconcile', '--json');
    expect(JSON.parse(stdout), stderr).toMatchObject({ cleared: count });
  }

  async function archived(): Promise<void> {
    const file = await server.sql('select pg_walfile_name(pg_switch_wal())', 'app');
    await until(
      `${file} is archived`,
      async () =>
        (await server.sql(`select last_archived_wal >= '${file}' from pg_stat_archiver`, 'app')) ===
        't',
      { limitMs: 30_000, pollMs: 50 },
    );
  }

  /** Recovers a backup to a named moment. */
  async function recover(folder: string, moment: string) {
    const copy = await bringUp(server, folder, {
      mode: 'recovery',
      settings: {
        restore_command: `cp ${archive}/%f %p`,
        recovery_target_name: moment,
        recovery_target_action: 'promote',
      },
    });
    const { url } = copy;
    await until('it is recovered', async () => {
      const copied = await sqlAt(url('app'), 'select pg_is_in_recovery() as is');
      return copied[0]?.['is'] === false;
    });
    return copy;
  }

  test('the files of the running server, with the fence: the copy claims nothing and is told, the original goes on', async () => {
    const first = await original(WITH_FENCE);
    const listener = first.listen();
    await listener.waitForLine('Listening for notifications', 20_000);
    await until('the fence is there', () => s3.countObjects('dpp-results') === 1);
    await addDue(first);
    const folder = await backUp(server);
    const { url } = await bringUp(server, folder, { mode: 'as it is' });
    const copy = await watchCopy(url('app'), s3, WITH_FENCE);
    const early = copy.listen();
    // Nothing tells them apart before the original has renewed: so it watches.
    await early.waitForLine('it is watched whether another database renews the fence', 20_000);
    listener.kill();
    await listener.ended();
    await first.listen().waitForLine('Listening for notifications', 20_000);
    await early.waitForLine(OTHER_FENCE, 60_000);
    early.kill();
    await early.ended();
    await expectToldAsCopy(copy, OTHER_FENCE);
    const shown = await copy.run('fence', 'show');
    expect(shown.stdout).toMatch(OTHER_FENCE);
    expect(shown.stdout).toMatch(
      /in S3 {5}\.retention\/fence-[\w-]+ in bucket dpp-results, renewed at/u,
    );
    expect(await first.sql('select * from retention.gate()')).toEqual([]);
    // Its listener may have been at it already.
    await first.run('reconcile');
    expect(s3.countObjects('dpp-results')).toBe(1);
    const [stamped] = await first.sql('select count(result_cleared_at)::int as runs from runs');
    expect(stamped).toEqual({ runs: 10 });

    // Accepted, it takes the fence, and the original halts.
    expect(await copy.run('fence', 'accept', '--yes')).toMatchObject({ code: 0 });
    await first.listen().waitForLine(OTHER_FENCE, 60_000);
    expect(await first.sql('select reason from retention.gate()')).toEqual([{ reason: 'copy' }]);
  }, 240_000);

  test('the files of the running server, without the fence: not told, as docs/promises.md says', async () => {
    const { url } = await bringUp(server, await backUp(server), { mode: 'as it is' });
    expect(await sqlAt(url('app'), 'select * from retention.gate()')).toEqual([]);
    const { stdout } = await (await watchCopy(url('app'), s3)).run('doctor', '--json');
    expect(stdout).toContain('a snapshot of the disk is not told from this database');
  });

  test('a recovery to a point in time before a hold, without the fence: told, and it says that nothing else is known', async () => {
    const first = await original();
    await addDue(first);
    const folder = await backUp(server);
    await first.sql(`select pg_create_restore_point('before the hold')`);
    await first.sql(`select retention.place_hold(p_tenant_id => 'acme', p_reason => 'litigation')`);
    const head = (await first.run('proof', 'head')).stdout.trim();
    await archived();
    const { url } = await recover(folder, 'before the hold');
    const copy = await watchCopy(url('app'), s3);
    // Promise 14: a head from after that moment says what this database does not know.
    const judged = await copy.run('proof', 'verify', '--head', head);
    expect(judged.code, judged.stderr).toBe(1);
    expect(judged.stdout + judged.stderr).toMatch(
      /this database does not know the seals from \d+ on: it ends before/u,
    );
    expect(await copy.sql('select * from retention.hold')).toEqual([]);
    await expectToldAsCopy(copy, OTHER_TIMELINE);
    const { stdout } = await copy.run('fence', 'show');
    expect(stdout).toContain('nothing outside this database says what it knew');
    await first.sql('select retention.release_hold(max(hold_id)) from retention.hold');
    expect(await first.sql('select * from retention.gate()')).toEqual([]);
  }, 240_000);

  test('a recovery to a point in time before a hold, with the fence: told, and accepting names the hold', async () => {
    const first = await original(WITH_FENCE);
    await expectToGoOn(first, 0);
    await addDue(first);
    const folder = await backUp(server);
    await first.sql(`select pg_create_restore_point('before the hold')`);
    await first.sql(`select retention.place_hold(p_tenant_id => 'acme', p_reason => 'litigation')`);
    await expectToGoOn(first, 0);
    await archived();
    const { url } = await recover(folder, 'before the hold');
    const copy = await watchCopy(url('app'), s3, WITH_FENCE);
    await expectToldAsCopy(copy, new RegExp(`${OTHER_TIMELINE.source}|${OTHER_FENCE.source}`, 'u'));
    const unsure = await copy.run('fence', 'accept');
    expect(unsure.code).toBe(3);
    expect(unsure.stdout).toMatch(
      /lacks, at least:\n.*hold \d+ on tenant acme, placed by postgres/u,
    );
    expect(await copy.sql('select reason from retention.gate()')).toEqual([{ reason: 'copy' }]);
    expect(await first.sql('select * from retention.gate()')).toEqual([]);
    expect(s3.countObjects('dpp-results')).toBe(11);
  }, 240_000);

  test('a standby that is promoted, without the fence: one sentence, and one command goes on', async () => {
    const first = await original();
    await addDue(first);
    const standby = await bringUp(server, await backUp(server), { mode: 'standby' });
    const promoted = await watchCopy(standby.url('app'), s3);
    expect(await promoted.sql(`select reason from retention.gate() where reason = 'copy'`)).toEqual(
      [],
    );
    await promoted.sql('select pg_promote(true, 60)');
    // At once, and not at the next checkpoint.
    const [reason] = await promoted.sql('select because, remedy from retention.gate()');
    expect(reason?.['because']).toMatch(OTHER_TIMELINE);
    await expectToldAsCopy(promoted, OTHER_TIMELINE);
    expect(await promoted.run('fence', 'accept', '--yes')).toMatchObject({ code: 0 });
    await expectToGoOn(promoted, 10);
  }, 240_000);

  test('a failover to a standby with the fence stops nothing and asks nobody', async () => {
    const primary = await bringUp(server, await backUp(server), { mode: 'as it is' });
    await using front = await startPostgresFront(primary.port);
    const through = await watchCopy(front.through(primary.url('app')), s3, WITH_FENCE);
    const listener = through.listen();
    await listener.waitForLine('Listening for notifications', 20_000);
    await until('the fence is there', () => s3.countObjects('dpp-results') === 1);
    const primaryServer = { ...server, port: primary.port };
    const standby = await bringUp(primaryServer, await backUp(primaryServer), { mode: 'standby' });
    await until('it has followed', async () => {
      const [row] = await sqlAt(
        primary.url('app'),
        'select count(*)::int as n from pg_stat_replication where replay_lsn = pg_current_wal_lsn()',
      );
      return row?.['n'] === 1;
    });
    await primary.stop();
    await sqlAt(standby.url('app'), 'select pg_promote(true, 60)');
    front.target = standby.port;
    const promoted = await watchCopy(standby.url('app'), s3, WITH_FENCE);
    await addDue(promoted);
    await listener.waitForLine(
      'on another timeline, and the fence in S3 was as this database left it: accepted',
      60_000,
    );
    await promoted.sql(
      `update retention.heartbeat set passed_at = now() - interval '2 days', ticked_at = now() - interval '5 minutes'; select pg_notify('retention_expired', '{}')`,
    );
    await until('all went', () => s3.countObjects('dpp-results') === 1, {
      limitMs: 60_000,
      seen: () => listener.stderr,
    });
    expect(await promoted.sql('select * from retention.gate()')).toEqual([]);
    const [row] = await promoted.sql('select accepted_reason from retention.fence()');
    expect(row?.['accepted_reason']).toContain('the fence in S3 was as this database had left it');
  }, 240_000);
});
