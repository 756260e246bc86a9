"""The style sheet and the colours of the page of a latency measurement."""

from __future__ import annotations

from tools.latency.figures import WHOLE

_WAITING = ("wait", "hand over")
_COLOURS = {
    "capture": "var(--c1)",
    "track": "var(--c2)",
    "motion": "var(--c3)",
    "generate": "var(--c4)",
    "publish": "var(--c5)",
    "send": "var(--c6)",
}
_MORE = ("var(--c4)", "var(--c2)", "var(--c3)", "var(--c1)", "var(--c5)", "var(--c6)")


def colour(stage: str, index: int) -> str:
    """Return the CSS colour of a stage: grey for waiting, the text's colour for the sum."""
    if stage in _WAITING:
        return "var(--waiting)"
    if stage == WHOLE:
        return "var(--whole)"
    return _COLOURS.get(stage) or _MORE[index % len(_MORE)]


STYLE = """
:root{--ground:#f6f5f2;--paper:#fff;--ink:#1c1f26;--soft:#626773;--line:#e2e0da;--band:#f1efea;--waiting:#b4b4b8;
--whole:#3c4250;--c1:#3f7cc4;--c2:#d97b29;--c3:#8a63c9;--c4:#1f9a85;--c5:#c8517c;--c6:#7a9a2b;--bad:#c03434;--good:#1d7f52}
@media (prefers-color-scheme:dark){:root{--ground:#14161a;--paper:#1c1f25;--ink:#e9e9ec;--soft:#9aa0ac;--line:#2f333c;
--band:#20242b;--waiting:#666b77;--whole:#c6cad3;--c1:#6aa3e6;--c2:#eda057;--c3:#b293ea;--c4:#44c4ac;--c5:#e57fa3;
--c6:#a7c65a;--bad:#f07272;--good:#5cc796}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:48px 24px 80px}
.brand{margin:0;color:var(--soft);font-weight:600;letter-spacing:.02em}
h1{font-size:40px;line-height:1.15;margin:2px 0 20px;letter-spacing:-.02em}
h2{font-size:24px;margin:0}h2::first-letter{text-transform:uppercase}
h3{font-size:15px;margin:36px 0 10px}
section{background:var(--paper);border:1px solid var(--line);border-radius:14px;padding:28px 32px 32px;margin-top:28px}
.lead{margin:2px 0 20px;color:var(--soft)}
.facts{margin:0;font-size:14px}.facts div{display:flex;gap:12px;padding:3px 0}
.facts dt{flex:0 0 190px;color:var(--soft)}.facts dd{margin:0}
header .facts dt{flex-basis:90px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px}
.card{background:var(--band);border-radius:10px;padding:14px 18px}
.card b{display:block;font-size:32px;line-height:1.2;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.card small{font-size:15px;color:var(--soft);font-weight:500}.card span{color:var(--soft);font-size:14px}
.chart{overflow-x:auto}svg{display:block;width:100%;min-width:620px;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .onbar{fill:var(--paper);font-weight:600;text-anchor:middle;font-size:13px}
svg .name{font-size:13px;fill:var(--ink)}
svg .mark{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:4px}
.grid{stroke:var(--line);stroke-width:1;fill:none}.band{fill:transparent}.b1{fill:var(--band)}
.level{stroke:var(--ink);stroke-width:1;stroke-dasharray:3 4;fill:none;opacity:.55}
.dots{stroke:var(--c1);stroke-width:3;stroke-linecap:round;fill:none;opacity:.6}.over{stroke:var(--bad);opacity:1;stroke-width:5}
.legend{list-style:none;margin:14px 0 0;padding:0;columns:2;column-gap:32px;font-size:14px}
.legend li{break-inside:avoid;padding:3px 0 3px 22px;position:relative}.legend span{display:block;color:var(--soft)}
.legend i{position:absolute;left:0;top:8px;width:12px;height:12px;border-radius:3px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child{text-align:left;font-weight:500;padding-left:0}thead th{color:var(--soft);font-weight:500}
.total th,.total td{font-weight:700;border-top:2px solid var(--line)}.aside{color:var(--soft)}
.note{color:var(--soft);font-size:14px;margin:6px 0 10px}
.drops td.bar{width:62%;padding-right:0}
.drops i{display:block;height:10px;border-radius:3px;background:var(--c2)}
tr.worse td,tr.worse th{color:var(--bad);font-weight:600}tr.better td,tr.better th{color:var(--good)}
@media (max-width:640px){section{padding:20px 16px}.legend{columns:1}h1{font-size:30px}.facts div{display:block}}
""".strip()
