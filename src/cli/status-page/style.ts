/** The style sheet of the status page: one column on a phone, two on a desktop; light or dark as the system is. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #fff; --line: #e3e6eb; --text: #16191f; --soft: #5b6472; --track: #e9ecf1;
  --near: #0e9f6e; --lan: #5cc8a1; --cohort: #6d5bd0; --clients: #b7aaf0; --far: #e08a1e;
  --good: #0b7a55; --good-bg: #def5ea; --bad: #a33a08; --bad-bg: #fdebd9; --calm-bg: #eceff4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --card: #181c22; --line: #2a3039; --text: #eceff3; --soft: #98a2b1; --track: #262c35;
    --near: #2bc48a; --lan: #1c7f5d; --cohort: #8f80ee; --clients: #564a9c; --far: #f0a23c;
    --good: #62dcab; --good-bg: #12372a; --bad: #ffb575; --bad-bg: #43270f; --calm-bg: #262c35;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1rem; }
main { display: grid; gap: 1rem; padding-top: 1.25rem; grid-template-columns: minmax(0, 1fr); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.1rem 1.25rem; min-width: 0; }
#top { background: none; border: 0; padding: 0; display: flex; flex-wrap: wrap; align-items: center; gap: .4rem 1rem; }
h1 { font-size: 1.35rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1rem; margin: 0 0 .7rem; }
.head h2 { margin: 0; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .35rem 0; }
a { color: inherit; }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
.num { font-variant-numeric: tabular-nums; white-space: nowrap; }
.pill { display: inline-block; border-radius: 99px; padding: .1rem .65rem; font-size: .85rem; font-weight: 600; background: var(--calm-bg); color: var(--soft); white-space: nowrap; }
.pill.good { background: var(--good-bg); color: var(--good); }
.pill.bad { background: var(--bad-bg); color: var(--bad); }
.problems { margin: 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.head + svg { margin-top: .7rem; }
svg + .item, ul.legend + .item { margin-top: .8rem; }
#problems { background: var(--bad-bg); border-color: transparent; color: var(--bad); }
.figure { font-size: clamp(2.6rem, 9vw, 4rem); font-weight: 750; line-height: 1.05; letter-spacing: -.035em; color: var(--near); margin: 0; }
.figure small { font-size: .5em; letter-spacing: -.01em; font-weight: 650; margin-left: .12em; }
.lead { font-size: 1.1rem; font-weight: 600; margin: .1rem 0 .8rem; }
svg { display: block; width: 100%; }
svg.share { height: 12px; border-radius: 99px; background: var(--track); }
svg.meter { height: 6px; border-radius: 99px; background: var(--track); margin-top: .3rem; }
svg.bars { height: 92px; margin-top: .9rem; }
.neighbours { fill: var(--near); } .lanCaches { fill: var(--lan); } .cohort { fill: var(--cohort); }
.clients { fill: var(--clients); } .caches { fill: var(--far); } .track { fill: var(--track); }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; padding: 0; margin: .55rem 0 0; font-size: .875rem; }
.legend svg { display: inline-block; width: 10px; height: 10px; margin-right: .4rem; }
ul.nars { list-style: none; padding: 0; margin: .9rem 0 0; font-size: .875rem; }
.nars li { display: grid; grid-template-columns: minmax(0, 1fr) max-content minmax(0, 14rem); gap: 0 1rem; padding: .15rem 0; }
.nars li > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.axis { display: flex; justify-content: space-between; font-size: .78rem; color: var(--soft); margin-top: .25rem; }
.item + .item { border-top: 1px solid var(--line); margin-top: .9rem; padding-top: .9rem; }
.head { display: flex; flex-wrap: wrap; gap: .3rem .7rem; align-items: center; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; margin: .45rem 0 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: .4rem; font-size: .875rem; } summary { cursor: pointer; color: var(--bad); font-weight: 600; }
ul.paths { margin: .3rem 0; padding-left: 1.1rem; overflow-wrap: anywhere; }
code { font: .85em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .82rem; padding: 0 .6rem .3rem 0; }
td { padding: .4rem .6rem .4rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th.num, td.num { text-align: right; } th:last-child, td:last-child { padding-right: 0; }
td.holds { width: 26%; min-width: 7rem; }
footer { color: var(--soft); font-size: .85rem; padding-top: 1rem; padding-bottom: 2rem; }
#lost { position: sticky; top: 0; background: var(--bad-bg); color: var(--bad); padding: .5rem 1rem; text-align: center; font-weight: 600; }
#lost[hidden] { display: none; }
@media (min-width: 52rem) {
  main { grid-template-columns: minmax(0, 6fr) minmax(0, 5fr); grid-auto-flow: dense; align-items: start; }
  #top, #problems, #month, #now { grid-column: 1 / -1; }
  #subscriptions { grid-column: 1; grid-row: span 3; }
  #day, #neighbours, #maps { grid-column: 2; }
  #month .wide { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 2rem; align-items: end; }
}
@media (max-width: 30rem) {
  .nars li { grid-template-columns: minmax(0, 1fr) max-content; }
  .nars .from { grid-column: 1 / -1; }
  section { padding: .95rem 1rem; }
  table { font-size: .84rem; }
  td, td.num { padding-right: .45rem; }
  td.holds { min-width: 5.2rem; }
}
`;
