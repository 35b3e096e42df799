import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { exportSeals } from '../../src/proof/export-seals.ts';
import { type KeptHead, showHead } from '../../src/proof/heads.ts';
import { verifySeals } from '../../src/proof/verify-seals.ts';
import type { Head } from '../../src/store/seals.ts';
import { describeDatabase } from '../support/database.ts';
import { useMigrated } from '../support/migrated.ts';
import { afterTampering, sealRuns } from '../support/proof.ts';
import { until } from '../support/until.ts';

/** Three seals, each of two batches of two results; made once, for what a test does to them is undone. */
function useSeals() {
  const database = useMigrated({ keepsRows: true });
  const heads: Head[] = [];
  const batches: number[][] = [];
  beforeEach(async () => {
    if (heads.length > 0) return;
    const { query, store } = database();
    await query(`
      insert into retention.receipt (kind, bucket, results, run_ids, keys, tenants)
      values ('orphan', 'b', 1, array[null]::text[]::retention.run_id[], '{results/x}', '{null}');
      insert into retention.change (subject, action, tenant_id, after)
      values ('policy', 'insert', 'acme', '{"retain": "30 days"}')`);
    for (const tenant of ['acme', 'other', 'acme']) {
      batches.push([...(await sealRuns(database(), 4, tenant)).batchIds]);
      heads.push(...(await store.listHeads()));
    }
  });
  return { database, heads, batch: (seal: number, n: number) => batches[seal - 1]?.[n] ?? 0 };
}

const messages = (found: Awaited<ReturnType<typeof verifySeals>>): string[] =>
  found.problems.map(({ message }) => message);

describeDatabase('promise 14: proof verify', () => {
  const { database, heads, batch } = useSeals();
  test('holds for what was sealed and left as it is', async () => {
    const { store } = database();
    const seen: number[] = [];
    const found = await verifySeals({ store, heads, onProgress: (done) => seen.push(done) });
    expect(found).toMatchObject({
      holds: true,
      seals: 3,
      receipts: 7,
      results: 13,
      pruned: 0,
      problems: [],
      deleted_again: 0,
      head: heads[2],
      unsealed_because: null,
    });
    expect(found.changes).toBeGreaterThan(0);
    expect(seen.at(-1)).toBe(13);
    // Since a time: only what was sealed then.
    const since = new Date(Date.parse(heads[1]?.sealed_at ?? ''));
    expect(await verifySeals({ store, since })).toMatchObject({
      holds: true,
      seals: 2,
      results: 8,
    });
    // Page by page it is the same.
    expect((await store.verifySeals(0, 1)).map(({ sealId }) => sealId)).toEqual([1]);
    expect((await store.verifySeals(1, 1)).map(({ sealId }) => sealId)).toEqual([2]);
    expect(await store.verifySeals(3, 1)).toEqual([]);
  });

  test('counts stamps without a receipt and receipts without a stamp apart: none of them breaks it', async () => {
    const found = await afterTampering(
      database(),
      `insert into runs (tenant_id, status, completed_at, result_s3_bucket, result_s3_key, result_cleared_at)
      values ('acme', 'COMPLETED', now() - interval '1 hour', 'dpp-results', 'results/by-hand', clock_timestamp());
      update runs set result_cleared_at = null where run_id = (
        select run_ids[1]::text::uuid from retention.batch where batch_id = ${batch(1, 0)}
      );
      delete from runs where run_id = (
        select run_ids[2]::text::uuid from retention.batch where batch_id = ${batch(1, 0)}
      )`,
    );
    expect(found).toMatchObject({ holds: true, problems: [] });
    const counted = (found.stamps ?? []).filter(({ results }) => results > 0);
    expect(counted.map(({ kind, results }) => [kind, results])).toEqual([
      ['accounted', 10],
      ['no_receipt', 1],
      ['no_stamp', 1],
      ['no_row', 1],
    ]);
  });

  test('an export is checked by the script of the docs without this software, and one changed byte fails', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'retention-proof-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const script = join(folder, 'proof-check.mjs');
    const page = await readFile('docs/proof-export.md', 'utf8');
    await writeFile(script, /^```js\n(?<code>.*?)^```/msu.exec(page)?.groups?.['code'] ?? '');
    const check = async (...rest: readonly string[]): Promise<{ code: number; said: string }> => {
      try {
        const { stdout } = await promisify(execFile)(process.execPath, [script, ...rest], {
          cwd: folder,
          env: {},
        });
        return { code: 0, said: stdout.trim() };
      } catch (error) {
        const { code, stdout } = error as { readonly code: number; readonly stdout: string };
        return { code, said: stdout.trim() };
      }
    };
    const { store } = database();
    const made = await exportSeals({ store, out: folder });
    const file = join(folder, 'proof.jsonl');
    expect(made).toMatchObject({ file, seals: 3, receipts: 7, results: 13, head: heads[2] });
    const head = showHead(heads[2] ?? { seal: 0, digest: '' });
    expect(await check(file)).toEqual({
      code: 0,
      said: `3 seals with 13 results hold; the head is ${head}`,
    });
    const older = showHead(heads[0] ?? { seal: 0, digest: '' });
    expect(await check(file, older)).toMatchObject({ code: 0 });
    expect(await check(file, `3-${'ab'.repeat(32)}`)).toMatchObject({ code: 1 });
    // Never over one that is there.
    await expect(exportSeals({ store, out: folder })).rejects.toThrow(
      /is never written over|not there/u,
    );

    const whole = await readFile(file, 'utf8');
    const lines = whole.trimEnd().split('\n');
    const forged = join(folder, 'forged.jsonl');
    const fails = async (content: string): Promise<string> => {
      await writeFile(forged, content);
      const { code, said } = await check(forged, head);
      expect(code).toBe(1);
      return said;
    };
    expect(await fails(whole.replace('"other\\"', '"ather\\"'))).toMatch(
      /batch-\d+ of seal 2 does not hold/u,
    );
    expect(await fails(whole.replace('results/x', 'results/y'))).toMatch(/receipt-\d+ of seal 1/u);
    expect(await fails(whole.replace('retain\\": \\"30 days', 'retain\\": \\"31 days'))).toMatch(
      /change-\d+ of seal 1/u,
    );
    expect(await fails(`${lines.toSpliced(1, 1).join('\n')}\n`)).toMatch(/^batch-\d+ not there/u);
    expect(
      await fails(`${lines.filter((line) => !line.includes('"seal":3')).join('\n')}\n`),
    ).not.toBe('');
  });

  test('names a receipt of which anything was changed', async () => {
    const changes = [
      `keys[1] = 'results/another'`,
      `run_ids[2] = gen_random_uuid()`,
      `tenants[1] = 'somebody'`,
      `tenants = '{null,null}'`,
      `ends = '{gone,deleted}'`,
      `versions = '{v1,null}'`,
      `bucket = 'another'`,
      `settled_at = settled_at - interval '1 microsecond'`,
      `why = 'early'`,
      `asked_by = 'somebody'`,
      `request_ids = '{X}'`,
      `revision = coalesce(revision, 0) + 1`,
      `policies = '{"*": "1 day"}'`,
      `settled_session = 'somebody'`,
      `product = '9'`,
      `salt = '\\x00'`,
      'run_ids = run_ids[:1], keys = keys[:1], tenants = tenants[:1]',
      'keys = array[keys[2], keys[1]], run_ids = array[run_ids[2], run_ids[1]]',
    ];
    // One of each receipt at a time.
    for (let first = 0; first < changes.length; first += 6) {
      const some = changes.slice(first, first + 6).map((set, n) => {
        const seal = Math.floor(n / 2) + 1;
        return { set, seal, id: batch(seal, n % 2) };
      });
      const sql = some.map(
        ({ set, id }) => `update retention.batch set ${set} where batch_id = ${id};`,
      );
      const found = await afterTampering(database(), sql.join('\n'));
      expect(messages(found), sql.join('\n')).toEqual(
        some.map(({ seal, id }) => `receipt batch-${id} of seal ${seal} was changed`),
      );
      expect(found.holds).toBe(false);
    }
    const moved = await afterTampering(
      database(),
      `update retention.batch set seal_id = 3 where batch_id = ${batch(1, 0)};
      update retention.batch set cleared = 0 where batch_id = ${batch(2, 0)};
      update retention.receipt set keys[1] = 'y';
      update retention.change set after = '{"retain": "1 day"}' where subject = 'policy'`,
    );
    expect(messages(moved)).toEqual(
      expect.arrayContaining([
        `receipt batch-${batch(1, 0)} of seal 1 was changed: it now belongs to seal 3`,
        `receipt batch-${batch(1, 0)} was added: seal 3 does not know it`,
        `receipt batch-${batch(2, 0)} of seal 2 was changed: it now is no receipt any more`,
        `receipt receipt-${await receiptId()} of seal 1 was changed`,
        expect.stringMatching(/^change \d+ of seal 1 was changed$/u) as string,
      ]),
    );
  });

  async function receiptId(): Promise<string> {
    const { id } = await database().one<{ id: string }>(
      'select receipt_id as id from retention.receipt',
    );
    return id;
  }

  test('names what was removed: a receipt, a change, a seal in between', async () => {
    const id = batch(2, 1);
    expect(
      messages(
        await afterTampering(database(), `delete from retention.batch where batch_id = ${id}`),
      ),
    ).toEqual([`receipt batch-${id} of seal 2 was removed`]);
    expect(messages(await afterTampering(database(), 'delete from retention.receipt'))).toEqual([
      `receipt receipt-${await receiptId()} of seal 1 was removed`,
    ]);
    expect(
      messages(
        await afterTampering(database(), `delete from retention.change where subject = 'policy'`),
      ),
    ).toEqual([expect.stringMatching(/^change \d+ of seal 1 was removed$/u) as string]);
    expect(
      messages(await afterTampering(database(), 'delete from retention.seal where seal_id = 2')),
    ).toContain('seal 2 is missing');
    // Whoever says that it was pruned says too early a time.
    expect(
      messages(
        await afterTampering(
          database(),
          `delete from retention.batch where seal_id = 2;
          update retention.seal set pruned_at = now() where seal_id = 2`,
        ),
      ),
    ).toEqual([
      expect.stringMatching(/^the receipts of seal 2 were removed .* and are kept for/u) as string,
    ]);
  });

  test('names what was reordered: results, receipts, members of a seal, seals', async () => {
    const [a, b] = [batch(2, 0), batch(2, 1)];
    const renamed = messages(
      await afterTampering(
        database(),
        `update retention.batch set batch_id = -1 where batch_id = ${a};
        update retention.batch set batch_id = ${a} where batch_id = ${b};
        update retention.batch set batch_id = ${b} where batch_id = -1`,
      ),
    );
    expect(renamed).toEqual(
      expect.arrayContaining([a, b].map((id) => `receipt batch-${id} of seal 2 was changed`)),
    );
    const members = messages(
      await afterTampering(
        database(),
        `update retention.seal
        set batches = array[batches[2], batches[1]],
          digests = substr(digests, 33, 32) || substr(digests, 1, 32) || substr(digests, 65)
        where seal_id = 2`,
      ),
    );
    expect(members).toEqual([
      'the members of seal 2 were reordered',
      'seal 2 was changed: it does not give its own digest',
    ]);
    const seals = messages(
      await afterTampering(
        database(),
        `update retention.seal set seal_id = -1 where seal_id = 2;
        update retention.seal set seal_id = 2 where seal_id = 3;
        update retention.seal set seal_id = 3 where seal_id = -1`,
      ),
    );
    expect(seals).toEqual(
      expect.arrayContaining([
        'seal 2 was changed: it does not give its own digest',
        'seal 3 was changed: it does not give its own digest',
      ]),
    );
  });

  test('names a seal of which anything was changed', async () => {
    for (const set of [
      `sealed_at = sealed_at + interval '1 microsecond'`,
      `complete_to = now()`,
      `digests = digests || '\\x00'`,
      `previous = '\\x00'`,
      `digest = sha256(digest)`,
    ]) {
      const found = await afterTampering(
        database(),
        `update retention.seal set ${set} where seal_id = 2`,
      );
      expect(messages(found), set).toContain('seal 2 was changed: it does not give its own digest');
    }
  });

  test('finds that the end was cut off: at once, and with a head also where the trace is removed', async () => {
    const cut =
      'delete from retention.seal where seal_id = 3; delete from retention.batch where seal_id = 3;';
    expect(messages(await afterTampering(database(), cut))).toEqual([
      'the end was cut off: seal 2 is the last one here, and seal 3 was the latest',
    ]);
    const traceless = `${cut}
      update retention.seal_head h set seal_id = 2, digest = s.digest, sealed_at = s.sealed_at
      from retention.seal s where s.seal_id = 2;
      delete from retention.change where seal_id = 3`;
    expect(await afterTampering(database(), traceless)).toMatchObject({ holds: true });
    const found = await afterTampering(database(), traceless, heads);
    expect(found.holds).toBe(false);
    expect(found.heads).toMatchObject([
      { seal: 1, holds: true },
      { seal: 2, holds: true },
      {
        seal: 3,
        holds: false,
        message: expect.stringMatching(
          /^this database does not know the seals from 3 on: it ends before the head of .*, that is of seal 3$/u,
        ) as string,
      },
    ]);
    expect(messages(await afterTampering(database(), 'delete from retention.seal'))).toContain(
      'the seals were cut off: there is none, and seal 3 was the latest',
    );
  });

  test('finds with yesterday’s head that everything was rewritten from a point on, with new seals', async () => {
    const rewrite = `
      delete from retention.seal where seal_id > 1;
      update retention.batch set seal_id = null, salt = null where seal_id > 1;
      update retention.receipt set seal_id = null, salt = null where seal_id > 1;
      update retention.change set seal_id = null where seal_id > 1;
      update retention.batch set keys[1] = 'results/another' where batch_id = ${batch(2, 0)};
      update retention.seal_head h set seal_id = 1, digest = s.digest, sealed_at = s.sealed_at
      from retention.seal s where s.seal_id = 1;
      select retention._seal_once(2);
      select retention._seal_once(2);`;
    // Nothing here says so: the seals follow each other, and the times are what somebody wrote.
    const alone = await afterTampering(database(), rewrite);
    expect(alone.problems.filter(({ kind }) => kind !== 'added')).toEqual([]);
    const found = await afterTampering(database(), rewrite, heads);
    expect(found.heads.map(({ seal, holds }) => ({ seal, holds }))).toEqual([
      { seal: 1, holds: true },
      { seal: 2, holds: false },
      { seal: 3, holds: false },
    ]);
    expect(found.heads[1]?.message).toBe(
      `seal 2 was rewritten: the head of ${heads[1]?.sealed_at.slice(0, 23)}Z names another digest`,
    );
  });

  test('a head of before, of another database, without its number, or after a recovery', async () => {
    const { store, query, one } = database();
    const digest = 'ab'.repeat(32);
    const say = async (head: KeptHead): Promise<string> =>
      (await verifySeals({ store, heads: [head] })).heads[0]?.message ?? '';
    const [, second] = heads;
    expect(await say({ digest: second?.digest ?? '' })).toMatch(
      /^seal 2 is as the head [0-9a-f]{12} has it$/u,
    );
    expect(await say({ digest })).toMatch(/^no seal has the digest of the head abababababab/u);
    expect(await say({ digest, seal: 9 })).toMatch(
      /does not know the seals from 4 on.*of seal 9$/u,
    );
    expect(
      await say({ ...second, digest: second?.digest ?? '', database: crypto.randomUUID() }),
    ).toMatch(/^the head is of the database [0-9a-f-]{36}, and this is/u);
    // It was recovered to the time of seal 1, accepted, and has gone on with seals of its own.
    const recovered = await afterTampering(
      database(),
      `update retention.identity set accepted_at = (select sealed_at from retention.seal where seal_id = 2);
      update retention.seal set digest = sha256(digest) where seal_id = 3`,
      [{ digest: heads[2]?.digest ?? '', seal: 3 }],
    );
    expect(recovered.heads[0]?.message).toMatch(
      /^this database does not know the seals from 2 on that the head .* stands for: it was accepted at/u,
    );
    expect(await one('select accepted_at from retention.identity')).toEqual({ accepted_at: null });
    await query('select 1');
  });

  test('names what was added: to a seal, to a seal that is not there, and to none', async () => {
    const copy = (set: string): string => `
      create temporary table copied on commit drop as
      select * from retention.batch where batch_id = ${batch(1, 0)};
      select setval(pg_get_serial_sequence('retention.batch', 'batch_id'), 999999);
      update copied set batch_id = 999999, ${set};
      insert into retention.batch select * from copied`;
    expect(messages(await afterTampering(database(), copy('seal_id = 1')))).toContain(
      'receipt batch-999999 was added: seal 1 does not know it',
    );
    expect(messages(await afterTampering(database(), copy('seal_id = 77')))).toContain(
      'receipt batch-999999 belongs to seal 77, which is not here',
    );
    // It becomes a member of the next seal, and names what another receipt names.
    expect(messages(await afterTampering(database(), copy('seal_id = null, salt = null')))).toEqual(
      expect.arrayContaining([
        expect.stringMatching(
          /^receipt batch-999999 was added: it names run .*, as receipt batch-\d+ does/u,
        ) as string,
      ]),
    );
    // Others of the same server may have transactions open for a while.
    const { query, store, one } = database();
    await until('the seals say up to when they are complete', async () => {
      await query(
        `insert into retention.change (subject, action, after) values ('hold', 'insert', '{}')`,
      );
      await store.sealNow();
      const { known } = await one<{ known: boolean }>(
        'select complete_to is not null as known from retention.seal order by seal_id desc limit 1',
      );
      return known;
    });
    const invented = `seal_id = null, salt = null, settled_at = settled_at - interval '1 hour',
      flagged_at = settled_at - interval '2 hours', keys = '{x,y}'`;
    expect(messages(await afterTampering(database(), copy(invented)))).toEqual([
      expect.stringMatching(
        /^receipt batch-999999 was added: it says .*, and all that was settled until .* had been sealed/u,
      ) as string,
    ]);
    expect(
      messages(
        await afterTampering(
          database(),
          `insert into retention.change (at, subject, action, after)
          values (now() - interval '1 hour', 'hold', 'insert', '{}')`,
        ),
      ),
    ).toEqual([expect.stringMatching(/^change \d+ was added: it says/u) as string]);
  });

  test('names a receipt that was invented for the present: by its number, its claim, its session and its times', async () => {
    const ways: readonly (readonly [set: string, because: string])[] = [
      ['batch_id = 1000000', 'its number was never given out: the last one is 999999'],
      ['batch_id = -5', 'its number was never given out: the last one is 999999'],
      ['leased_at = null', 'no listener has ever claimed it'],
      ['settled_session = null', 'it does not say whose session wrote it down'],
      [`flagged_at = settled_at + interval '2 hours'`, 'it was flagged at .*, claimed at '],
      [`leased_at = settled_at + interval '2 hours'`, 'it was flagged at .*, claimed at '],
    ];
    const invent = (sets: readonly string[]): string => `
      create temporary table copied on commit drop as
      select * from retention.batch where batch_id = ${batch(1, 0)};
      select setval(pg_get_serial_sequence('retention.batch', 'batch_id'), 999999);
      update copied set seal_id = null, salt = null, flagged_at = clock_timestamp(),
        leased_at = clock_timestamp(), settled_at = clock_timestamp();
      ${sets
        .map(
          (set, n) => `update copied set batch_id = ${999_990 + n}, keys = '{x${n},y${n}}';
      create temporary table made on commit drop as table copied;
      update made set ${set};
      insert into retention.batch select * from made;
      drop table made;`,
        )
        .join('')}`;
    for (const seal of ['', 'select from retention._seal_once()']) {
      const found = await afterTampering(database(), invent(ways.map(([set]) => set)) + seal);
      expect(found.holds).toBe(false);
      expect(messages(found).toSorted()).toEqual(
        ways
          .map(([set, because], n) => {
            const id = /batch_id = (\S+)/u.exec(set)?.[1] ?? 999_990 + n;
            return `receipt batch-${id} was added: ${because}`;
          })
          .toSorted()
          .map((text) => expect.stringMatching(`^${text}`) as string),
      );
    }
    const receipt = await afterTampering(
      database(),
      `insert into retention.receipt (receipt_id, kind, bucket, results, run_ids, keys, tenants)
      overriding system value
      values (77777, 'found_gone', 'b', 1, array[gen_random_uuid()], '{x}', '{acme}')`,
    );
    expect(messages(receipt)).toEqual([
      expect.stringMatching(
        /^receipt receipt-77777 was added: its number was never given out/u,
      ) as string,
    ]);
    // One that imitates all of it breaks no seal: the account of stamps has a receipt without a stamp more.
    const imitated = await afterTampering(database(), invent(['product = product']));
    expect(imitated.holds).toBe(true);
    const count = (found: typeof imitated): number =>
      found.stamps
        ?.filter(({ kind }) => ['no_stamp', 'no_row', 'another_result'].includes(kind))
        .reduce((sum, { results }) => sum + results, 0) ?? 0;
    const { store } = database();
    expect(count(imitated) - count(await verifySeals({ store }))).toBe(2);
  });

  test('a result that was deleted again breaks nothing, and is counted', async () => {
    const { query, store } = database();
    await query('update runs set result_cleared_at = null where tenant_id = $1', ['other']);
    await query(`update retention.heartbeat set swept_at = null, passed_at = null`);
    await query('delete from retention.progress');
    await sealRuns(database(), 0);
    expect(await verifySeals({ store })).toMatchObject({ holds: true, deleted_again: 4 });
  });
});
