"""A latency measurement as one HTML page without scripts or network access, in light and dark colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from tools.latency.figures import QUANTILES, Change, Measurement, Samples, jitter, summary
from tools.latency.stages import MEANING
from tools.latency.style import STYLE, colour
from tools.latency.table import outcome

_WIDTH = 960
"""The width of the charts, in pixels."""
_MAX_DOTS = 2400
"""The number of dots that a timeline shows at most."""


def build(measurements: Sequence[Measurement], report: Mapping[str, Any], changes: Sequence[Change], how: str) -> str:
    """Return the page. ``report`` is the JSON of the same measurements, ``how`` says how changes were measured."""
    body = [_header(report), *(_section(each) for each in measurements)]
    if changes:
        body.insert(1, _changes(changes, how))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        'content="light dark"><title>How late is my face? · reenact</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(report: Mapping[str, Any]) -> str:
    machine, config = report["machine"], report["config"]
    commit = "no checkout"
    if report["commit"]:
        commit = report["commit"][:10] + (" with changes" if report["changed"] else "")
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    rows = (
        ("measured", f"{report['taken'].replace('T', ' ').replace('+00:00', ' UTC')}, commit {commit}"),
        (
            "with",
            f"{config['size']} at {config['fps']:g} fps, generator {config['generator']}, {config['seconds']:g} s",
        ),
        ("on", f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"),
        ("packages", packages),
    )
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in rows)
    return f"<header><p class=brand>reenact</p><h1>How late is my face?</h1><dl class=facts>{facts}</dl></header>"


def _section(measurement: Measurement) -> str:
    name, _, detail = measurement.title.partition(": ")
    charts = [_flow(measurement)] if len(measurement.stages) > 1 else []
    charts += [_table(measurement), _timeline(measurement), _histograms(measurement), _drops(measurement)]
    return (
        f"<section><h2>{escape(name)}</h2><p class=lead>{escape(detail)}</p>"
        f"{_cards(measurement)}{''.join(charts)}{_figures(measurement)}</section>"
    )


def _cards(measurement: Measurement) -> str:
    age = summary(measurement.samples(measurement.age))
    cards = [(f"{age['p50']:.1f}", "ms", "half of the frames are newer"), (f"{age['p99']:.1f}", "ms", "99 % are newer")]
    if measurement.cadence.size:
        cards.append((f"{jitter(measurement.cadence)['p95']:.1f}", "ms", "jitter of the intervals, p95"))
    dropped = sum(measurement.dropped.values())
    cards.append((str(dropped), f"of {measurement.frames + dropped}", "frames dropped"))
    cells = "".join(
        f"<div class=card><b>{value}<small> {unit}</small></b><span>{text}</span></div>" for value, unit, text in cards
    )
    return f"<div class=cards>{cells}</div>"


def _flow(measurement: Measurement) -> str:
    """Return a bar that divides a frame's time by the medians of the stages."""
    medians = {stage: summary(measurement.samples(stage))["p50"] for stage in measurement.stages[:-1]}
    total = sum(medians.values()) or 1.0
    at, bars = 0.0, []
    for index, (stage, value) in enumerate(medians.items()):
        width = _WIDTH * value / total
        label = ""
        if width > 8.5 * len(stage) + 12:
            label = f'<text x="{at + width / 2:.1f}" y="27" class=onbar>{escape(stage)}</text>'
        bars.append(
            f'<g><title>{escape(stage)}: {value:.2f} ms</title><rect x="{at:.2f}" y="0" height="44" rx="3" '
            f'width="{max(0.0, width - 1.5):.2f}" fill="{colour(stage, index)}"/>{label}</g>'
        )
        at += width
    legend = "".join(
        f'<li><i style="background:{colour(stage, index)}"></i><b>{escape(stage)}</b> {value:.2f} ms'
        f"<span>{escape(MEANING.get(stage, ''))}</span></li>"
        for index, (stage, value) in enumerate(medians.items())
    )
    return (
        f"<h3>Where a frame's time goes</h3>{_svg(44, ''.join(bars), 'medians of the stages, side by side')}"
        f"<ul class=legend>{legend}</ul>"
    )


def _table(measurement: Measurement) -> str:
    names = [f"p{q}" for q in QUANTILES] + ["max"]
    rows = []
    for stage in measurement.stages:
        percentiles = summary(measurement.samples(stage))
        cells = "".join(f"<td>{percentiles[name]:.2f}</td>" for name in names)
        kind = " class=total" if stage == measurement.age else ""
        rows.append(f"<tr{kind}><th>{escape(stage)}</th>{cells}</tr>")
    if measurement.cadence.size:
        cadence = measurement.cadence
        for label, percentiles in (("interval of frames", summary(cadence)), ("its jitter", jitter(cadence))):
            cells = "".join(f"<td>{percentiles[name]:.2f}</td>" for name in names)
            rows.append(f"<tr class=aside><th>{label}</th>{cells}</tr>")
    titles = "".join(f"<th>{name}</th>" for name in names)
    head = f"<thead><tr><th>milliseconds</th>{titles}</tr></thead>"
    return f"<h3>Percentiles</h3><table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _timeline(measurement: Measurement) -> str:
    """Return a chart of each frame's age over time, round after round."""
    height, left = 220, 44
    ages = [each.whole for each in measurement.rounds if each.whole.size]
    if not ages:
        return ""
    pool = np.concatenate(ages)
    top = _nice(max(float(np.percentile(pool, 99.5)) * 1.25, float(np.median(pool)) * 2))
    rounds = [each for each in measurement.rounds if each.whole.size]
    total = sum(each.at_s[-1] - each.at_s[0] + 0.4 for each in rounds)
    step = max(1, pool.size // _MAX_DOTS)
    scale = (_WIDTH - left - 6) / total
    x, marks = float(left), []
    for number, each in enumerate(rounds):
        span = (each.at_s[-1] - each.at_s[0] + 0.4) * scale
        marks.append(f'<rect class="band b{number % 2}" x="{x:.1f}" y="0" width="{span:.1f}" height="{height}"/>')
        dots = [
            (x + (at - each.at_s[0] + 0.2) * scale, height * (1 - min(age / top, 1.0)), age > top)
            for at, age in zip(each.at_s[::step], each.whole[::step], strict=True)
        ]
        path = "".join(f"M{px:.1f} {max(py, 3):.1f}h.01" for px, py, over in dots if not over)
        high = "".join(f"M{px:.1f} 4h.01" for px, _, over in dots if over)
        marks.append(f'<path class=dots d="{path}"/><path class="dots over" d="{high}"/>')
        x += span
    percentiles = summary(pool)
    levels = [percentiles[f"p{q}"] for q in QUANTILES]
    lowest = height + 20.0
    for q, value in zip(QUANTILES, levels, strict=True):
        y = height * (1 - min(value / top, 1.0))
        marks.append(f'<path class=level d="M{left} {y:.1f}H{_WIDTH}"/>')
        y = lowest = min(y, lowest - 15)
        marks.append(f'<text class=mark x="{_WIDTH - 4}" y="{y - 4:.1f}" text-anchor="end">p{q} {value:.1f} ms</text>')
    marks += _ticks(top, height, left)
    over = int((pool > top).sum())
    note = f" {over} above {top:g} ms {'is' if over == 1 else 'are'} shown at the top, in red." if over else ""
    what = "rounds, each a new start" if measurement.restarted else "intervals of one run"
    chart = _svg(height + 8, "".join(marks), "age of frames over time")
    return (
        f"<h3>Age of each frame at delivery</h3>{chart}"
        f"<p class=note>From left to right {total:.0f} s in {len(rounds)} {what}.{note}</p>"
    )


def _ticks(top: float, height: float, left: float) -> list[str]:
    marks = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = height * (1 - share)
        marks.append(f'<path class=grid d="M{left} {y:.1f}H{_WIDTH}"/>')
        at = f'x="{left - 6}" y="{min(max(y + 4, 11), height):.1f}"'
        marks.append(f'<text class=tick {at} text-anchor="end">{share * top:g}</text>')
    return marks


def _histograms(measurement: Measurement) -> str:
    """Return a histogram for each stage, all on one logarithmic axis so that they can be compared."""
    stages = measurement.stages
    pools = {stage: np.maximum(measurement.samples(stage), 1e-3) for stage in stages}
    if not any(pool.size for pool in pools.values()):
        return ""
    low = min(float(np.percentile(pool, 0.5)) for pool in pools.values())
    high = max(float(pool.max()) for pool in pools.values())
    first, last = math.floor(math.log10(max(low, 1e-3))), math.ceil(math.log10(high))
    edges = np.logspace(first, last, 40 * (last - first) + 1)
    row, left = 46, 150
    marks = []
    bottom = row * len(stages)
    for power in range(first, last + 1):
        x = left + (_WIDTH - left - 24) * (power - first) / (last - first)
        marks.append(f'<path class=grid d="M{x:.1f} 0V{bottom}"/>')
        marks.append(f'<text class=tick x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{10.0**power:g} ms</text>')
    for index, stage in enumerate(stages):
        marks.append(_histogram(pools[stage], edges, index, stage, row, left))
    return f"<h3>Distribution of the samples</h3>{_svg(bottom + 22, ''.join(marks), 'a histogram for each stage')}"


def _histogram(pool: Samples, edges: Samples, index: int, stage: str, row: int, left: int) -> str:
    counts, _ = np.histogram(pool, edges)
    most = max(int(counts.max()), 1)
    width = (_WIDTH - left - 24) / len(counts)
    bars = []
    for place, count in enumerate(counts.tolist()):
        if count:
            tall = max(1.0, (row - 14) * count / most)
            title = f"{edges[place]:.3g} to {edges[place + 1]:.3g} ms: {count}"
            at = f'x="{left + place * width:.2f}" y="{row * (index + 1) - 6 - tall:.2f}"'
            size = f'width="{max(width - 0.6, 0.5):.2f}" height="{tall:.2f}"'
            bars.append(f"<rect {at} {size}><title>{title}</title></rect>")
    return (
        f'<text class=name x="0" y="{row * (index + 1) - 10}">{escape(stage)}</text>'
        f'<path class=grid d="M{left} {row * (index + 1) - 6}H{_WIDTH - 24}"/>'
        f'<g fill="{colour(stage, index)}">{"".join(bars)}</g>'
    )


def _drops(measurement: Measurement) -> str:
    places = {**measurement.dropped, f"without {measurement.lacking}": measurement.missed}
    most = max(*places.values(), 1)
    rows = []
    for place, count in places.items():
        width = 100 * count / most
        rows.append(
            f'<tr><th>{escape(place)}</th><td>{count}</td><td class=bar><i style="width:{width:.0f}%"></i></td></tr>'
        )
    return (
        "<h3>Drops</h3><p class=note>Frames that a newer one replaced, by the place where they waited; and "
        f"frames without {measurement.lacking}, which no figure above includes.</p>"
        f"<table class=drops><tbody>{''.join(rows)}</tbody></table>"
    )


def _figures(measurement: Measurement) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value if isinstance(value, str) else f'{value:.2f}')}</dd></div>"
        for name, value in measurement.figures.items()
    )
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in measurement.notes)
    return f"<h3>Also measured</h3><dl class=facts>{rows}</dl>{notes}" if rows else notes


def _changes(changes: Sequence[Change], how: str) -> str:
    rows = []
    for change in changes:
        kind = outcome(change)
        rows.append(
            f"<tr class={kind}><th>{escape(change.method)}: {escape(change.stage)}</th><td>{change.old_ms:.2f}</td>"
            f"<td>{change.new_ms:.2f}</td><td>{change.ratio:.2f}</td><td>{change.old_p99_ms:.2f}</td>"
            f"<td>{change.new_p99_ms:.2f}</td><td>±{change.noise_ms:.2f}</td><td>{kind}</td></tr>"
        )
    titles = "".join(f"<th>{t}</th>" for t in ("old p50", "new p50", "ratio", "old p99", "new p99", "noise", "result"))
    head = f"<thead><tr><th>milliseconds</th>{titles}</tr></thead>"
    return (
        f"<section><h2>Changes against the older measurement</h2><p class=lead>{escape(how)}</p><table>{head}"
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _nice(value: float) -> float:
    """Return the next larger round number."""
    power: float = 10.0 ** math.floor(math.log10(max(value, 1e-3)))
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= value)


def _svg(height: float, body: str, label: str) -> str:
    head = f'viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}"'
    return f"<div class=chart><svg {head}>{body}</svg></div>"
