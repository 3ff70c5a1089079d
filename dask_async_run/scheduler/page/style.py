"""How the page looks: its template and its style sheets, light and dark."""

from __future__ import annotations

from dask_async_run.job import State
from dask_async_run.looks import COLOURS

_DARK: dict[State, str] = {
    State.PENDING: "#9aa4af",
    State.RUNNING: "#6cb2f7",
    State.FINISHED: "#57c26d",
    State.FAILED: "#ff7b72",
    State.CANCELLED: "#d8b04a",
    State.TIMED_OUT: "#d8b04a",
    State.LOST: "#ff7b72",
}


def _states(colours: dict[State, str]) -> str:
    return "".join(f"--ar-{state}:{colour};" for state, colour in colours.items())


PAGE = f"""
:root {{
  color-scheme: light dark;
  --ar-page:#fafafa; --ar-panel:#ffffff; --ar-ink:#1f2328; --ar-muted:#59636e;
  --ar-line:#d9dee3; --ar-soft:#f1f3f5; --ar-chosen:#dcebfb; --ar-accent:#0b63c4;
  --ar-danger:#c62f2f; {_states(COLOURS)}
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ar-page:#121417; --ar-panel:#1a1d21; --ar-ink:#e3e6ea; --ar-muted:#9aa4af;
    --ar-line:#33383f; --ar-soft:#22262b; --ar-chosen:#1d3a5c; --ar-accent:#6cb2f7;
    --ar-danger:#ff7b72; {_states(_DARK)}
  }}
  .navbar ul, .dropdown-content {{ background-color:#22262b !important; }}
  .navbar li a {{ color:#e3e6ea !important; }}
  .navbar li:hover, .navbar li.active {{ background-color:#7a4a17 !important; }}
}}
html {{ background:var(--ar-page); }}
body {{ color:var(--ar-ink); height:auto; padding-top:0; }}
.navbar {{ position:sticky; margin:0 -10px; }}  /* of two lines where there is little width */
#ar {{ max-width:1500px; margin:0 auto; padding:14px 6px 30px; font-size:14px; }}
#ar .filters {{ display:flex; flex-wrap:wrap; gap:4px 12px; align-items:flex-end; }}
#ar .filters > .grow {{ flex:1 1 220px; text-align:right; padding-bottom:8px; }}
#ar section {{ background:var(--ar-panel); border:1px solid var(--ar-line); border-radius:6px;
  padding:8px 10px; margin-top:10px; min-width:0; }}
#ar section.bare {{ padding:0; overflow:hidden; }}
#ar h2 {{ font-size:13px; font-weight:600; margin:0 0 4px; color:var(--ar-muted); }}
#ar .line {{ display:flex; flex-wrap:wrap; gap:6px 12px; align-items:center;
  justify-content:space-between; }}
#ar .facts {{ flex:1 1 420px; min-width:0; }}
#ar .two {{ display:grid; grid-template-columns:repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap:10px 16px; margin-top:8px; }}
#ar .two > div {{ min-width:0; }}
"""

_SHARED = """
:host { color:var(--ar-ink); font-family:Helvetica, Arial, sans-serif; }
.s { font-weight:600; white-space:nowrap; }
""" + "".join(f".s.{state} {{ color:var(--ar-{state}); }}\n" for state in State)

HTML = (
    _SHARED
    + """
.bk-clearfix { display:block !important; width:100%; }
.muted { color:var(--ar-muted); }
.facts { display:flex; flex-wrap:wrap; gap:2px 14px; align-items:baseline; font-size:14px;
  font-variant-numeric:tabular-nums; }
.facts .muted { font-size:13px; white-space:nowrap; }
.why { font-size:13px; overflow-wrap:anywhere; }
p { margin:4px 0; }
h2 { font-size:13px; font-weight:600; margin:0 0 4px; color:var(--ar-muted); }
.tail { display:flex; flex-direction:column-reverse; max-height:300px; overflow:auto;
  background:var(--ar-soft); border-radius:4px; width:0; min-width:100%; }
.tail pre { overflow:visible; max-height:none; width:max-content; min-width:100%; }
pre { width:0; min-width:100%; box-sizing:border-box; margin:0; padding:8px 10px;
  max-height:300px; overflow:auto; background:var(--ar-soft);
  border-radius:4px; font:12.5px/1.45 ui-monospace, Menlo, Consolas, monospace; white-space:pre;
  color:var(--ar-ink); }
img { max-width:100%; max-height:360px; background:#fff; border-radius:4px; }
iframe { width:100%; height:260px; border:1px solid var(--ar-line); border-radius:4px;
  background:#fff; }
.ask { font-size:14px; }
.good { color:var(--ar-finished); } .bad { color:var(--ar-failed); }
"""
)

WIDGET = """
:host { color:var(--ar-ink); font-family:Helvetica, Arial, sans-serif; }
label, .bk-input-group > label { color:var(--ar-muted); font-size:12px; }
.bk-input { background-color:var(--ar-panel); color:var(--ar-ink);
  border-color:var(--ar-line); font-size:14px; }
.bk-input:focus-visible { outline:2px solid var(--ar-accent); outline-offset:0; }
select.bk-input option { background:var(--ar-panel); color:var(--ar-ink); }
.bk-btn, .bk-btn-default { background:var(--ar-panel); color:var(--ar-ink);
  border:1px solid var(--ar-line); font-size:14px; padding:5px 12px; }
.bk-btn:hover:not([disabled]) { background:var(--ar-soft); color:var(--ar-ink); }
.bk-btn:focus-visible { outline:2px solid var(--ar-accent); outline-offset:1px; }
.bk-btn[disabled], .bk-btn[disabled]:hover { opacity:.45; background:var(--ar-panel);
  color:var(--ar-ink); border-color:var(--ar-line); }
select.bk-input { appearance:auto; color-scheme:light dark; background-image:none;
  padding-right:6px; }
.bk-btn-danger { color:var(--ar-danger); border-color:var(--ar-danger); }
"""

TABLE = (
    _SHARED
    + """
:host { --ar-font:13px Helvetica, Arial, sans-serif; }
.bk-data-table, .slick-viewport, .slick-pane, .grid-canvas { background:var(--ar-panel); }
.bk-data-table { border:none; font:var(--ar-font); z-index:0; }
.slick-header, .slick-header-columns { background:var(--ar-soft) !important;
  border-color:var(--ar-line) !important; }
.slick-header-column.ui-state-default, .slick-header-column {
  background:var(--ar-soft) !important; color:var(--ar-muted) !important; font-weight:600;
  border-right:none !important; border-bottom:1px solid var(--ar-line) !important; height:28px;
  padding:5px 8px 3px; }
.slick-header-column-sorted { font-style:normal !important; color:var(--ar-ink) !important; }
.slick-sort-indicator { background:none !important; width:auto; height:auto; position:absolute;
  top:5px; right:3px; margin:0; }
.slick-sort-indicator-desc::after { content:"▾"; }
.slick-sort-indicator-asc::after { content:"▴"; }
.slick-row { background:var(--ar-panel); color:var(--ar-ink); }
.slick-row.odd { background:var(--ar-panel) !important; }
.slick-row:hover { background:var(--ar-soft) !important; }
.slick-cell { border:none !important; border-bottom:1px solid var(--ar-line) !important;
  padding:6px 8px 0 !important; font-variant-numeric:tabular-nums; background:none; }
.slick-cell.selected, .slick-row .slick-cell.selected {
  background:var(--ar-chosen) !important; color:var(--ar-ink) !important; }
.slick-cell.active { outline:2px solid var(--ar-accent); outline-offset:-2px; }
.bar { display:inline-block; width:calc(100% - 48px); height:8px; border-radius:4px;
  background:var(--ar-line); overflow:hidden; vertical-align:middle; }
.bar i { display:block; height:100%; background:var(--ar-running); }
.n { display:inline-block; width:42px; text-align:right; }
"""
)

TEMPLATE = (
    """\
{% extends "base.html" %}
{% block extra_resources %}
<style>"""
    + PAGE
    + """
{% if embedded %}
.navbar { display:none; }
body { padding:0 4px; }
#ar { padding:6px 0; }
{% endif %}
</style>
{% endblock %}
{% block content %}
{% from macros import embed %}
<main id="ar">
  <div class="filters">
    {{ embed(roots.notebook) }}{{ embed(roots.state) }}{{ embed(roots.word) }}
    <div class="grow" role="status">{{ embed(roots.summary) }}</div>
  </div>
  <section class="bare" aria-label="Jobs">{{ embed(roots.table) }}</section>
  <section aria-label="The selected job">
    <div class="line">
      <div class="facts">{{ embed(roots.facts) }}</div>{{ embed(roots.actions) }}
    </div>
    <div role="alert">{{ embed(roots.question) }}</div>
    <div class="two">
      <div>{{ embed(roots.output) }}{{ embed(roots.picture) }}</div>
      <div>{{ embed(roots.source) }}{{ embed(roots.usage) }}</div>
    </div>
  </section>
  <section aria-label="Timeline">
    <div class="line"><h2>Timeline</h2>{{ embed(roots.window) }}</div>
    {{ embed(roots.timeline) }}
  </section>
</main>
{{ plot_script }}
{% endblock %}
"""
)
