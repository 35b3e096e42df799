import { sayFailure } from '../failure-words.ts';
import { type Insertion, html } from '../html.ts';
import type { Semaphore } from '../lifecycle/semaphore.ts';
import type { Logger } from '../logger.ts';
import { showCount, showNumber } from '../numbers.ts';
import { escapeControls, shorten } from '../safe-text.ts';
import type { Explanation } from '../store/explanation.ts';
import type { Store } from '../store/store.ts';
import { type Reading, createCachedRead } from './cached-read.ts';
import type { HttpAnswer } from './http-server.ts';
import { type Installation, framePage, showName } from './page-frame.ts';
import { quoteForShell } from './remedies.ts';
import { STYLE_POLICY } from './status-style.ts';
import { showCommand, showDays, showNext, showWhen } from './status-words.ts';

/** A run's id has no more; see `too long` of retention.explain. */
const LONGEST_ID_BYTES = 1_024;
/** For this long the answer about one run serves all who ask for it. */
const FRESH_MILLISECONDS = 5_000;
/** So many runs are remembered. */
const MOST_REMEMBERED = 50;
/** So many look-ups may wait for their turn; the figures of the page wait behind them. */
const MOST_WAITING = 2;

/** What is known of a run; undefined: too many others are being looked up. */
export type ExplainRead = (runId: string) => Promise<Reading<Explanation> | undefined>;

/**
 * Makes a read of single runs that cannot load the database: each is looked up at most once in five seconds, one at a
 * time and in turn with everything else that watches, and past two that wait further ones are refused.
 */
export function createExplainRead(options: {
  readonly store: Pick<Store, 'explain'>;
  readonly logger: Logger;
  readonly turn: Semaphore;
}): ExplainRead {
  const { store, logger, turn } = options;
  const known = new Map<string, { read: () => Promise<Reading<Explanation>>; until: number }>();
  let waiting = 0;
  const look = async (runId: string): Promise<Explanation> => {
    waiting += 1;
    try {
      const [found] = await turn.run(undefined, () => store.explain([runId]));
      if (found === undefined) throw new Error('retention.explain returned no row');
      return found;
    } catch (error) {
      logger.warning('A run could not be explained', { error });
      throw error;
    } finally {
      waiting -= 1;
    }
  };
  return async (runId) => {
    const now = performance.now();
    const remembered = known.get(runId);
    if (remembered !== undefined && now < remembered.until) return remembered.read();
    if (waiting >= MOST_WAITING) return undefined;
    const read = createCachedRead({
      read: () => look(runId),
      freshMilliseconds: FRESH_MILLISECONDS,
      failureMilliseconds: FRESH_MILLISECONDS,
    });
    known.delete(runId);
    known.set(runId, { read, until: now + FRESH_MILLISECONDS });
    const [oldest] = known.keys();
    if (known.size > MOST_REMEMBERED && oldest !== undefined) known.delete(oldest);
    return read();
  };
}

/** The answer to `/explain?run=ID`: what becomes of one run's result, without its key. */
export async function answerExplain(
  installation: Installation,
  query: URLSearchParams,
  explain: ExplainRead,
): Promise<HttpAnswer> {
  const [runId = '', ...others] = query.getAll('run');
  const show = (status: number, content: Insertion): HttpAnswer => ({
    status,
    contentType: 'text/html; charset=utf-8',
    contentSecurityPolicy: STYLE_POLICY,
    body: framePage({
      installation,
      subject: 'One run',
      beside: html`<p><a href="/">Back to the status</a></p>`,
      content: html`<section class="card">${content}</section>`,
    }),
  });
  const refuse = (status: number, title: string, words: string): HttpAnswer =>
    show(
      status,
      html`<h2>${title}</h2>
        <p>${words}</p>`,
    );
  if (runId === '' || others.length > 0) {
    const given = runId === '' ? 'none' : showNumber(others.length + 1);
    return refuse(400, 'Which run?', `Expected one run, as in /explain?run=ID; given ${given}.`);
  }
  if (Buffer.byteLength(runId) > LONGEST_ID_BYTES || runId.includes('\0')) {
    const given = shorten(escapeControls(runId), 60);
    return refuse(
      400,
      'No run',
      `Expected the id of a run, of at most 1,024 bytes and without a zero byte; given ${given}.`,
    );
  }
  const reading = await explain(runId);
  if (reading === undefined) {
    return refuse(503, 'Busy', 'Too many runs are being looked up. Load this page again.');
  }
  if (!reading.ok) {
    return refuse(503, 'No answer', 'The database gave no answer; the log says why.');
  }
  return show(
    reading.value.state === 'unknown' ? 404 : 200,
    showExplanation(reading.value, reading.at),
  );
}

function showExplanation(run: Explanation, now: Date): Insertion {
  // What is shown here has no key, as the rest of the page. A shorter one would be found in other words.
  const withoutKey = (text: string): string =>
    run.key === null || run.key.length < 4 ? text : text.replaceAll(run.key, '(its key)');
  const facts = factsOf(run, now, withoutKey).filter(([, value]) => value !== undefined);
  return [
    html`<h2>Run ${showName(run.run_id)}: ${run.state}</h2>
      <p>${withoutKey(run.because)}.</p>
      <dl class="facts apart">
        ${facts.map(
          ([name, value]) =>
            html`<dt>${name}</dt>
              <dd>${value}</dd> `,
        )}
      </dl>`,
    html`<p class="apart quiet small">
      As of ${now.toISOString().slice(0, 19).replace('T', ' ')} UTC. With its key, and as JSON:
    </p>`,
    html`<code class="command"
      >${showCommand(`retention explain ${quoteForShell(run.run_id)}`)}</code
    >`,
  ];
}

function factsOf(
  run: Explanation,
  now: Date,
  withoutKey: (text: string) => string,
): readonly (readonly [name: string, value: Insertion])[] {
  const when = (date: Explanation['due_at']): Insertion =>
    date === null ? undefined : showWhen(date, now);
  const holds = (run.holds ?? []).map((hold): readonly [string, Insertion] => {
    const end = hold.ends === null ? 'until it is released' : `until ${hold.ends}`;
    return [
      `Hold ${hold.hold_id}`,
      `on its ${hold.on}, ${end}; placed by ${hold.placed_by} at ${hold.placed_at}: ${hold.reason}`,
    ];
  });
  const isInBatch = run.flagged_at !== null;
  return [
    ['Tenant', run.tenant_id === null ? undefined : showName(run.tenant_id)],
    ['Status', run.status ?? undefined],
    ['Completed', when(run.completed_at)],
    ['Bucket', run.bucket === null ? undefined : showName(run.bucket)],
    ['Cleared', when(run.cleared_at)],
    ['Policy', run.retain_days === null ? undefined : showDays(run.retain_days)],
    ['Due', when(run.due_at)],
    ...holds,
    ['Flagged', when(run.flagged_at)],
    ['Batch', run.batch_id === null ? undefined : String(run.batch_id)],
    [
      'Attempts',
      isInBatch
        ? showCount(run.attempts ?? 0, 'attempt has failed', 'attempts have failed')
        : undefined,
    ],
    [
      'Last error',
      run.last_code === null ? undefined : withoutKey(sayFailure(run.last_code, run.last_error)),
    ],
    ['Next attempt', run.next_attempt_at === null ? undefined : showNext(run.next_attempt_at, now)],
    ['Shares with', run.shares_with === null ? undefined : `run ${run.shares_with}`],
  ];
}

/** Where the explanation of a run is. */
export function explainLink(runId: string): string {
  return `/explain?run=${encodeURIComponent(runId)}`;
}
