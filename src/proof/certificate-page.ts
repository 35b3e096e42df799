import { Markup, html } from '../html.ts';
import { showCount, showNumber } from '../numbers.ts';
import type { RuleChange } from '../store/certificates.ts';
import type { Certificate } from './certificate.ts';
import { PAGE_STYLE } from './certificate-style.ts';
import { BESIDE, CATEGORIES, ENDS, KINDS } from './certificate-words.ts';

/** The certificate as a page to print. No script, and nothing is loaded. */
export function describePage(it: Omit<Certificate, 'files'>): string {
  const { scope, population, gone } = it;
  const who = scope.tenant === null ? 'results without a tenant' : scope.tenant;
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; style-src 'unsafe-inline'"
        />
        <title>Certificate of deletion: ${who}</title>
        ${new Markup(`<style>${PAGE_STYLE}</style>`)}
      </head>
      <body>
        <main>
          <header>
            <h1>Certificate of deletion</h1>
            <p class="who">${who}</p>
            <p>
              Results whose retention ended from <b>${day(scope.from)}</b> on and before
              <b>${day(scope.to)}</b>; as of ${day(it.as_of)}
            </p>
          </header>
          <section class="sum">
            <div><b>${showNumber(population.counted)}</b> fell due</div>
            <div><b>${showNumber(population.results['gone'] ?? 0)}</b> deleted, with a receipt</div>
            <div>
              <b>${showNumber(population.counted - (population.results['gone'] ?? 0))}</b>
              otherwise, each with its reason
            </div>
            <div><b>${showNumber(population.difference)}</b> difference</div>
          </section>
          <h2>What became of them</h2>
          ${counts(population.results, CATEGORIES, 'gone')}
          ${gone.first === null ? undefined : html`<p>Deleted between ${day(gone.first)} and ${day(gone.last ?? '')}. ${sentence(gone.by_end, ENDS)} Why: ${sentence(gone.by_kind, KINDS)} ${lengths(gone.by_retain)}</p>`}
          ${it.not_sealed === 0 ? undefined : html`<p>The receipts of ${showCount(it.not_sealed, 'result')} are not sealed yet, so nothing proves them so far.</p>`}
          ${beside(it.beside.results)}
          <h2>The rule</h2>
          ${rule(it.rule)}
          <h2>How this was counted</h2>
          ${it.method.map((text) => html`<p>${text}</p>`)}
          <pre>${queryOf(population.query)}</pre>
          <h2>What this does not cover</h2>
          <ul>
            ${it.not_covered.map((text) => html`<li>${text}</li>`)}
          </ul>
          <h2>Proof</h2>
          <dl>
            <dt>Head</dt>
            <dd>
              ${it.head === null ? 'none: nothing is sealed yet' : html`<code>${`${it.head.seal}-${it.head.digest}`}</code>, sealed at ${day(it.head.sealed_at)}`}
            </dd>
            <dt>Signed with</dt>
            <dd>
              the Ed25519 key with the SHA-256 <code>${it.public_key}</code>, over certificate.json,
              which names the SHA-256 of this page
            </dd>
            <dt>Database</dt>
            <dd>
              <code>${it.database}</code>, adopted at ${day(it.adopted_at)}; receipts are kept for
              ${it.receipts_kept}
            </dd>
            <dt>Made</dt>
            <dd>
              at ${day(it.made_at)} by ${it.made_by}, with Retention Reactor
              ${it.product}${scope.keys ? '' : '; without keys of objects'}
            </dd>
            <dt>To check it</dt>
            <dd>see CHECK.md: it takes OpenSSL or Node, and nothing of this product</dd>
          </dl>
        </main>
      </body>
    </html> `;
  return page.text;
}

/** A whole day without its time, and any other moment to the second. */
function day(iso: string): string {
  return iso.replace(/T00:00:00\.000Z$/u, '').replace(/T(.{8})\.\d{3}Z$/u, ' $1 UTC');
}

function counts(
  results: Readonly<Record<string, number>>,
  words: Readonly<Record<string, string>>,
  always?: string,
): Markup {
  const shown = Object.entries(results).filter(([name, number]) => number > 0 || name === always);
  const rows = shown.map(
    ([name, number]) =>
      html`<tr>
        <td class="number">${showNumber(number)}</td>
        <td>${words[name] ?? name}</td>
      </tr> `,
  );
  return html`<table>
    <tbody>
      ${rows}
    </tbody>
  </table>`;
}

function beside(results: Readonly<Record<string, number>>): Markup | undefined {
  if (Object.values(results).every((number) => number === 0)) return undefined;
  return html`<h2>Beside them, in the same period</h2>
    ${counts(results, BESIDE)}`;
}

function sentence(
  numbers: Readonly<Record<string, number>>,
  words: Readonly<Record<string, string>>,
): string {
  const parts = Object.entries(numbers)
    .filter(([, number]) => number > 0)
    .map(([name, number]) => `${showNumber(number)} ${words[name] ?? name}`);
  return `${parts.join('; ')}.`;
}

function rule({
  retain,
  in_force: policies,
  changes,
  changes_known_since: since,
}: Certificate['rule']): Markup {
  const now =
    retain === null
      ? 'No policy is in force, so nothing falls due.'
      : `A result is kept for ${retain} after its run completed, or until a later date of its own.`;
  return html`<p>
      ${now}
      ${policies.map(({ policy_of: of, retain: kept, set_by: by, set_at: at }) => `The policy ${of === '*' ? 'for everybody' : `of ${of}`} says ${kept}, set by ${by} at ${day(at)}. `)}
    </p>
    ${
      changes.length === 0
        ? html`<p>
            No change of it is
            recorded${since === null ? '' : `; changes are recorded since ${day(since)}`}.
          </p>`
        : html`<table>
            <thead>
              <tr>
                <th>changed</th>
                <th>policy of</th>
                <th>from</th>
                <th>to</th>
                <th>by</th>
              </tr>
            </thead>
            <tbody>
              ${changes.map(changeRow)}
            </tbody>
          </table>`
    }`;
}

function changeRow({
  at,
  policy_of: of,
  before,
  after,
  by,
  role,
  application,
}: RuleChange): Markup {
  const as = role === null ? '' : ` as ${role}`;
  const through = application === null || application === '' ? '' : `, ${application}`;
  return html`<tr>
    <td>${day(at)}</td>
    <td>${of === '*' ? 'everybody' : of}</td>
    <td>${before ?? 'none'}</td>
    <td>${after ?? 'none'}</td>
    <td>${by}${as}${through}</td>
  </tr> `;
}

/** Its line breaks stay; what else steers a page is written visibly. */
function queryOf(query: string): readonly Markup[] {
  return query.split('\n').map((line) => html`${line}<br />`);
}

/** How long policies kept what went, each with its number. */
function lengths(byRetain: Readonly<Record<string, number>>): string {
  const each = Object.entries(byRetain).map(
    ([length, count]) => `${showNumber(count)} for ${length}`,
  );
  return each.length === 0 ? '' : `Kept until then by the policy: ${each.join(', ')}.`;
}
