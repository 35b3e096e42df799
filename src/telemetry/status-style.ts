import { createHash } from 'node:crypto';
import { Markup } from '../html.ts';

const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --text: #1c2128; --quiet: #5c6673; --line: #e2e6eb;
  --flagged: #c9861a; --cleared: #12867a; --bad: #c2352b; --code: #eef0f3;
  --good-soft: #d9f0e9; --good-text: #0b5d4f; --warn-soft: #fbecc9; --warn-text: #744a04;
  --bad-soft: #fbdedb; --bad-text: #8f1f17;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141a; --card: #191f27; --text: #e4e8ed; --quiet: #98a3b0; --line: #2b333d;
    --flagged: #e0a844; --cleared: #3fb8a6; --bad: #ef6b60; --code: #242c36;
    --good-soft: #143a34; --good-text: #8fe3d3; --warn-soft: #43340f; --warn-text: #f5d58a;
    --bad-soft: #4a1d1a; --bad-text: #ffb4ad;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK KR", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
main { max-width: 70rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem 1rem; margin-bottom: 1rem; }
h1 { font-size: 1.3rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1rem; margin: 0 0 .6rem; }
p { margin: 0; }
header p { color: var(--quiet); font-size: .87rem; }
.installation { overflow-wrap: anywhere; }
.installation b { color: var(--text); font-weight: 600; }
.as-of { margin-left: auto; }
a { color: inherit; text-decoration: underline; text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--cleared); outline-offset: 2px; border-radius: 4px; }
.unseen { position: absolute; width: 1px; height: 1px; margin: 0; overflow: hidden; clip-path: inset(50%); }
.pill { border-radius: 99px; padding: .15rem .7rem; font-size: .87rem; font-weight: 600; white-space: nowrap; }
.good { background: var(--good-soft); color: var(--good-text); }
.warn { background: var(--warn-soft); color: var(--warn-text); }
.bad { background: var(--bad-soft); color: var(--bad-text); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.1rem; margin-top: 1rem; }
.notes { list-style: none; margin: 0; padding: 0; display: grid; gap: .5rem; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.notes li { border-radius: 10px; padding: .6rem .9rem; overflow-wrap: anywhere; }
.notes .urgent { grid-column: 1 / -1; border-left: 5px solid currentColor; }
.notes .command { background: var(--card); color: var(--text); }
.notes code { background: transparent; }
.do { display: block; margin-top: .45rem; }
.tiles { display: grid; grid-template-columns: repeat(5, 1fr); gap: .75rem; margin-top: 1rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .75rem .9rem; min-width: 0; }
.tile dt { color: var(--quiet); font-size: .85rem; }
.tile dd { margin: 0; }
.tile .figure { font-size: 1.45rem; line-height: 1.3; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; }
.tile .under { color: var(--quiet); font-size: .82rem; min-height: 1.2em; }
.tile.alarm .figure { color: var(--bad); }
.chart-head { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; align-items: baseline; margin-bottom: .6rem; }
.chart-head h2 { margin: 0; margin-right: auto; }
.key { font-size: .87rem; color: var(--quiet); white-space: nowrap; }
.key b { color: var(--text); font-weight: 600; }
.key i { display: inline-block; width: .7em; height: .7em; border-radius: 3px; margin-right: .4em; }
svg { display: block; width: 100%; height: 9.5rem; }
.flagged { fill: var(--flagged); background: var(--flagged); }
.cleared { fill: var(--cleared); background: var(--cleared); }
.refused { fill: var(--bad); background: var(--bad); }
.axis { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.hours { display: flex; justify-content: space-between; color: var(--quiet); font-size: .8rem; margin-top: .35rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start; }
.pair > * { min-width: 0; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
dl.facts dt { color: var(--quiet); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; color: var(--quiet); font-size: .82rem; padding: 0 .9rem .35rem 0; vertical-align: bottom; }
td { padding: .5rem .9rem .5rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
.quiet { color: var(--quiet); }
.alarm-text { color: var(--bad); font-weight: 600; }
.small { font-size: .85rem; }
.nothing { color: var(--quiet); }
code { font: .88em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: var(--code); border-radius: 5px; padding: .1em .35em; overflow-wrap: anywhere; user-select: all; }
.command { display: block; margin-top: .3rem; padding: .35em .6em; }
.phrase { display: inline-block; max-width: 100%; }
.word { white-space: nowrap; }
.apart { margin-top: .9rem; }
time { white-space: nowrap; }
details { border-top: 1px solid var(--line); padding-top: .5rem; }
summary { cursor: pointer; color: var(--quiet); font-size: .87rem; padding: .15rem 0; }
.rest { margin-top: .6rem; }
footer { color: var(--quiet); font-size: .82rem; margin-top: 1.25rem; }
@media (max-width: 60rem) { .pair { grid-template-columns: 1fr; gap: 0; } .tiles { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 44rem) {
  main { padding: 1rem .75rem 2rem; }
  .as-of { margin-left: 0; width: 100%; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .card { padding: .9rem; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody { display: block; }
  tr { display: grid; grid-template-columns: 1fr 1fr; column-gap: 1rem; border-top: 1px solid var(--line); padding: .6rem 0; }
  tbody tr:first-child { border-top: 0; padding-top: 0; }
  tbody tr:last-child { padding-bottom: 0; }
  td { grid-column: 1 / -1; border: 0; padding: .1rem 0; display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: .6rem; }
  td > div { min-width: 0; }
  td::before { content: attr(data-label); color: var(--quiet); font-size: .87rem; overflow-wrap: normal; }
  td.number { grid-column: auto; grid-template-columns: minmax(0, 1fr) auto; text-align: right; }
  td.number::before { text-align: left; white-space: normal; }
  td.empty { display: none; }
}
`;

/** The style sheet of the status page, which stands in the page itself. */
export const STYLE_ELEMENT = new Markup(`<style>${STYLE}</style>`);

/** Nothing but this very style sheet and the icon in the page; no script at all. */
export const STYLE_POLICY =
  `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; ` +
  "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
