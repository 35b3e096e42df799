import { afterAll, expect, test } from 'vitest';
import { drawFaults } from './faults.ts';
import { type Ground, layLargeGround } from './ground.ts';

/*
Promise 13 at full size: two real listeners, an S3 in this process, and an hour of passes after each slip. Prints a table.
*/

const SCALE = Number(process.env['RETENTION_LARGE_SCALE'] ?? '1');
/** Five minutes each. */
const PASSES_AN_HOUR = 12;

const rows: (readonly [what: string, expected: number, found: number])[] = [];
const n = (count: number): number => Math.round(count * SCALE);

function note(what: string, expected: number, found: number): void {
  rows.push([what, expected, found]);
  process.stdout.write(`${what}: expected ${expected}, found ${found}\n`);
}

/** Of the rows of one test. */
function expectAsNoted(of: string): void {
  expect(
    rows.filter(([what, expected, found]) => what.startsWith(of) && expected !== found),
  ).toEqual([]);
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const done = await work();
  process.stdout.write(`${what}: ${((performance.now() - startedAt) / 1_000).toFixed(1)} s\n`);
  return done;
}

const SET_ASIDE = 'select coalesce(sum(results), 0) from retention.surge_part';
const LEFT_OF = (kind: string): string =>
  `select count(*) from runs where result_s3_key like '${kind}/%' and result_cleared_at is null`;

afterAll(() => {
  const width = Math.max(...rows.map(([what]) => what.length));
  const lines = rows.map(
    ([what, expected, found]) =>
      `${what.padEnd(width)} | ${String(expected).padStart(9)} | ${String(found).padStart(9)} | ${expected === found ? 'ok' : 'DIFFERS'}`,
  );
  process.stdout.write(`\n${['case'.padEnd(width), 'expected', 'found'].join(' | ')}\n`);
  process.stdout.write(`${lines.join('\n')}\n`);
});

/** An hour in which 200 results fall due on time in each five minutes, and go. */
async function passAnHour(ground: Ground): Promise<number> {
  const before = ground.asked('time');
  for (let pass = 0; pass < PASSES_AN_HOUR; pass += 1) {
    await ground.age();
    await ground.insert({
      count: 200,
      kind: 'time',
      tenants: 200,
      from: '30 days 4 minutes',
      to: '30 days 1 minute',
    });
    await ground.tick();
  }
  await ground.until(
    'what fell due on time is gone',
    async () => (await ground.count(LEFT_OF('time'))) === 0,
  );
  return ground.asked('time') - before;
}

interface Listed {
  readonly surges: readonly { readonly surge_id: number; readonly results: number }[];
}

interface Verified {
  readonly holds: boolean;
  readonly results: number;
  readonly problems: readonly unknown[];
  readonly deleted_again: number;
  readonly stamps: readonly { readonly kind: string; readonly results: number }[];
}

interface Shown {
  readonly groups: readonly { readonly results: number }[];
}

/** Looks at the open surge and releases what it shows; returns how many that are. */
async function release(ground: Ground): Promise<number> {
  const { surges } = await ground.ask<Listed>('surge', 'list');
  const id = String(surges[0]?.surge_id);
  const { groups } = await ground.ask<Shown>('surge', 'show', id);
  const results = groups.reduce((sum, group) => sum + group.results, 0);
  await ground.ask('surge', 'release', id, '--expect', String(results));
  return results;
}

test('a slip of a fifth of the rows, by five ways', async () => {
  await using ground = await layLargeGround();
  const slipped = n(200_000);
  const year = `interval '1 year'`;
  await timed('1,000,000 rows over 200 tenants', async () => {
    const steady = { tenants: 200, from: '28 days', to: '1 day' };
    await ground.insert({ ...steady, count: 2 * slipped, kind: 'live' });
    await ground.insert({
      ...steady,
      count: slipped,
      kind: 'status',
      status: 'FAILED',
      from: '90 days',
      to: '60 days',
    });
    await ground.insert({
      ...steady,
      count: slipped,
      kind: 'kept',
      from: '90 days',
      to: '60 days',
      retainUntil: `now() + ${year}`,
    });
    await ground.insert({
      ...steady,
      count: slipped,
      kind: 'tenant',
      tenants: 1,
      tenant: 'patient-',
      from: '90 days',
      to: '60 days',
    });
    await ground.adopt(SCALE);
    await ground.sql(`select retention.set_policy('patient-0', ${year}, true, true)`);
    await ground.tick();
    await ground.startListeners();
  });
  note(
    'slip: due before it',
    0,
    await ground.count(`select count(*) from retention._live where is_due`),
  );

  const ways: readonly (readonly [string, string, slip: string, undo: string])[] = [
    [
      'retain_until',
      'kept',
      `update runs set retain_until = retain_until - 2 * ${year} where result_s3_key like 'kept/%'`,
      `update runs set retain_until = retain_until + 2 * ${year} where result_s3_key like 'kept/%'`,
    ],
    [
      'status',
      'status',
      `update runs set status = 'COMPLETED' where status = 'FAILED'`,
      `update runs set status = 'FAILED' where result_s3_key like 'status/%'`,
    ],
    [
      'tenant id',
      'tenant',
      `update runs set tenant_id = 'tenant-1' where tenant_id = 'patient-0'`,
      `update runs set tenant_id = 'patient-0' where result_s3_key like 'tenant/%'`,
    ],
    ['import', 'import', '', `delete from runs where result_s3_key like 'import/%'`],
    [
      'dates',
      'live',
      `update runs set completed_at = completed_at - ${year} where run_id in (select run_id from runs where result_s3_key like 'live/%' order by run_id limit ${slipped})`,
      '',
    ],
  ];
  for (const [way, kind, slip, undo] of ways) {
    await timed(`${slipped} by ${way}, and an hour`, async () => {
      if (slip === '')
        await ground.insert({ count: slipped, kind, tenants: 200, from: '2 years', to: '1 year' });
      else await ground.sql(slip);
      note(
        `slip by ${way}: on time in the hour after it, gone`,
        200 * PASSES_AN_HOUR,
        await passAnHour(ground),
      );
      note(`slip by ${way}: set aside`, slipped, await ground.count(SET_ASIDE));
      note(`slip by ${way}: asked of S3`, 0, ground.asked(kind));
    });
    if (undo !== '') {
      await ground.sql(undo);
      const { surges } = await ground.ask<Listed>('surge', 'list');
      for (const { surge_id: id } of surges) await ground.ask('surge', 'show', String(id));
      note(`slip by ${way}: set aside when it was undone`, 0, await ground.count(SET_ASIDE));
    }
  }
  const objects = ground.objects();
  await timed('the release', async () => {
    note('slip by dates: released', slipped, await release(ground));
    await ground.until('they are gone', () => ground.asked('live') >= slipped);
    await ground.until(
      'they are stamped',
      async () => (await ground.count(LEFT_OF('live'))) === slipped,
    );
  });
  note('slip by dates: gone after the release', slipped, objects - ground.objects());
  await timed('the same update again, and an hour', async () => {
    await ground.sql(
      `update runs set completed_at = completed_at - ${year} where result_s3_key like 'live/%' and result_cleared_at is null`,
    );
    note(
      'slip again: on time in the hour after it, gone',
      200 * PASSES_AN_HOUR,
      await passAnHour(ground),
    );
    note('slip again: set aside', slipped, await ground.count(SET_ASIDE));
    note('slip again: asked of S3', slipped, ground.asked('live'));
  });
  expectAsNoted('slip');
});

test('the adoption of a backlog, and a keeper', async () => {
  await using ground = await layLargeGround();
  const due = n(1_300_000);
  const kept = n(1_000);
  await timed(`${due} due`, async () => {
    await ground.insert({ count: due, kind: 'old', tenants: 200, from: '2 years', to: '31 days' });
    await ground.sql(`create table report (result_key text, result_bucket text)`);
    await ground.sql(
      `insert into report select result_s3_key, result_s3_bucket from runs order by run_id limit ${kept}`,
    );
    await ground.sql('create index on report (result_key)');
    await ground.adopt(SCALE);
    await ground.sql(`select retention.add_keeper('report', 'result_key', 'result_bucket')`);
    await ground.startListeners();
  });
  await timed('the hour after it', async () => {
    await ground.tick();
    note(
      'adoption: on time in the hour after it, gone',
      200 * PASSES_AN_HOUR,
      await passAnHour(ground),
    );
  });
  note('adoption: set aside', due, await ground.count(SET_ASIDE));
  note('adoption: asked of S3', 0, ground.asked('old'));
  await timed('the release', async () => {
    note('adoption: released', due, await release(ground));
  });
  await timed('the drain', async () => {
    await ground.until(
      'all but the kept are stamped',
      async () => (await ground.count(LEFT_OF('old'))) <= kept,
    );
  });
  note('adoption with a keeper: asked of S3', due - kept, ground.asked('old'));
  note(
    'adoption with a keeper: named and still there',
    kept,
    await ground.count(
      `select count(*) from runs r join report k on k.result_key = r.result_s3_key where r.result_cleared_at is null`,
    ),
  );
  note('adoption with a keeper: objects left', kept, ground.objects());
  expectAsNoted('adoption');
});

test('a backlog deleted under faults has one receipt each', async () => {
  await using ground = await layLargeGround();
  const due = n(1_000_000);
  await timed(`${due} due`, async () => {
    await ground.insert({ count: due, kind: 'old', tenants: 50, from: '2 years', to: '31 days' });
    await ground.adopt(SCALE);
    await ground.sql(
      `update retention.setting
      set surge_guard = null, max_attempts = 1000, retry_base = '1 second', retry_cap = '2 seconds', pause_base = '100 milliseconds',
        pause_cap = '1 second'`,
    );
    await ground.startListeners();
  });
  const faults = drawFaults(ground);
  await timed('the drain under faults', async () => {
    await ground.tick();
    await ground.until('almost all are stamped', async () => {
      await ground.sql('select retention.tick()');
      return (await ground.count(LEFT_OF('old'))) <= due / 20;
    });
  });
  const struck = await faults.end();
  process.stdout.write(`faults: ${struck}\n`);
  await timed('the rest, in calm', () =>
    ground.until('all are stamped', async () => {
      await ground.sql('select retention.tick()');
      return (await ground.count(LEFT_OF('old'))) === 0;
    }),
  );
  const verified = await timed('proof verify', () => ground.ask<Verified>('proof', 'verify'));
  const lines = `from retention._receipt r cross join unnest(r.run_ids, r.keys) as u (run_id, key)`;
  const gaps = `select count(*) from runs where run_id not in (select u.run_id ${lines})`;
  note('faults: objects left', 0, ground.objects());
  note('faults: results in receipts', due, verified.results);
  note('faults: results named by them', due, await ground.count(`select count(*) ${lines}`));
  note('faults: gaps', 0, await ground.count(gaps));
  note('faults: extra', 0, verified.problems.length + verified.deleted_again);
  note(
    'faults: accounted for',
    due,
    verified.stamps.find((it) => it.kind === 'accounted')?.results ?? 0,
  );
  note('faults: verify holds', 1, Number(verified.holds));
  expect(struck).toBeGreaterThan(0);
  expectAsNoted('faults');
});

test('ten thousand tenants with 200 late results each', async () => {
  await using ground = await layLargeGround();
  const tenants = n(10_000);
  await timed(`${tenants} tenants`, async () => {
    await ground.insert({ count: tenants, kind: 'live', tenants, from: '28 days', to: '1 day' });
    await ground.adopt(SCALE);
    await ground.tick();
    await ground.startListeners();
  });
  await timed('200 late results of each', () =>
    ground.insert({ count: 200 * tenants, kind: 'import', tenants, from: '2 years', to: '1 year' }),
  );
  await timed('the hour after it', async () => {
    note(
      'tenants: on time in the hour after it, gone',
      200 * PASSES_AN_HOUR,
      await passAnHour(ground),
    );
  });
  note('tenants: set aside', 200 * tenants, await ground.count(SET_ASIDE));
  note('tenants: asked of S3', 0, ground.asked('import'));
  expectAsNoted('tenants');
});
