/** The style of the printed page: black on white, and A4 or Letter. */
export const PAGE_STYLE = `
@page { margin: 16mm 16mm 14mm; }
* { box-sizing: border-box; }
body {
  margin: 0; background: #fff; color: #16191d; font-variant-numeric: tabular-nums;
  font: 11.5px/1.42 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK KR", "DejaVu Sans", sans-serif;
}
main { max-width: 46rem; margin: 0 auto; padding: 1.25rem 1rem; }
header { border-bottom: 2px solid #16191d; padding-bottom: .5rem; }
h1 { font-size: 1.75em; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.1em; margin: 1.05em 0 .25em; break-after: avoid; }
p { margin: 0 0 .35em; }
header p { margin: .15em 0 0; }
.who { font-size: 1.3em; font-weight: 600; overflow-wrap: anywhere; }
.sum { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: .7rem; }
.sum div { flex: 1 1 8rem; border: 1px solid #c9ced6; border-radius: 6px; padding: .4rem .6rem; color: #444c56; }
.sum b { display: block; font-size: 1.55em; line-height: 1.2; color: #16191d; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; color: #4d5661; padding: 0 .8rem .2rem 0; }
td { border-top: 1px solid #dde1e6; padding: .2rem .8rem .2rem 0; vertical-align: top; overflow-wrap: anywhere; }
tr { break-inside: avoid; }
.number { text-align: right; width: 4.5rem; font-weight: 600; white-space: nowrap; }
pre { margin: .3em 0 0; padding: .5em .7em; background: #f3f4f6; border-radius: 6px; font: .85em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.2em; }
li { margin: 0 0 .15em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1em; margin: 0; }
dt { color: #4d5661; }
dd { margin: 0; overflow-wrap: anywhere; }
@media print { main { padding: 0; max-width: none; } body { font-size: 9.6px; } }
`;
