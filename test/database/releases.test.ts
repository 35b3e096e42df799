import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createPool } from '../../src/database/pool.ts';
import { silentLogger } from '../../src/logger.ts';
import { verifySeals } from '../../src/proof/verify-seals.ts';
import { createStore } from '../../src/store/store.ts';
import { createDatabase, describeDatabase } from '../support/database.ts';
import { type MigratedDatabase, withHelpers } from '../support/migrated.ts';
import { migrate } from '../support/migrating.ts';
import { ROOT } from '../support/project-files.ts';
import { psql } from '../support/psql.ts';
import {
  RELEASES,
  type MigrationDigests,
  digestsOfMigrations,
  dumpDatabase,
  leaveWork,
} from '../support/releases.ts';
import { settleAll } from '../support/proof.ts';

const DIGESTS = join(RELEASES, 'digests.json');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string;
};
const cut = process.env['CUT_RELEASE'];
const digests = JSON.parse(readFileSync(DIGESTS, 'utf8')) as MigrationDigests;
const dumps = readdirSync(RELEASES).filter((name) => name.endsWith('.sql'));

test('a migration that has been released never changes', () => {
  const today = digestsOfMigrations();
  if (cut === version) {
    writeFileSync(DIGESTS, `${JSON.stringify({ ...digests, [version]: today }, null, 2)}\n`);
  }
  for (const [release, released] of Object.entries(digests)) {
    expect([release, today]).toEqual([release, expect.objectContaining(released)]);
  }
});

test('a release has its dump and its digests', () => {
  expect(dumps.map((name) => name.replace(/\.sql$/u, '')).toSorted()).toEqual(
    Object.keys(digests).toSorted(),
  );
});

/** Opens a database of its own for as long as `work` takes. */
async function withOpened(work: (database: MigratedDatabase) => Promise<void>): Promise<void> {
  const database = await createDatabase();
  const pool = createPool({ url: database.url, applicationName: 'test', logger: silentLogger });
  try {
    await work(withHelpers(database, createStore(pool)));
  } finally {
    await pool.close();
    await database.drop();
  }
}

async function dumpOfToday(): Promise<string> {
  let dump = '';
  await withOpened(async (database) => {
    await migrate(database, 'up');
    await database.query('update retention.setting set surge_guard = null');
    await leaveWork(database);
    dump = await dumpDatabase(database.url);
  });
  return dump;
}

const KEPT = {
  policies: `select tenant_id, retain::text from retention.policy where tenant_id <> '*'`,
  holds: 'select hold_id, reason, tenant_id, run_id, placed_by from retention.hold order by 1',
  receipts: `select batch_id, bucket, cleared from retention.batch where settled_at is not null and seal_id is not null`,
  stamps:
    'select run_id, result_cleared_at from runs where result_cleared_at is not null order by 1',
  flagged: 'select flagged, dead from retention.status',
};

const LEFT = `select tenant_id as tenant, count(*)::int as left
  from runs where result_cleared_at is null group by 1 order by 1`;

// The dump of a release is made with CUT_RELEASE=VERSION; before the first one it is made here.
describeDatabase('what a release left behind', () => {
  test.each(dumps.length > 0 ? dumps : ['today'])(
    '%s: migrated up, it keeps policies, holds, work and receipts, and is worked off',
    async (name) => {
      let dump = name === 'today' ? await dumpOfToday() : '';
      if (cut === version) {
        dump = await dumpOfToday();
        writeFileSync(join(RELEASES, `${version}.sql`), dump);
      } else if (dump === '') dump = readFileSync(join(RELEASES, name), 'utf8');
      await withOpened(async (database) => {
        const { query, one } = database;
        await query('drop table runs');
        await psql(database.url, dump);
        const states = async (): Promise<Record<string, unknown>> =>
          Object.fromEntries(
            await Promise.all(
              Object.entries(KEPT).map(async ([what, sql]) => [what, await query(sql)] as const),
            ),
          );
        const before = await states();
        await migrate(database, 'up');
        expect(await states()).toEqual(before);
        expect(before['flagged']).toEqual([{ flagged: '10', dead: '2' }]);

        // It was dumped from another database, so it may be a copy of one that still works.
        expect(await query('select reason from retention.gate()')).toEqual([{ reason: 'copy' }]);
        await query(`select retention.accept_fence('the upgrade')`);
        expect(await query('select reason from retention.gate()')).toEqual([]);

        await database.expireLeases();
        await query('select retention.retry(p_all => true)');
        await database.passRetryTimes();
        await settleAll(database);
        expect(await query(LEFT)).toEqual([
          { tenant: 'held', left: 2 },
          { tenant: 'held run', left: 1 },
          { tenant: 'keeper', left: 3 },
          { tenant: 'late', left: 5 },
        ]);
        const { surge_id: surge } = await one<{ surge_id: number }>(
          `select surge_id from retention.list_surges() where results = 5`,
        );
        await query('select retention.release_surge($1, 5)', [surge]);
        await query('delete from retention.hold');
        await settleAll(database);
        expect(await query(LEFT)).toEqual([{ tenant: 'keeper', left: 3 }]);
        expect(await verifySeals({ store: database.store })).toMatchObject({
          holds: true,
          problems: [],
          results: 27,
        });
      });
    },
  );
});
