import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { html } from '../../src/html.ts';
import { quoteForShell, remedyFor } from '../../src/telemetry/remedies.ts';
import type { Snapshot } from '../../src/telemetry/snapshot.ts';
import { snapshotAsJson } from '../../src/telemetry/snapshot.ts';
import { renderStatusPage } from '../../src/telemetry/status-page.ts';
import type { Surge } from '../../src/store/surges.ts';
import { STYLE_POLICY } from '../../src/telemetry/status-style.ts';
import { snapshotOf } from '../support/snapshot.ts';

const NASTY = `<img src=x onerror="alert('1')">&\u202E`;
const ESCAPED = '&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;\\u202e';

describe('html', () => {
  test('escapes whatever is inserted, and markup not twice', () => {
    expect(html`${NASTY}`.text).toBe(ESCAPED);
    const inner = html`<b>${NASTY}</b>`;
    expect(html`<p title="${NASTY}">${inner}${[inner, 1]}${undefined}</p>`.text).toBe(
      `<p title="${ESCAPED}"><b>${ESCAPED}</b><b>${ESCAPED}</b>1</p>`,
    );
  });
});

function surgeOf(id: number): Surge {
  return {
    surge_id: id,
    state: 'open',
    found_at: new Date(),
    found_by: 'pg_cron',
    seen_at: null,
    results: 1_250,
    found: 1_250,
    released: 0,
    tenants: 1,
    oldest: new Date(),
    due_since: new Date(Date.now() - 60_000),
    because: 'rows were changed since',
    remedy: `retention surge show ${id}`,
  };
}

/** Halted by a person, with late results set aside. */
function haltedOf(surges: readonly Surge[]): Snapshot {
  const snapshot = snapshotOf(
    { surges },
    { set_aside: surges.length * 1_250, surges: surges.length, halted: ['halted'] },
  );
  if (!snapshot.vitals.ok) throw new Error('The sample has figures.');
  const gate = [
    {
      reason: 'halted',
      because: 'halted by kim: wrong bucket',
      since: new Date(Date.now() - 5_000_000),
      remedy: 'retention resume',
    },
  ];
  return {
    ...snapshot,
    vitals: { ...snapshot.vitals, value: { ...snapshot.vitals.value, gate } },
  };
}

/** Without what keeps words together. */
function plainOf(page: string): string {
  return page.replaceAll(/<span class="(?:word|phrase)">([^<]*)<\/span>(?:<wbr \/>)?/gu, '$1');
}

describe('the status page', () => {
  const { overview } = snapshotOf();
  if (!overview.ok) throw new Error('The sample has lists.');

  test('escapes everything that comes from rows', () => {
    const [trouble] = overview.value.troubles;
    const [bucket] = overview.value.buckets;
    const [tenant] = overview.value.tenants;
    const [hold] = overview.value.holds;
    const [policy] = overview.value.pendingPolicies;
    const [listener] = overview.value.listeners;
    if (!trouble || !bucket || !tenant || !hold || !policy || !listener) throw new Error('Empty.');
    const page = renderStatusPage(
      snapshotOf({
        troubles: [{ ...trouble, bucket: NASTY, code: NASTY, error: NASTY, run_id: NASTY }],
        buckets: [
          {
            ...bucket,
            bucket: NASTY,
            pause_code: NASTY,
            pause_error: NASTY,
            paused_until: new Date(),
          },
        ],
        tenants: [{ ...tenant, tenant_id: NASTY }],
        holds: [
          { ...hold, run_id: NASTY, tenant_id: null, reason: NASTY, placed_by: NASTY },
          { ...hold, run_id: null, tenant_id: NASTY },
        ],
        pendingPolicies: [{ ...policy, tenant_id: NASTY, pending_by: NASTY }],
        listeners: [{ ...listener, listener: NASTY }],
      }),
    );
    expect(page).not.toContain('<img');
    expect(page).not.toContain('\u202E');
    expect(page.split('onerror=&quot;').length - 1).toBeGreaterThanOrEqual(15);
  });

  test('has no script, nothing from elsewhere, and the one style sheet that its policy allows', () => {
    const page = renderStatusPage(snapshotOf());
    expect(page).not.toMatch(/<script|\son\w+=|javascript:|\sstyle=|@import|url\(/iu);
    const links = [...page.matchAll(/(?:src|href)="(?<link>[^"]*)"/gu)].map(
      (match) => match.groups?.['link'] ?? '',
    );
    expect(links.every((link) => /^(?:\/|#|data:image\/svg)/u.test(link))).toBe(true);
    const style = /<style>(?<text>[^]*?)<\/style>/u.exec(page)?.groups?.['text'] ?? '';
    const digest = createHash('sha256').update(style).digest('base64');
    expect(STYLE_POLICY).toContain(`style-src 'sha256-${digest}'`);
    expect(STYLE_POLICY).toContain("default-src 'none'");
    // A browser is asked in a header, which a reader can do without; see telemetry.test.ts.
    expect(page).not.toContain('http-equiv');
    expect(page).toContain('<a href="/?refresh=off">Stop</a>');
    expect(renderStatusPage(snapshotOf(), false)).toContain('<a href="/">Refresh every 10 s</a>');
  });

  test('opens and closes every element', () => {
    const page = renderStatusPage(snapshotOf());
    const open: string[] = [];
    const bare = new Set(['meta', 'link', 'br', 'wbr', 'rect', 'line']);
    for (const [, slash, name = ''] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)[^>]*>/gu)) {
      if (bare.has(name)) continue;
      if (slash === '/') expect(open.pop()).toBe(name);
      else open.push(name);
    }
    expect(open).toEqual([]);
  });

  test('says what is wrong first, and the command that fixes it', () => {
    const page = renderStatusPage(snapshotOf());
    const withoutWords = plainOf(page);
    expect(page).toContain('<span class="pill warn">Needs attention</span>');
    expect(withoutWords).toContain(
      '<code class="command">retention retry --bucket dpp-archive --code AccessDenied</code>',
    );
    expect(withoutWords).toContain('<code>retention policy confirm tenant_abc</code>');
    expect(withoutWords).toMatch(
      /Bucket <b>dpp-archive<\/b> pauses until [\d:]{8} UTC: AccessDenied/u,
    );
  });

  test('at 3 a.m. halted comes first and then the surges, each with its command', () => {
    const page = plainOf(
      renderStatusPage(haltedOf([surgeOf(3), surgeOf(4), surgeOf(5), surgeOf(6), surgeOf(7)])),
    );
    const places = [
      '<span class="pill bad">Halted</span>',
      'halted by kim: wrong bucket, for',
      '<code class="command">retention resume</code>',
      '<b>1,250 late results are set aside as surge 3</b> of 1 tenant',
      '<code class="command">retention surge show 3</code>',
      '<code class="command">retention surge release 3 --expect COUNT</code>',
      '<b>1,250 late results are set aside as surge 5</b>',
      '2 more surges wait for a person.',
      '<code class="command">retention surge list</code>',
      '2 dead results wait for a person',
      '<dl class="tiles">',
    ].map((text) => page.indexOf(text));
    expect(places.every((place) => place >= 0)).toBe(true);
    expect(places).toEqual(places.toSorted((one, other) => one - other));
  });

  test('says of which database it is, on which host, and the version, in its title', () => {
    const title = (snapshot: Snapshot): string =>
      /<title>(?<text>[^<]*)<\/title>/u.exec(renderStatusPage(snapshot))?.groups?.['text'] ?? '';
    expect(title(snapshotOf())).toBe(
      'Needs attention: dpp on db.staging.internal:5432 - Retention Reactor 0.1.0',
    );
    const target = '/var/run/postgresql:5432/app';
    expect(title({ ...haltedOf([]), installation: { target, version: '9.9.9' } })).toBe(
      'Halted: app on /var/run/postgresql:5432 - Retention Reactor 9.9.9',
    );
  });

  test('says how fast the backlog goes and about when it is gone, or why that is not known', () => {
    const page = renderStatusPage(snapshotOf());
    expect(page).toContain('413 a second');
    expect(page).toContain('at least 44 s');
    expect(page).toContain('shrinking, 11,400 flagged an hour ago');
    const trend = {
      ...overview.value.trend,
      cleared_per_second: 0,
      seconds_to_go: null,
      gone_at: null,
      because: 'nothing was cleared in the last 10 minutes',
    };
    expect(renderStatusPage(snapshotOf({ trend }))).toContain(
      'nothing was cleared in the last 10 minutes',
    );
  });

  test('names the last seal, and how many are not yet kept outside', () => {
    expect(renderStatusPage(snapshotOf())).toMatch(
      /Last seal<\/dt>\s*<dd>\s*1,204, <time[^>]*>50 s ago<\/time>\s*<code class="small">9f2c41d07be85a33<\/code>/u,
    );
    expect(renderStatusPage(snapshotOf({ head: null }))).toMatch(/Last seal<\/dt>\s*<dd>none yet/u);
  });

  test('leads from a dead result to the explanation of its run', () => {
    expect(renderStatusPage(snapshotOf())).toContain(
      '<a href="/explain?run=3f0c9a52-7c1e-4a52-9d0e-0c7b6a1f2d11">',
    );
    const [trouble] = overview.value.troubles;
    if (trouble === undefined) throw new Error('Empty.');
    expect(
      renderStatusPage(snapshotOf({ troubles: [{ ...trouble, run_id: 'a/b?c&d"' }] })),
    ).toContain('<a href="/explain?run=a%2Fb%3Fc%26d%22">');
  });

  test('calls an attempt that is due by now no past, and a bucket that is not there no open one', () => {
    const [, failed] = overview.value.troubles;
    const [, bucket] = overview.value.buckets;
    if (failed === undefined || bucket === undefined) throw new Error('Empty.');
    const page = plainOf(
      renderStatusPage(
        snapshotOf({
          troubles: [
            {
              ...failed,
              bucket: 'gone',
              code: 'NoSuchBucket',
              next_attempt_at: new Date(Date.now() - 83_000),
            },
          ],
          buckets: [{ ...bucket, bucket: 'gone' }],
        }),
      ),
    );
    expect(page).toMatch(
      /as soon as it can <span class="quiet">\(due for\s+<time[^>]*>1 min 23 s</u,
    );
    expect(page).toContain('<span class="pill bad">missing</span>');
    expect(page).not.toContain('<span class="quiet">open</span>');
  });

  test('folds long lists, says where all of it is, and breaks no name inside its words', () => {
    const [, bucket] = overview.value.buckets;
    const [tenant] = overview.value.tenants;
    if (bucket === undefined || tenant === undefined) throw new Error('Empty.');
    const buckets = Array.from({ length: 50 }, (_, n) => ({ ...bucket, bucket: `results-${n}` }));
    const name = 'organisation-with-a-long-name.department-of-compliance';
    const page = renderStatusPage(
      snapshotOf({
        buckets,
        tenants: [{ ...tenant, tenant_id: name }],
        cut: ['buckets', 'tenants'],
      }),
    );
    expect(page).toContain('<summary>38 more rows</summary>');
    expect(plainOf(page)).toContain('The first 50: paused ones');
    expect(plainOf(page)).toContain('<code>retention bucket list</code>');
    expect(plainOf(page)).toContain('<code>retention reconcile --dry-run</code>');
    expect(page).toContain('<span class="word">results-49</span>');
    expect(page).toContain('<span class="word">organisation-</span><wbr />');
    expect(plainOf(page)).toContain(name);
  });

  test('is calm when nothing is wrong', () => {
    const nothing = {
      troubles: [],
      buckets: [],
      pendingPolicies: [],
      tenants: [],
      holds: [],
      listeners: [],
    };
    const page = renderStatusPage(
      snapshotOf(nothing, { due: 0, flagged: 0, dead: 0, policies_pending: 0 }),
    );
    expect(page).toContain('<span class="pill good">All clear</span>');
    expect(page).not.toContain('class="notes"');
    expect(page).not.toContain('wait for a confirmation');
  });

  test('without a database says so and what it still knows, and nothing of where it is', () => {
    const at = new Date();
    const error = Object.assign(new Error('connect ECONNREFUSED db.internal:5432'), {
      code: 'ECONNREFUSED',
    });
    const failure = { ok: false, error, at } as const;
    const reasons = ['The database does not answer (ECONNREFUSED).'];
    const snapshot: Snapshot = {
      ...snapshotOf(),
      vitals: failure,
      overview: failure,
      readiness: { ready: false, reasons },
    };
    const page = renderStatusPage(snapshot);
    expect(page).toContain('<span class="pill bad">Not ready</span>');
    expect(page).toContain(reasons[0]);
    expect(page).toContain('Listener and scheduler');
    expect(page + snapshotAsJson(snapshot)).not.toContain('db.internal');
  });
});

describe('status.json', () => {
  test('has the columns of retention.status as keys, and the lists beside them', () => {
    const document = JSON.parse(snapshotAsJson(snapshotOf())) as Record<string, unknown>;
    expect(document).toMatchObject({ ready: true, due: 18_250, dead: 2, scheduler_health: 'ok' });
    expect(document).toMatchObject({ listener: { listening: true, reconnects: 1 } });
    for (const list of [
      'activity',
      'tenants',
      'buckets',
      'troubles',
      'holds',
      'pending_policies',
    ]) {
      expect(document[list]).toBeInstanceOf(Array);
    }
  });
});

describe('commands that fix', () => {
  test('are quoted so that a shell takes them as they are', () => {
    expect(quoteForShell('dpp-results')).toBe('dpp-results');
    expect(quoteForShell('*')).toBe("'*'");
    expect(quoteForShell("a'; rm -rf /")).toBe(String.raw`'a'\''; rm -rf /'`);
    expect(
      remedyFor({
        state: 'dead',
        bucket: 'a b',
        code: 'unknown',
        results: 1,
        run_id: '1',
        error: null,
        last_at: new Date(),
        next_attempt_at: null,
      }).command,
    ).toBe("retention retry --bucket 'a b'");
  });
});
