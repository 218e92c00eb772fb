"""How the check's page looks, in light and in dark; filters are plain CSS, so no script runs."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1e; --faint: #6b6b70;
  --card: #f5f5f7; --line: #d8d8dc; --error: #b3261e; --warning: #8a5a00; --note: #28598a; }
@media (prefers-color-scheme: dark) { :root { --ground: #17181a; --ink: #ececee; --faint: #9d9da3;
  --card: #212226; --line: #38393e; --error: #ff8a80; --warning: #f0b95c; --note: #8ab8e8; } }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem; background: var(--ground);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; }
.faint, figcaption, .remedy { color: var(--faint); }
.error > .code { color: var(--error); } .warning > .code { color: var(--warning); }
.note > .code { color: var(--note); }
.code { font-weight: 600; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line); }
td.number { text-align: right; }
a { color: inherit; }
ul { margin: .4rem 0; padding: 0; list-style: none; }
li { margin: .25rem 0; overflow-wrap: anywhere; }
.case { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; margin: .7rem 0; }
.case:target { outline: 2px solid var(--note); }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; margin-top: .5rem; }
figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; background: #000; border-radius: 4px; }
figcaption { font-size: .8rem; }
input[name=show] { position: absolute; opacity: 0; }
input[name=show] + label { display: inline-block; padding: .25rem .8rem; margin: .2rem .3rem 0 0;
  border: 1px solid var(--line); border-radius: 999px; cursor: pointer; }
input[name=show]:checked + label { background: var(--ink); color: var(--ground); }
input[name=show]:focus-visible + label { outline: 2px solid var(--note); }
#show-error:checked ~ .case:not(.has-error), #show-warning:checked ~ .case:not(.has-warning),
#show-note:checked ~ .case:not(.has-note), #show-clean:checked ~ .case:not(.is-clean)
{ display: none; }
@media print { input[name=show] + label { display: none; } .case { break-inside: avoid; } }
"""
