import { type Insertion, Markup, html } from '../html.ts';
import { STYLE_ELEMENT } from './status-style.ts';

/** Which installation a page is of, so that one is not taken for another. */
export interface Installation {
  /** `host:port/database`, without user and password. */
  readonly target: string;
  /** The version of this program. */
  readonly version: string;
}

const ICON =
  'data:image/svg+xml,%3Csvg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"%3E%3Cpath fill="none" stroke="%2312867a" stroke-width="2.4" stroke-linecap="round" d="M13.5 8A5.5 5.5 0 1 1 8 2.5M8 2.5h3.6M8 5v3.2l2 1.6"/%3E%3C/svg%3E';

/** A whole page: its title says what it shows, of which database, and by which version. */
export function framePage(page: {
  readonly installation: Installation;
  /** What it shows, in a word or two, for the title. */
  readonly subject: string;
  /** What stands beside the heading. */
  readonly beside: Insertion;
  readonly content: Insertion;
}): string {
  const { installation, subject, beside, content } = page;
  const { host, database } = splitTarget(installation.target);
  const title = `${subject}: ${database} on ${host} - Retention Reactor ${installation.version}`;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="robots" content="noindex" />
        <title>${title}</title>
        <link rel="icon" href="${new Markup(ICON.replaceAll('"', '%22'))}" />
        ${STYLE_ELEMENT}
      </head>
      <body>
        <main>
          <header>
            <div>
              <h1>Retention Reactor</h1>
              <p class="installation">
                <b>${showName(database)}</b> on <b>${showName(host)}</b>, version
                ${installation.version}
              </p>
            </div>
            ${beside}
          </header>
          ${content}
        </main>
      </body>
    </html> `.text;
}

/** Of `host:port/database`; the path of a socket has slashes of its own. */
function splitTarget(target: string): { readonly host: string; readonly database: string } {
  const at = target.lastIndexOf('/');
  if (at < 0) return { host: target, database: 'a database' };
  return { host: target.slice(0, at), database: target.slice(at + 1) };
}

/** Longer parts of a name may break anywhere: a phone has no room for them. */
const LONGEST_WORD = 26;

/** A name that breaks behind its separators, and not inside its words. */
export function showName(name: string): Insertion {
  if (name.length <= LONGEST_WORD) return html`<span class="word">${name}</span>`;
  return (name.match(/[^-._/:@\s]+[-._/:@\s]*|[-._/:@\s]+/gu) ?? []).map((part) =>
    part.length > LONGEST_WORD ? part : html`<span class="word">${part}</span><wbr />`,
  );
}
