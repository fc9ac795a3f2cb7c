"""How pictures and pages look: light and dark, on a screen and on paper."""

from __future__ import annotations

# Colours help, but nothing depends on them: what differs has another shape, hatching,
# or a word.
_LIGHT = """
    --paper: #ffffff; --ink: #1b1f24; --quiet: #59636e; --rule: #d1d9e0;
    --panel: #f6f8fa; --bad: #b3261e; --bad-panel: #fff0ee; --arrow: #8a3ffc;
    --lane-0: #0b5cad; --lane-1: #9a4b00; --lane-2: #1a7040; --lane-3: #8b2f6f;
    --lane-4: #0f6b78; --lane-5: #6b5200;
"""
_DARK = """
    --paper: #14171c; --ink: #e6e9ee; --quiet: #9aa4b0; --rule: #363d47;
    --panel: #1c2027; --bad: #ff8a80; --bad-panel: #3a1d1c; --arrow: #c8a2ff;
    --lane-0: #79b8ff; --lane-1: #ffb069; --lane-2: #7fd8a2; --lane-3: #f29bd4;
    --lane-4: #76d4e0; --lane-5: #e0c35c;
"""
LANES = 6

SVG = (
    "svg.timeline { color-scheme: light dark; background: var(--paper);"
    " color: var(--ink);"
    + _LIGHT
    + "}\n@media (prefers-color-scheme: dark) { svg.timeline {"
    + _DARK
    + "} }\n@media print { svg.timeline {"
    + _LIGHT
    + """ print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
.timeline text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; fill: var(--ink); white-space: pre; }
.timeline .lane rect { fill: var(--panel); stroke: var(--rule); }
.timeline .lane text { font-weight: bold; font-size: 14px; fill: var(--hue);
  text-anchor: middle; }
.timeline .row { stroke: var(--rule); stroke-dasharray: 1 4; }
.timeline .number { fill: var(--quiet); text-anchor: end; font-size: 11px; }
.timeline .box rect { fill: var(--paper); stroke: var(--hue); stroke-width: 1.5; }
.timeline .box.end rect { fill: var(--hue); }
.timeline .box.end text { fill: var(--paper); font-weight: bold; }
.timeline .box.rollback rect { stroke-width: 2.5; stroke-dasharray: 6 3; }
.timeline .box.rollback text { fill: var(--hue); font-weight: bold; }
.timeline .box.call rect { fill: var(--panel); stroke-width: 1; }
.timeline .box.call text { fill: var(--quiet); }
.timeline .box.checkpoint rect { fill: var(--panel); stroke-dasharray: 2 2; }
.timeline .box.error rect { fill: var(--bad-panel); stroke: var(--bad);
  stroke-width: 2.5; }
.timeline .box.error text { fill: var(--bad); font-weight: bold; }
.timeline .bracket { fill: none; stroke: var(--hue); stroke-width: 2.5; }
.timeline .bracket.rollback { stroke-dasharray: 6 3; }
.timeline .wait .hatched { stroke: var(--hue); stroke-width: 1; stroke-dasharray: 4 3; }
.timeline .hatch { stroke: var(--hue); stroke-width: 1.5; opacity: .6; }
.timeline .plate { fill: var(--paper); stroke: var(--hue); }
.timeline .wait text, .timeline .badge text { text-anchor: middle; }
.timeline .wait text { font-style: italic; }
.timeline .arrow path { fill: none; stroke: var(--paper); stroke-width: 6; }
.timeline .arrow path.line { stroke: var(--arrow); stroke-width: 2; }
.timeline .head { fill: var(--arrow); }
.timeline .badge circle { fill: var(--arrow); stroke: var(--paper); stroke-width: 1.5; }
.timeline .badge text { fill: var(--paper); font-weight: bold; }
.timeline .caption { fill: var(--ink); }
.timeline a:focus-visible { outline: none; }
.timeline a:focus-visible rect, .timeline .box:hover rect, .timeline .box:target rect {
  stroke-width: 4; stroke-dasharray: none; }
"""
    + "".join(
        f".timeline .hue-{n} {{ --hue: var(--lane-{n}); }}\n" for n in range(LANES)
    )
)

PAGE = (
    ":root { color-scheme: light dark;"
    + _LIGHT
    + "}\n@media (prefers-color-scheme: dark) { :root {"
    + _DARK
    + "} }\n"
    + """
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 90rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; line-height: 1.3; overflow-wrap: anywhere; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
pre, code, td.what { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; font-size: .85rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0;
  background: var(--panel); border: 1px solid var(--rule); border-radius: 6px;
  padding: .6rem .8rem; }
pre.verdict { border-left: 5px solid var(--bad); }
dt { font-weight: 600; margin-top: .8rem; }
dd { margin: .2rem 0 0; }
.picture { overflow: auto; border: 1px solid var(--rule); border-radius: 6px; }
.picture svg { display: block; margin: 0 auto; }
.scroll { overflow-x: auto; }
:focus-visible { outline: 3px solid var(--arrow); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
td.what { overflow-wrap: anywhere; min-width: 16rem; }
td.what code { color: var(--quiet); font-size: .78rem; display: block; }
td.place { color: var(--quiet); min-width: 14rem; }
td.place span { display: block; overflow-wrap: anywhere; }
tr:target { background: var(--panel); outline: 2px solid var(--arrow); }
a { color: inherit; }
.legend { color: var(--quiet); font-size: .9rem; }
@media (max-width: 40rem) { thead { display: none; }
  tr { display: grid; grid-template-columns: 2rem 1fr; padding: .4rem 0;
    border-bottom: 1px solid var(--rule); }
  th, td { border: 0; padding: 0; } td { grid-column: 2; } td.number { grid-column: 1;
    grid-row: 1; } td.session { font-weight: 600; }
  td.what, td.place { min-width: 0; } }
@media print { :root {"""
    + _LIGHT
    + """}
  body { padding: 0; max-width: none; }
  .picture, .scroll { overflow: visible; border: 0; }
  .picture svg { max-width: 100%; height: auto; } tr { break-inside: avoid; } }
"""
)
