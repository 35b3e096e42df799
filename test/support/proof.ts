import type pg from 'pg';
import type { Queryable } from '../../src/database/queryable.ts';
import { type SealVerification, verifySeals } from '../../src/proof/verify-seals.ts';
import type { KeptHead } from '../../src/proof/heads.ts';
import { createStore } from '../../src/store/store.ts';
import type { MigratedDatabase } from './migrated.ts';

/** Flags what is due, and settles all of it. */
export async function settleAll(database: MigratedDatabase): Promise<number[]> {
  const { query, store } = database;
  await query('select retention.flag_expired()');
  const batchIds: number[] = [];
  for (;;) {
    const lease = crypto.randomUUID();
    const claim = await store.claim({ lease, leaseSeconds: 300, by: 'a test' });
    if (claim === undefined) return batchIds;
    await store.settle(claim.batchId, lease, { cleared: 'all', failed: [], milliseconds: 1 });
    batchIds.push(claim.batchId);
  }
}

/** Deletes and seals so many runs of a tenant, two to a receipt. */
export async function sealRuns(
  database: MigratedDatabase,
  count: number,
  tenant = 'acme',
): Promise<{ readonly seal: number; readonly batchIds: readonly number[] }> {
  await database.query('update retention.setting set batch_size = 2 where batch_size <> 2');
  await database.insertRuns({ count, tenant });
  const batchIds = await settleAll(database);
  const { sealId } = await database.store.sealNow();
  return { seal: sealId, batchIds };
}

/** What verify finds after what a superuser does with all triggers off. It is undone afterwards. */
export async function afterTampering(
  database: MigratedDatabase,
  tampering: string,
  heads: readonly KeptHead[] = [],
): Promise<SealVerification> {
  const client = await database.connect();
  try {
    await client.query('begin; set local session_replication_role = replica');
    await client.query(tampering);
    await client.query('set local session_replication_role = origin');
    return await verifySeals({ store: createStore(queryableOf(client)), heads });
  } finally {
    await client.query('rollback');
    await client.end();
  }
}

/** A session as the store takes it. */
export function queryableOf(client: pg.Client): Queryable {
  client.setTypeParser(20, Number);
  return {
    query: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      const { rows } = await client.query(text, values === undefined ? [] : [...values]);
      return rows as Row[];
    },
  };
}
