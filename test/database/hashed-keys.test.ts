import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { makeCertificate } from '../../src/proof/certificate.ts';
import { exportSeals } from '../../src/proof/export-seals.ts';
import { verifySeals } from '../../src/proof/verify-seals.ts';
import { createStore } from '../../src/store/store.ts';
import { describeDatabase } from '../support/database.ts';
import { keyOf, useMigrated } from '../support/migrated.ts';
import { afterTampering, queryableOf, settleAll } from '../support/proof.ts';

const sha256 = (...parts: (string | Buffer)[]): string =>
  createHash('sha256')
    .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
    .digest('hex');

describeDatabase('promise 14: receipts whose keys are hashed', () => {
  const database = useMigrated();

  /** Every text that the receipts hold. */
  const kept = async (): Promise<string> =>
    JSON.stringify(
      await database().query(
        `select to_jsonb(b) as it from retention.batch b
        union all select to_jsonb(r) from retention.receipt r`,
      ),
    );

  /** What is kept of each key, as it is shown, with the salt of its leaf. */
  const digests = () =>
    database().query<{ run_id: string; key: string; salt: Buffer }>(
      `select u.run_id::text as run_id, retention._unpack_key(u.key, '') as key,
        retention._leaf_salt(r.salt, u.n) as salt
      from retention._receipt r
      cross join unnest(r.run_ids, r.keys) with ordinality as u (run_id, key, n)
      where starts_with(u.key, E'\\x03')
      order by r.source, r.id, u.n`,
    );

  const deleteAndSeal = async (): Promise<void> => {
    await settleAll(database());
    await database().store.sealNow();
  };

  const accounts = async (): Promise<Record<string, number>> =>
    Object.fromEntries(
      (await database().store.accountStamps()).flatMap(({ kind, results }) =>
        results > 0 ? [[kind, results]] : [],
      ),
    );

  test('from its seal on a receipt holds no key: likely keys find nothing without the salt, and the row’s own key still matches', async () => {
    const { query, store, insertRuns } = database();
    const [plain = ''] = await insertRuns({ count: 1 });
    await deleteAndSeal();
    expect(await store.configure({ receiptKeys: 'hashed' })).toEqual([
      'receipt_keys: plain -> hashed',
    ]);
    expect(await store.configure({ receiptKeys: 'hashed' })).toEqual([]);
    const runs = await insertRuns({ count: 6 });
    await settleAll(database());
    expect(await kept()).toContain('results/');
    await store.sealNow();
    // The one that was sealed before stays as it was sealed.
    expect((await kept()).match(/results\//gu)).toHaveLength(1);
    const found = await digests();
    expect(found.map(({ run_id: runId }) => runId)).toEqual(runs);
    const unsalted = new Set(runs.map((run) => `sha256:${sha256(keyOf(run))}`));
    expect(found.filter(({ key }) => unsalted.has(key))).toEqual([]);
    expect(new Set(found.map(({ key }) => key)).size).toBe(6);
    for (const { run_id: run, key, salt } of found) {
      expect(key).toBe(`sha256:${sha256(salt, keyOf(run))}`);
    }
    expect(await verifySeals({ store })).toMatchObject({ holds: true, results: 7 });
    // The row says which key it was, as long as it names it.
    const words = async (runId: string): Promise<string> =>
      (await store.readHistory({ runId })).map(({ what }) => what).at(-1) ?? '';
    const [own = '', gone = '', moved = ''] = runs;
    await query('delete from runs where run_id = $1', [gone]);
    await query(`update runs set result_s3_key = 'results/later' where run_id = $1`, [moved]);
    expect(await words(plain)).toContain(`object results/${plain} in`);
    expect(await words(own)).toContain(`object results/${own} in`);
    const unknown = /object sha256:[0-9a-f]{64} \(the digest of its key, which is not kept\) in/u;
    expect(await words(gone)).toMatch(unknown);
    expect(await words(moved)).toMatch(unknown);
    expect(await accounts()).toEqual({
      accounted: 5,
      another_result: 1,
      no_receipt: 1,
      no_row: 1,
    });
    const [then] = await store.explainAt([own], new Date());
    expect(then).toMatchObject({ state: 'cleared', key: keyOf(own) });
    const changes = await store.readHistory({ setting: 'receipt_keys' });
    expect(changes.at(-1)?.what).toContain('receipt_keys');
  });

  test('what was restored is deleted again and told from it; an invented receipt, and a changed digest, are named', async () => {
    const { query, store, insertRuns } = database();
    await store.configure({ receiptKeys: 'hashed' });
    const runs = await insertRuns({ count: 3 });
    await deleteAndSeal();
    const [again = ''] = runs;
    await store.unstamp(again, { restored: true });
    await deleteAndSeal();
    expect(await kept()).not.toMatch(/results\//u);
    expect(await verifySeals({ store })).toMatchObject({ holds: true, deleted_again: 1 });
    expect(await accounts()).toEqual({ accounted: 3 });
    const tampered = await afterTampering(
      database(),
      `update retention.batch set key_digests = sha256('x') || substr(key_digests, 33) where seal_id = 1`,
    );
    expect(tampered.problems).toMatchObject([{ kind: 'changed', seal: 1 }]);
    // Sealed with the next: it says that it was flagged before the other was settled.
    const invented = await afterTampering(
      database(),
      `create temporary table copied on commit drop as select * from retention.batch where seal_id = 1;
      update copied set batch_id = 999999, seal_id = null, salt = null, key_digests = null,
        keys = array(select 'results/' || u from unnest(run_ids) u);
      insert into retention.batch select * from copied`,
    );
    expect(invented.problems.map(({ member }) => member)).toContain('receipt batch-999999');
    await query('select 1');
  });

  test('a certificate counts them to a difference of 0 and shows no key, and no export does', async () => {
    const { query, store, insertRuns, one, connect } = database();
    await query(`update retention.setting set batch_size = 3`);
    const [plain = ''] = await insertRuns({ count: 1 });
    await deleteAndSeal();
    await store.configure({ receiptKeys: 'hashed' });
    const [restored = '', moved = ''] = await insertRuns({ count: 5 });
    await insertRuns({ count: 2, tenant: 'other' });
    await deleteAndSeal();
    await store.unstamp(restored, { restored: true });
    await deleteAndSeal();
    await query(`update runs set result_s3_key = null where run_id = $1`, [moved]);
    const { from, to } = await one<{ from: Date; to: Date }>(
      `select now() - interval '20 days' as from, now() as to`,
    );
    const folder = await mkdtemp(join(tmpdir(), 'retention-hashed-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const out = join(folder, 'acme');
    const certificate = await makeCertificate(
      { tenant: 'acme', from, to, out },
      {
        withSnapshot: async (work) => {
          const client = await connect();
          onTestFinished(() => client.end());
          await client.query('begin isolation level repeatable read');
          return work(createStore(queryableOf(client)));
        },
        key: generateKeyPairSync('ed25519').privateKey,
        inspection: undefined,
      },
    );
    expect(certificate).toMatchObject({
      population: { counted: 6, difference: 0, results: { gone: 6 } },
      beside: { results: { earlier: 1, restored: 1 } },
      scope: { keys: false },
      receipt_keys: 'hashed',
    });
    const files = await Promise.all(
      (await readdir(out)).map((name) => readFile(join(out, name), 'utf8')),
    );
    expect(files.join('\n')).not.toMatch(/results\/[0-9a-f]/u);
    const made = await exportSeals({ store, out: folder });
    const lines = (await readFile(made.file, 'utf8')).match(/results\/[0-9a-f-]*/gu);
    expect(lines).toEqual([keyOf(plain)]);
  });

  test('an orphan that is found gone after its answer was lost has one receipt', async () => {
    const { query, store, one } = database();
    await store.configure({ receiptKeys: 'hashed' });
    await query(`
      insert into retention.receipt (kind, bucket, results, run_ids, keys, tenants)
      values ('orphan', 'b', 2, array[null, null]::text[]::retention.run_id[], E'{\\x02x/1,\\x02x/2}', '{null,null}')`);
    await store.sealNow();
    expect(await kept()).not.toContain('x/1');
    const { left } = await one<{ left: string[] }>(
      `select retention._without_receipt(l, '{x/1,x/3}') as left
      from (select (null::retention.orphan_list).*) e
      cross join lateral jsonb_populate_record(null::retention.orphan_list, '{"bucket": "b", "begun_at": "2000-01-01"}') l`,
    );
    expect(left).toEqual(['x/3']);
    expect(await verifySeals({ store })).toMatchObject({ holds: true, receipts: 1 });
  });

  test('anything but plain or hashed is refused, and a variable cannot say it', async () => {
    const { query, store } = database();
    await expect(store.configure({ receiptKeys: 'salted' as 'hashed' })).rejects.toMatchObject({
      sqlState: '22023',
      message: expect.stringMatching(
        /takes plain or hashed as receipt_keys, given: salted/u,
      ) as string,
    });
    await expect(
      query(`select retention.apply_variables('{"receipt_keys": "hashed"}')`),
    ).rejects.toMatchObject({ code: '22023' });
    await query('update retention.setting set four_eyes = true');
    await expect(store.configure({ receiptKeys: 'hashed' })).rejects.toMatchObject({
      message: expect.stringMatching(/two people|another person/u) as string,
    });
  });
});
