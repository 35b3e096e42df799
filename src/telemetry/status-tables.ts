import { messageBeside } from '../failure-words.ts';
import { showNumber } from '../numbers.ts';
import {
  type ActiveHold,
  type BusyBucket,
  MOST_ROWS,
  type Overview,
  type PendingPolicy,
  type Trouble,
  type WaitingTenant,
  type WorkingListener,
} from '../store/overview.ts';
import { describeHabits } from '../reactor/bucket-meaning.ts';
import { type Insertion, type Markup, html } from '../html.ts';
import { quoteForShell, remedyFor } from './remedies.ts';
import { type Column, showDays, showSince, showTable, showWhen } from './status-words.ts';

/** A section with a heading. */
export function showCard(title: string, content: Insertion): Markup {
  return html`<section class="card">
    <h2>${title}</h2>
    ${content}
  </section>`;
}

/** What fails and what is dead, with what to do about it. */
export function showTroubles({ troubles }: Overview, now: Date): Markup {
  const columns: readonly Column<Trouble>[] = [
    {
      title: 'state',
      cell: ({ state }) =>
        html`<span class="pill ${state === 'dead' ? 'bad' : 'warn'}">${state}</span>`,
    },
    { title: 'results', isNumber: true, cell: ({ results }) => showNumber(results) },
    { title: 'bucket', cell: ({ bucket }) => bucket },
    {
      title: 'error',
      cell: ({ code, error, run_id, last_at }) =>
        html`<b>${code}</b> ${messageBeside(code, error)}<br /><span class="quiet small"
            >last ${showWhen(last_at, now)}, run ${run_id}</span
          >`,
    },
    {
      title: 'next attempt',
      cell: ({ next_attempt_at: next }) =>
        next === null ? html`<span class="quiet">by a person</span>` : showWhen(next, now),
    },
    {
      title: 'what to do',
      cell: (trouble) => {
        const { words, command } = remedyFor(trouble);
        return html`<span class="small">${words}</span
          ><code class="command">${showCommand(command)}</code>`;
      },
    },
  ];
  return showCard(
    'Failed and dead results',
    showTable(columns, troubles, 'None: everything that was flagged goes.'),
  );
}

/** A command to copy; its lines break between words and not after a hyphen. */
function showCommand(command: string): Insertion {
  return command
    .split(' ')
    .map((word, index) => [index === 0 ? '' : ' ', html`<span class="word">${word}</span>`]);
}

/** The policies that wait for a confirmation; nothing when none does. */
export function showPendingPolicies({ pendingPolicies }: Overview, now: Date): Markup | undefined {
  if (pendingPolicies.length === 0) return undefined;
  const columns: readonly Column<PendingPolicy>[] = [
    { title: 'tenant', cell: ({ tenant_id }) => tenant_id },
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
  return showCard('Policies that wait for a confirmation', showTable(columns, pendingPolicies, ''));
}

/** The buckets, paused ones first. */
export function showBuckets({ buckets }: Overview, now: Date): Markup {
  const columns: readonly Column<BusyBucket>[] = [
    { title: 'bucket', cell: ({ bucket }) => bucket },
    { title: 'flagged', isNumber: true, cell: ({ flagged }) => showNumber(flagged) },
    { title: 'at work', isNumber: true, cell: ({ leased }) => showNumber(leased) },
    { title: 'cleared, 24 h', isNumber: true, cell: ({ cleared_24h }) => showNumber(cleared_24h) },
    {
      title: 'dead',
      isNumber: true,
      cell: ({ dead }) =>
        dead === 0 ? '0' : html`<span class="alarm-text">${showNumber(dead)}</span>`,
    },
    { title: 'state', cell: (bucket) => showBucketState(bucket, now) },
  ];
  return showCard('Buckets', showTable(columns, buckets, 'None has had work yet.'));
}

function showBucketState(bucket: BusyBucket, now: Date): Markup {
  const { paused_until: until, pause_code, pause_error, versioning, on_versioned } = bucket;
  if (until !== null) {
    return html`<span class="pill warn">paused</span>
      <span class="small">${pause_code ?? undefined}, again ${showWhen(until, now)}</span
      ><br /><span class="quiet small">${messageBeside(pause_code ?? '', pause_error)}</span>`;
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
export function showTenants({ tenants }: Overview, now: Date): Markup {
  const columns: readonly Column<WaitingTenant>[] = [
    {
      title: 'tenant',
      cell: ({ tenant_id }) => tenant_id ?? html`<span class="quiet">none</span>`,
    },
    { title: 'keeps', isNumber: true, cell: ({ retain_days }) => showDays(retain_days) },
    {
      title: 'due',
      isNumber: true,
      cell: ({ due, is_capped }) => `${is_capped ? 'at least ' : ''}${showNumber(due)}`,
    },
    {
      title: 'of these flagged',
      isNumber: true,
      cell: ({ flagged, is_capped }) =>
        `${is_capped && flagged > 0 ? 'at least ' : ''}${showNumber(flagged)}`,
    },
    { title: 'overdue by', isNumber: true, cell: ({ due_since }) => showSince(due_since, now) },
  ];
  return showCard(
    'Tenants with results that wait',
    showTable(columns, tenants, 'None: nothing is due.'),
  );
}

/** The holds in force, newest first. */
export function showHolds({ holds }: Overview, total: number, now: Date): Markup {
  const columns: readonly Column<ActiveHold>[] = [
    { title: 'hold', cell: ({ hold_id }) => String(hold_id) },
    {
      title: 'on',
      cell: ({ run_id, tenant_id }) =>
        run_id === null
          ? html`<span class="quiet">tenant</span> ${tenant_id ?? ''}`
          : html`<span class="quiet">run</span> ${run_id}`,
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
  const more =
    total > holds.length ? html`<p class="quiet small">${showRest(total)}</p>` : undefined;
  return showCard('Holds', [showTable(columns, holds, 'None in force.'), more]);
}

function showRest(total: number): Insertion {
  return html`The newest ${MOST_ROWS} of ${showNumber(total)}; all:
    <code>retention hold list</code>`;
}

/** Who works on batches at this moment. */
export function showListeners({ listeners }: Overview, now: Date): Markup {
  const columns: readonly Column<WorkingListener>[] = [
    { title: 'listener', cell: ({ listener }) => listener },
    { title: 'batches', isNumber: true, cell: ({ batches }) => showNumber(batches) },
    { title: 'results', isNumber: true, cell: ({ results }) => showNumber(results) },
    {
      title: 'lease ends',
      isNumber: true,
      cell: ({ leased_until }) => showWhen(leased_until, now),
    },
  ];
  return showCard('At work now', showTable(columns, listeners, 'No batch is leased.'));
}
