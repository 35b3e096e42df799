import { messageBeside } from '../failure-words.ts';
import { showNumber } from '../numbers.ts';
import {
  type ActiveHold,
  type BusyBucket,
  MOST_BUCKETS,
  MOST_ROWS,
  type Overview,
  type PendingPolicy,
  type Trouble,
  type WaitingTenant,
  type WorkingListener,
} from '../store/overview.ts';
import { describeHabits } from '../reactor/bucket-meaning.ts';
import { type Insertion, type Markup, html } from '../html.ts';
import { explainLink } from './explain-page.ts';
import { showName } from './page-frame.ts';
import { quoteForShell, remedyFor } from './remedies.ts';
import {
  type Column,
  showCommand,
  showCommandLine,
  showDays,
  showNext,
  showSince,
  showTable,
  showWhen,
} from './status-words.ts';

/** A section with a heading. */
export function showCard(title: string, content: Insertion, id?: string): Markup {
  const anchor = id === undefined ? undefined : html` id="${id}"`;
  return html`<section class="card" ${anchor}>
    <h2>${title}</h2>
    ${content}
  </section>`;
}

/** What lists all of what is cut here; nothing where all of it is here. */
function showRest(overview: Overview, list: string, words: string, command: string): Insertion {
  if (!overview.cut.includes(list)) return undefined;
  return html`${words}; all: <code>${showCommand(command)}</code>`;
}

/** What fails and what is dead, with what to do about it. */
export function showTroubles(overview: Overview, now: Date): Markup {
  const columns: readonly Column<Trouble>[] = [
    {
      title: 'state',
      cell: ({ state }) =>
        html`<span class="pill ${state === 'dead' ? 'bad' : 'warn'}">${state}</span>`,
    },
    { title: 'results', isNumber: true, cell: ({ results }) => showNumber(results) },
    { title: 'bucket', cell: ({ bucket }) => showName(bucket) },
    {
      title: 'error',
      cell: ({ code, error, run_id, last_at }) =>
        html`<b>${code}</b> ${messageBeside(code, error)}<br /><span class="quiet small"
            >last ${showWhen(last_at, now)},
            <a href="${explainLink(run_id)}">run ${showName(run_id)}</a></span
          >`,
    },
    {
      title: 'next attempt',
      cell: ({ next_attempt_at: next }) =>
        next === null ? html`<span class="quiet">by a person</span>` : showNext(next, now),
    },
    {
      title: 'what to do',
      cell: (trouble) => {
        const { words, command } = remedyFor(trouble);
        return html`<span class="small">${words}</span>${showCommandLine(command)}`;
      },
    },
  ];
  return showCard(
    'Failed and dead results',
    showTable({
      name: 'Failed and dead results',
      columns,
      rows: overview.troubles,
      whenEmpty: 'None: everything that was flagged goes.',
      rest: showRest(overview, 'troubles', `The first ${MOST_ROWS} kinds`, 'retention status'),
    }),
    'failed',
  );
}

/** The policies that wait for a confirmation; nothing when none does. */
export function showPendingPolicies(overview: Overview, now: Date): Markup | undefined {
  if (overview.pendingPolicies.length === 0) return undefined;
  const columns: readonly Column<PendingPolicy>[] = [
    { title: 'tenant', cell: ({ tenant_id }) => showName(tenant_id) },
    { title: 'keeps', cell: ({ retain_days }) => showDays(retain_days) },
    { title: 'would keep', cell: ({ pending_retain_days: days }) => showDays(days) },
    {
      title: 'makes due at once',
      isNumber: true,
      cell: ({ pending_results }) => showNumber(pending_results),
    },
    {
      title: 'asked for',
      cell: ({ pending_by, pending_at }) => html`${showWhen(pending_at, now)} by ${pending_by}`,
    },
    {
      title: 'to let it take effect',
      cell: ({ tenant_id }) =>
        html`<code>${showCommand(`retention policy confirm ${quoteForShell(tenant_id)}`)}</code>`,
    },
  ];
  const name = 'Policies that wait for a confirmation';
  const rest = showRest(
    overview,
    'pending_policies',
    `The first ${MOST_ROWS}`,
    'retention policy list',
  );
  return showCard(
    name,
    showTable({ name, columns, rows: overview.pendingPolicies, whenEmpty: '', rest }),
    'policies',
  );
}

/** The buckets, paused ones first. */
export function showBuckets(overview: Overview, now: Date): Markup {
  const { buckets, troubles } = overview;
  const missing = new Set(
    troubles.filter(({ code }) => code === 'NoSuchBucket').map(({ bucket }) => bucket),
  );
  const columns: readonly Column<BusyBucket>[] = [
    { title: 'bucket', cell: ({ bucket }) => showName(bucket) },
    { title: 'flagged', isNumber: true, cell: ({ flagged }) => showNumber(flagged) },
    { title: 'at work', isNumber: true, cell: ({ leased }) => showNumber(leased) },
    { title: 'cleared, 24 h', isNumber: true, cell: ({ cleared_24h }) => showNumber(cleared_24h) },
    {
      title: 'dead',
      isNumber: true,
      cell: ({ dead }) =>
        dead === 0 ? '0' : html`<span class="alarm-text">${showNumber(dead)}</span>`,
    },
    {
      title: 'oldest run',
      isNumber: true,
      cell: ({ oldest }) => (oldest === null ? undefined : showWhen(oldest, now)),
    },
    {
      title: 'state',
      cell: (bucket) => showBucketState(bucket, missing.has(bucket.bucket), now),
    },
  ];
  const rest = showRest(
    overview,
    'buckets',
    `The first ${MOST_BUCKETS}: paused ones, then those with the most to do`,
    'retention bucket list',
  );
  const table = showTable({
    name: 'Buckets',
    columns,
    rows: buckets,
    whenEmpty: 'None has had work yet.',
    rest,
  });
  return showCard('Buckets', table);
}

function showBucketState(bucket: BusyBucket, isMissing: boolean, now: Date): Markup {
  const { paused_until: until, pause_code, pause_error, versioning, on_versioned } = bucket;
  if (until !== null) {
    return html`<span class="pill warn">paused</span>
      <span class="small">${pause_code ?? undefined}, again ${showNext(until, now)}</span
      ><br /><span class="quiet small">${messageBeside(pause_code ?? '', pause_error)}</span>`;
  }
  if (isMissing) {
    return html`<span class="pill bad">missing</span>
      <span class="small">the store knows no bucket of this name</span>`;
  }
  const keeps =
    versioning === null || versioning === 'off'
      ? undefined
      : html` <span class="quiet small"
          >${on_versioned === 'purge' ? 'versioned, every version goes' : 'versioned, a delete marker is added'}</span
        >`;
  const differs = describeHabits(bucket.habits);
  const store =
    differs === '' ? undefined : html`<br /><span class="quiet small">${differs}</span>`;
  return html`<span class="quiet">open</span>${keeps}${store}`;
}

/** The tenants whose results wait, the longest overdue first. */
export function showTenants(overview: Overview, now: Date): Markup {
  const columns: readonly Column<WaitingTenant>[] = [
    {
      title: 'tenant',
      cell: ({ tenant_id }) =>
        tenant_id === null ? html`<span class="quiet">none</span>` : showName(tenant_id),
    },
    { title: 'keeps', isNumber: true, cell: ({ retain_days }) => showDays(retain_days) },
    {
      title: 'due',
      isNumber: true,
      cell: ({ due, is_capped }) => `${is_capped ? 'at least ' : ''}${showNumber(due)}`,
    },
    {
      title: 'flagged',
      isNumber: true,
      cell: ({ flagged, is_capped }) =>
        `${is_capped && flagged > 0 ? 'at least ' : ''}${showNumber(flagged)}`,
    },
    { title: 'overdue by', isNumber: true, cell: ({ due_since }) => showSince(due_since, now) },
  ];
  const name = 'Tenants with results that wait';
  const table = showTable({
    name,
    columns,
    rows: overview.tenants,
    whenEmpty: 'None: nothing is due.',
    rest: showRest(
      overview,
      'tenants',
      `The ${MOST_ROWS} that wait longest`,
      'retention reconcile --dry-run',
    ),
  });
  return showCard(name, table);
}

/** The holds in force, newest first. */
export function showHolds(overview: Overview, total: number, now: Date): Markup {
  const columns: readonly Column<ActiveHold>[] = [
    { title: 'hold', cell: ({ hold_id }) => String(hold_id) },
    {
      title: 'on',
      cell: ({ run_id, tenant_id }) =>
        run_id === null
          ? html`<span class="quiet">tenant</span> ${showName(tenant_id ?? '')}`
          : html`<span class="quiet">run</span>
              <a href="${explainLink(run_id)}">${showName(run_id)}</a>`,
    },
    { title: 'reason', cell: ({ reason }) => reason },
    {
      title: 'placed',
      cell: ({ placed_at, placed_by }) =>
        html`${showWhen(placed_at, now)} <span class="quiet">by ${placed_by}</span>`,
    },
    {
      title: 'ends',
      cell: ({ expires_at: ends }) =>
        ends === null ? html`<span class="quiet">when released</span>` : showWhen(ends, now),
    },
  ];
  const rest =
    total > overview.holds.length
      ? html`The newest ${overview.holds.length} of ${showNumber(total)}; all:
          <code>${showCommand('retention hold list')}</code>`
      : undefined;
  const table = showTable({
    name: 'Holds',
    columns,
    rows: overview.holds,
    whenEmpty: 'None in force.',
    rest,
  });
  return showCard('Holds', table);
}

/** Who works on batches at this moment. */
export function showListeners(overview: Overview, now: Date): Markup {
  const columns: readonly Column<WorkingListener>[] = [
    { title: 'listener', cell: ({ listener }) => showName(listener) },
    { title: 'batches', isNumber: true, cell: ({ batches }) => showNumber(batches) },
    { title: 'results', isNumber: true, cell: ({ results }) => showNumber(results) },
    {
      title: 'lease ends',
      isNumber: true,
      cell: ({ leased_until }) => showWhen(leased_until, now),
    },
  ];
  const table = showTable({
    name: 'At work now',
    columns,
    rows: overview.listeners,
    whenEmpty: 'No batch is leased.',
  });
  return showCard('At work now', table);
}
