import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { html } from '../../src/html.ts';
import { quoteForShell, remedyFor } from '../../src/telemetry/remedies.ts';
import type { Snapshot } from '../../src/telemetry/snapshot.ts';
import { snapshotAsJson } from '../../src/telemetry/snapshot.ts';
import { renderStatusPage } from '../../src/telemetry/status-page.ts';
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
    expect(links.every((link) => /^(?:\/|data:image\/svg)/u.test(link))).toBe(true);
    const style = /<style>(?<text>[^]*?)<\/style>/u.exec(page)?.groups?.['text'] ?? '';
    const digest = createHash('sha256').update(style).digest('base64');
    expect(STYLE_POLICY).toContain(`style-src 'sha256-${digest}'`);
    expect(STYLE_POLICY).toContain("default-src 'none'");
    expect(page).toContain('<meta http-equiv="refresh" content="10" />');
  });

  test('opens and closes every element', () => {
    const page = renderStatusPage(snapshotOf());
    const open: string[] = [];
    const bare = new Set(['meta', 'link', 'br', 'rect', 'line']);
    for (const [, slash, name = ''] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)[^>]*>/gu)) {
      if (bare.has(name)) continue;
      if (slash === '/') expect(open.pop()).toBe(name);
      else open.push(name);
    }
    expect(open).toEqual([]);
  });

  test('says what is wrong first, and the command that fixes it', () => {
    const page = renderStatusPage(snapshotOf());
    const withoutWords = page.replaceAll(/<span class="word">([^<]*)<\/span>/gu, '$1');
    expect(page).toContain('<span class="pill warn">Needs attention</span>');
    expect(withoutWords).toContain(
      '<code class="command">retention retry --bucket dpp-archive --code AccessDenied</code>',
    );
    expect(withoutWords).toContain('<code>retention policy confirm tenant_abc</code>');
    expect(page).toMatch(/Bucket <b>dpp-archive<\/b> pauses until [\d:]{8} UTC: AccessDenied/u);
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
