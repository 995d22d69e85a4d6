"""The style sheet of the page, for light and dark screens, phones and paper."""

from tskd_tf.report.figures.palette import DARK, LIGHT, Palette


def style() -> str:
    """The page's style sheet; printed pages are always light."""
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media {DARK_SCREEN} {{ :root {{ {_variables(DARK)} }} }}\n{_RULES}"
    )


def _variables(palette: Palette) -> str:
    return " ".join(f"--{name}: {code};" for name, code in palette._asdict().items())


DARK_SCREEN = "screen and (prefers-color-scheme: dark)"
_RULES = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .2rem 0 .6rem;
  text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .8rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p { max-width: 48rem; margin: .6rem 0; }
.badge { font-weight: 700; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.note, figcaption, caption { color: var(--soft); font-size: .875rem; }
.numbers { display: grid; gap: .75rem; margin: 1.4rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); }
.numbers li { background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .8rem 1rem; }
.numbers b { display: block; font-size: 1.9rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.numbers span { display: block; font-weight: 600; line-height: 1.35; }
.numbers small { display: block; color: var(--soft); font-size: .8125rem;
  line-height: 1.4; margin-top: .25rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9375rem; }
caption { text-align: left; padding-bottom: .4rem; }
caption span { display: block; position: sticky; left: 0; width: max-content;
  max-width: min(48rem, calc(100vw - 2rem)); }
th, td { text-align: right; padding: .35rem .7rem; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; }
thead th { font-size: .8125rem; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.words td, table.words th { text-align: left; white-space: normal; }
table.words td { overflow-wrap: anywhere; }
table.files tbody th { min-width: 9rem; }
table.matrix th, table.matrix td { text-align: right; padding: .3rem .5rem;
  border: 1px solid var(--line); vertical-align: middle; }
table.matrix thead th { text-align: center; }
table.spelled th { min-width: 5.5rem; overflow-wrap: anywhere; }
table.named tbody th { min-width: 5.5rem; overflow-wrap: anywhere; }
table.matrix .zero { color: var(--soft); }
table.matrix .hit { font-weight: 700; border: 2px solid var(--soft);
  background: color-mix(in srgb, var(--hit) var(--shade), var(--paper)); }
table.matrix .miss {
  background: color-mix(in srgb, var(--miss) var(--shade), var(--paper)); }
.figures { display: grid; gap: 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 40rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: .4rem; }
.ranges { display: block; max-width: 48rem; margin: .8rem 0; overflow: visible;
  font-size: .875rem; }
.ranges text { fill: var(--ink); stroke: var(--paper); stroke-width: 4px;
  paint-order: stroke; }
.ranges .tick { stroke: var(--line); }
.ranges .place { fill: var(--soft); font-size: .8125rem; }
.ranges .limit { stroke: var(--ink); stroke-dasharray: 4 3; }
.ranges .span { stroke-width: 2; }
.teacher { stroke: var(--teacher); fill: var(--teacher); }
.student { stroke: var(--student); fill: var(--student); }
.control { stroke: var(--ink); fill: var(--ink); }
.pictures { display: grid; gap: .9rem; margin: 1rem 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); }
.pictures img { display: block; width: 100%; max-width: 7rem; aspect-ratio: 1;
  object-fit: contain; image-rendering: pixelated; background: var(--card);
  border: 1px solid var(--line); }
.pictures span { display: block; font-size: .8125rem; line-height: 1.35;
  margin-top: .3rem; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.5 ui-monospace, monospace; margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
:focus-visible { outline: 2px solid var(--teacher); outline-offset: 2px; }
@media print {
  @page { margin: 15mm; }
  html { font-size: 10pt; }
  body { max-width: none; padding: 0; print-color-adjust: exact; }
  h2, h3, h3 + .note, caption, summary, p:has(+ pre) { break-after: avoid; }
  figure, svg, pre, tr, .numbers li, .pictures li { break-inside: avoid; }
  table { break-inside: avoid; }
  thead { display: table-header-group; }
  th, td { padding: .25rem .45rem; }
  .wide { overflow: visible; }
  caption span { position: static; width: auto; }
  .numbers { grid-template-columns: repeat(4, 1fr); }
  .figures { grid-template-columns: 1fr 1fr; }
}
"""
