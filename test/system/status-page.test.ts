import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { PRODUCT_VERSION } from '../../src/store/version.ts';
import { startBrowser } from '../support/browser.ts';
import { useCliStack } from '../support/cli-stack.ts';
import { describeDatabase } from '../support/database.ts';
import { haveProgram } from '../support/programs.ts';
import { until } from '../support/until.ts';

const NASTY = '<script>document.title="owned"</script><img src="http://127.0.0.1:9/x">';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 900 };

/** A day of work as it would have left its traces. */
const HISTORY = `
insert into retention.scan (started_at, ms, asked_by, looked_at, flagged, batches, without_place, hit_limit)
select now() - n * interval '30 minutes', 40, 'pg_cron', 1000, 400 + 9000 * (n % 8 = 7)::int + 37 * n, 1, 0, false
from generate_series(1, 46) n;
insert into retention.batch (
  bucket, results, oldest, newest, run_ids, keys, tenants, settled_at, cleared, failed, ms
)
select 'dpp-results', 0, now(), now(), '{}', '{}', '{}', now() - n * interval '30 minutes' + interval '5 minutes',
  greatest(300, 4200 - 620 * ((54 - n) % 8)) + 11 * n, case when n = 12 then 600 else 0 end, 200
from generate_series(1, 46) n;`;

describeDatabase('the status page in a real browser', () => {
  const stack = useCliStack();
  let browser: Browser | undefined;
  let base = '';

  beforeAll(async () => {
    const chromium = haveProgram('chromium');
    if (chromium.path !== undefined) browser = await startBrowser(chromium.path);
  });
  afterAll(() => browser?.close());
  beforeEach(async (context) => {
    context.skip(browser === undefined, 'Chromium cannot be had here');
    const listener = await stack.listen({ RETENTION_HTTP_PORT: '0' });
    const line = await listener.waitForLine('Serving health, metrics and status on');
    await until('the first pass is over', async () => {
      const rows = await stack
        .database()
        .query('select from retention.heartbeat where passed_at is not null');
      return rows.length === 1;
    });
    base = /http:\/\/\S+/u.exec(line)?.[0] ?? '';
  });

  /** Everything that the page has a place for, with a few things gone wrong. */
  async function makeTrouble(): Promise<void> {
    const { query, insertRuns, store, set } = stack.database();
    onTestFinished(async () => {
      await query(
        `update retention.policy set pending_retain = null, pending_results = null, pending_at = null, pending_by = null`,
      );
    });
    await set({ pause_base: "'10 minutes'" });
    await query(HISTORY);
    await stack.insertResults({ count: 120 });
    await insertRuns({ count: 7, tenant: NASTY, bucket: 'no-such-bucket' });
    await insertRuns({ count: 3, tenant: 'globex', bucket: 'gone' });
    const [held = ''] = await stack.insertResults({ count: 1, tenant: 'initech' });
    await store.placeHolds({ runIds: [held], reason: `legal hold ${NASTY}`, by: 'kim' });
    await query(`select retention.flag_expired()`);
    await stack.cleared(120);
    await until('the others were refused', async () => {
      const rows = await query('select from retention.flagged where failed_at is not null');
      return rows.length === 10;
    });
    await query(`
      update retention.batch set dead_at = now(), lease = null, attempts = 10, code = 'ObjectLocked',
        error = 'a version is kept until 2027-01-31'
      where bucket = 'gone' and settled_at is null;
      update retention.policy set pending_retain = '7 days', pending_results = 5120,
        pending_at = now() - interval '20 minutes', pending_by = 'lee' where tenant_id = '*'`);
    await insertRuns({ count: 40, tenant: 'umbrella' });
  }

  async function open(options: BrowserContextOptions): Promise<{ page: Page; faults: string[] }> {
    if (browser === undefined) throw new Error('There is no browser.');
    const context = await browser.newContext(options);
    onTestFinished(() => context.close());
    const page = await context.newPage();
    const faults: string[] = [];
    page.on('console', (message) => faults.push(message.text()));
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('requestfailed', (request) => faults.push(request.url()));
    page.on('request', (request) => {
      if (!request.url().startsWith(base) && !request.url().startsWith('data:')) {
        faults.push(`asked for ${request.url()}`);
      }
    });
    await page.goto(base);
    return { page, faults };
  }

  /** Takes a picture, and keeps it where RETENTION_SCREENSHOTS says. */
  async function picture(page: Page, name: string): Promise<Buffer> {
    const folder = process.env['RETENTION_SCREENSHOTS'];
    const image = await page.screenshot({ fullPage: true });
    if (folder !== undefined) writeFileSync(join(folder, `${name}.png`), image);
    return image;
  }

  /** What keeps a screen reader or a keyboard from the page, by every rule that axe knows. */
  async function barriers(page: Page): Promise<readonly string[]> {
    await page.evaluate(AXE);
    return page.evaluate(
      `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ' ' + html)))`,
    );
  }

  /** Whether it has to be moved sideways to be read. */
  async function expectToFit(page: Page): Promise<void> {
    const widths: readonly [number, number] = await page.evaluate(
      '[document.documentElement.scrollWidth, innerWidth]',
    );
    expect(widths[0]).toBeLessThanOrEqual(widths[1]);
  }

  /** 200 tenants, 50 buckets, a surge, and a person who has halted it all. */
  async function makeCrowd(): Promise<void> {
    const { query, store } = stack.database();
    await query(`
      insert into retention.bucket (bucket)
      select 'dpp-results-of-customer-' || n from generate_series(1, 50) n;
      insert into runs (run_id, tenant_id, status, completed_at, result_s3_bucket, result_s3_key)
      select gen_random_uuid(), 'tenant-' || n, 'COMPLETED', now() - interval '40 days', 'dpp-results', 'results/' || n
      from generate_series(1, 200) n;
      insert into retention.surge (found_by, seen_at, found, tenants, rule)
      values ('pg_cron', now() - interval '1 hour', 1250, 1, 'tenant');
      insert into retention.surge_part (surge_id, bucket, results, oldest, newest, due_since, run_ids, keys, tenants)
      select surge_id, 'dpp-results', 1000, now() - interval '40 days', now(), now() - interval '2 days', '{}', '{}', '{}'
      from retention.surge`);
    await store.halt({ reason: 'wrong bucket in the new release', by: 'kim' });
  }

  const background = (page: Page): Promise<string> =>
    page.evaluate('getComputedStyle(document.body).backgroundColor');

  test('fits a phone and a desktop, by day and by night, bars no reader, and loads nothing else', async () => {
    await makeTrouble();
    const backgrounds = new Set<string>();
    for (const [name, viewport] of [
      ['phone', PHONE],
      ['desktop', DESKTOP],
    ] as const) {
      for (const colorScheme of ['light', 'dark'] as const) {
        const { page, faults } = await open({ viewport, colorScheme });
        await expectToFit(page);
        backgrounds.add(await background(page));
        expect((await picture(page, `${name}-${colorScheme}`)).length).toBeGreaterThan(10_000);
        expect(faults).toEqual([]);
        // The other two come below.
        if ((name === 'phone') === (colorScheme === 'light')) {
          expect(await barriers(page)).toEqual([]);
        }
      }
    }
    expect(backgrounds.size).toBe(2);
    await makeCrowd();
    for (const [name, viewport, colorScheme] of [
      ['phone', PHONE, 'dark'],
      ['desktop', DESKTOP, 'light'],
    ] as const) {
      const { page } = await open({ viewport, colorScheme });
      await until('the page has seen it', async () => {
        await page.reload();
        return (await page.title()).startsWith('Halted: ');
      });
      await expectToFit(page);
      await picture(page, `halted-${name}-${colorScheme}`);
      expect(await barriers(page)).toEqual([]);
      const [first = '', second = ''] = await page.locator('.notes li').allInnerTexts();
      expect(first).toMatch(
        /^Nothing is flagged and nothing deleted: halted by kim[^]*retention resume$/u,
      );
      expect(second).toMatch(
        /late results are set aside as surge \d+[^]*retention surge show \d+/u,
      );
      await page.locator('summary', { hasText: 'more rows' }).first().press('Enter');
      await expectToFit(page);
      const broken: readonly string[] = await page.evaluate(
        `[...document.querySelectorAll('.word')].filter((word) => word.getClientRects().length > 1)
          .map((word) => word.textContent)`,
      );
      expect(broken).toEqual([]);
    }
  });

  test('shows what is wrong, with what comes from rows as text', async () => {
    await makeTrouble();
    const { page, faults } = await open({ viewport: DESKTOP });
    const { host, pathname } = new URL(stack.database().url);
    expect(await page.title()).toBe(
      `Needs attention: ${pathname.slice(1)} on ${host} - Retention Reactor ${PRODUCT_VERSION}`,
    );
    const text = await page.innerText('body');
    for (const wanted of [
      'Needs attention',
      NASTY,
      `legal hold ${NASTY}`,
      'no-such-bucket',
      'NoSuchBucket',
      'retention retry --bucket no-such-bucket --code NoSuchBucket',
      'retention retry --bucket gone --code ObjectLocked',
      "retention policy confirm '*'",
      'umbrella',
      'listening',
    ]) {
      expect(text).toContain(wanted);
    }
    expect(await page.locator('script, img').count()).toBe(0);
    expect(await page.locator('svg rect.flagged').count()).toBeGreaterThan(40);
    expect(await page.locator('svg rect.cleared').count()).toBeGreaterThan(40);
    // By keyboard, from a dead result to why it is there, and back.
    await page.locator('tr', { hasText: 'ObjectLocked' }).locator('a').press('Enter');
    await page.waitForURL('**/explain?run=*');
    expect(await page.innerText('h2')).toMatch(/^Run [\da-f-]{36}: dead$/u);
    expect(await page.innerText('body')).toContain('a version is kept until 2027-01-31');
    expect(await barriers(page)).toEqual([]);
    await page.locator('a', { hasText: 'Back to the status' }).press('Enter');
    await page.locator('a', { hasText: 'Stop' }).press('Enter');
    await page.waitForURL('**/?refresh=off');
    expect(await page.innerText('header')).toContain('not again by itself');
    expect(faults).toEqual([]);
  });

  test('asks for itself again, and shows what has changed by then', async () => {
    const { page, faults } = await open({ viewport: DESKTOP, colorScheme: 'light' });
    expect(await page.innerText('body')).toContain('None: everything that was flagged goes.');
    await picture(page, 'calm');
    expect(await barriers(page)).toEqual([]);
    await stack.insertResults({ count: 12_345, tenant: 'late', completedAgo: '40 days' });
    await stack.database().query('select retention.flag_expired()');
    await stack.cleared(12_345, 30_000);
    const figure = page.locator('.tile', { hasText: 'Cleared today' }).locator('.figure');
    await until(
      'the page shows it by itself',
      async () => (await figure.innerText()) === '12,345',
      {
        limitMs: 30_000,
        pollMs: 250,
      },
    );
    expect(faults).toEqual([]);
  });
});
