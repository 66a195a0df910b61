"""How a report looks: one style sheet, the page around the content, and how it begins.

The one idea: a page that needs nothing else. No font, script or picture is loaded; colours are
named once for light and once for dark, paper is always light. The palette is the one of Okabe and
Ito, which people with any colour vision can tell apart. Classes are named by what they mean.
"""

from collections.abc import Iterable, Mapping

from merino_edge.pipeline.markup import Markup, join, tag

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1c2227; --soft: #5b666f; --rule: #d9dee2; --faint: #f2f4f6;
  --accent: #0072b2; --joint: #cfd6db; --ends: #9aa5ad; --c0: #0072b2; --on-c0: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15191d; --ink: #e6eaed; --soft: #a3adb5; --rule: #3a434b; --faint: #20262b;
    --accent: #56b4e9; --joint: #4a555e; --ends: #87929a; --c0: #2b88c8; --on-c0: #101418;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 58rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0 0; }
h2 { font-size: 1.2rem; margin: 0; }
h3 { font-size: 1rem; margin: 1.25rem 0 0.25rem; }
code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.92em; }
p { margin: 0.4rem 0; }
section { border-top: 1px solid var(--rule); margin-top: 2.25rem; padding-top: 1.25rem; }
.lead, .note { color: var(--soft); max-width: 46rem; }
.verdict {
  border-left: 4px solid var(--accent); background: var(--faint); margin: 1rem 0;
  padding: 0.75rem 1rem; font-size: 1.1rem; font-weight: 600;
}
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.25rem; margin: 0; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
th, td {
  text-align: left; vertical-align: top; padding: 0.35rem 0.9rem 0.35rem 0;
  border-bottom: 1px solid var(--rule); font-weight: 400;
}
tbody tr:last-child > * { border-bottom: 0; }
tbody th { min-width: 10rem; }
thead th { color: var(--soft); vertical-align: bottom; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, .shape span { white-space: nowrap; }
li { max-width: 46rem; }
.basis { display: block; color: var(--soft); font-size: 0.85em; white-space: nowrap; }
.reason { display: block; }
.unlimited { color: var(--soft); }
.share-name { margin: 0.9rem 0 0.2rem; }
summary { cursor: pointer; color: var(--accent); }
figure { margin: 1rem 0; }
.plot-box { padding: 8px 14px 26px 68px; }
.y-label { color: var(--soft); font-size: 0.85rem; margin: 0 0 0.25rem; }
.x-label { color: var(--soft); font-size: 0.85rem; margin: 0; text-align: right; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0;
  margin: 0.5rem 0; font-size: 0.9rem; }
svg { display: block; overflow: visible; }
svg text { fill: var(--ink); font-size: 13px; }
svg svg { display: inline; }
.plot { width: 100%; height: 300px; }
.key { display: inline-block; width: 28px; height: 12px; vertical-align: -1px; }
.key.square { width: 18px; height: 18px; vertical-align: -4px; }
.stack { width: 100%; height: 30px; }
.bar { width: 100%; min-width: 5rem; height: 10px; margin: 0.2rem 0 0.35rem; }
.blocks { width: 100%; max-width: 44rem; margin: 1rem 0; }
.strong { font-weight: 600; }
.grid { stroke: var(--rule); }
.frame { fill: none; stroke: var(--soft); }
svg .y-tick, svg .x-tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.y-tick { text-anchor: end; dominant-baseline: central; }
.x-tick { text-anchor: middle; }
.line { fill: none; stroke-width: 2; }
.bound { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 6 5; }
.mark { fill: var(--page); stroke: var(--ink); stroke-width: 2; }
.track { fill: var(--rule); }
.used { fill: var(--accent); }
.segment { stroke: var(--page); stroke-width: 1.5; }
.fill-joint { fill: var(--joint); }
.fill-ends { fill: var(--ends); }
.again { fill-opacity: 0.28; stroke-width: 1; }
.notch { stroke: var(--page); stroke-width: 1.5; }
.loop { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.fill-c0 { fill: var(--c0); } .stroke-c0 { stroke: var(--c0); }
.fill-c1 { fill: #e69f00; } .stroke-c1 { stroke: #e69f00; }
.fill-c2 { fill: #009e73; } .stroke-c2 { stroke: #009e73; }
.fill-c3 { fill: #cc79a7; } .stroke-c3 { stroke: #cc79a7; }
.fill-c4 { fill: #56b4e9; } .stroke-c4 { stroke: #56b4e9; }
.fill-c5 { fill: #d55e00; } .stroke-c5 { stroke: #d55e00; }
.fill-c6 { fill: #8c959c; } .stroke-c6 { stroke: #8c959c; }
svg [class^="on-"] { fill: #101418; text-anchor: middle; dominant-baseline: central; }
svg .on-c0 { fill: var(--on-c0); }
svg .on-joint { fill: var(--ink); }
@media (max-width: 34rem) {
  body { padding: 1rem 0.9rem 3rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: 0.4rem; }
  .basis { white-space: normal; }
  tbody th { min-width: 7rem; }
  .plot { height: 240px; }
  .plot-box { padding-left: 58px; }
  svg text { font-size: 12.5px; }
}
@media print {
  :root {
    color-scheme: light; --page: #ffffff; --ink: #000000; --soft: #444444; --rule: #cccccc;
    --faint: #f4f4f4; --accent: #0072b2; --joint: #cfd6db; --ends: #9aa5ad; --c0: #0072b2;
    --on-c0: #ffffff;
  }
  body { max-width: none; padding: 0; font-size: 11pt; }
  h2, .lead, .share-name, .y-label { break-after: avoid; }
  figure, tr, .blocks, .stack { break-inside: avoid; }
  .scroll { overflow: visible; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""


def head(title: Iterable[object], verdict: object, lead: object, facts: Markup) -> Markup:
    """What a page begins with: its title, the verdict, what it is about, and the facts."""
    return join(
        [
            tag("h1", *title),
            tag("p", verdict, class_="verdict"),
            tag("p", lead, class_="lead"),
            facts,
        ]
    )


def fact_list(facts: Mapping[str, object]) -> Markup:
    """Names and what is known under them; None is left out."""
    known = [(name, value) for name, value in facts.items() if value is not None]
    listed = [join([tag("dt", name), tag("dd", value)]) for name, value in known]
    return tag("dl", *listed, class_="facts")


def page(title: str, *content: object) -> str:
    """A whole HTML document that refers to nothing outside itself."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    document = tag("html", head, tag("body", tag("main", *content)), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"
