"""The statistics and the output of the latency tool, on synthetic measurements."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from engines.errors import ConfigError, ReenactError, UsageError
from realtime.core import pixelcode
from tools import bench_latency
from tools.latency import page, screen, table, trace
from tools.latency.chromium import stats_between
from tools.latency.code_finder import CodeFinder, Detection, advice
from tools.latency.figures import (
    WHOLE,
    Budget,
    Measurement,
    Round,
    compare,
    jitter,
    overhead,
    regressions,
    rounds_of,
    summary,
    to_json,
)
from tools.latency.readings import Reading, readings_to_round, split
from tools.latency.rounds import OlderReport, share_machine_code
from tools.latency.stages import MEANING, STAGES, THREADS, Timestamps, bare, clock_figures, timestamps_to_round

TYPICAL_MS = dict(zip(STAGES, (0.2, 0.15, 4.5, 0.5, 2.9, 0.15, 0.15, 0.01), strict=True))
MACHINE = {"processor": "a processor <&>", "cores": 2, "python": "3.11", "packages": {"numpy": "1.26"}}
HEADER: dict[str, Any] = {
    "taken": "2026-01-01T00:00:00+00:00",
    "commit": "0123456789abcdef",
    "changed": False,
    "machine": MACHINE,
    "config": {"size": "640x480", "fps": 30.0, "generator": "mesh", "seconds": 24.0, "rounds": 6},
}


def synthetic(rng: np.random.Generator, frames: int = 120, slower: dict[str, float] | None = None) -> Round:
    """Return a round as on a shared machine: each round has its own pace, and some frames are much later."""
    pace = rng.lognormal(0, 0.12)
    stages = {}
    for stage, typical in TYPICAL_MS.items():
        samples = typical * pace * rng.lognormal(0, 0.2, frames) + (rng.random(frames) < 0.03) * rng.exponential(
            8, frames
        )
        stages[stage] = (samples + (slower or {}).get(stage, 0.0)).tolist()
    whole = np.sum(list(stages.values()), axis=0)
    return Round(
        stages,
        (np.arange(frames) / 30).tolist(),
        frames + 3,
        3,
        {"capture": 2, "null": 0},
        (1000 / 30 + rng.normal(0, 1, frames)).tolist(),
        (whole[::4] * rng.lognormal(0, 0.01, whole[::4].size)).tolist(),
        (np.arange(frames) / 30)[::4].tolist(),
    )


def rounds(seed: int, count: int = 6, slower: dict[str, float] | None = None) -> list[Round]:
    rng = np.random.default_rng(seed)
    return [synthetic(rng, slower=slower) for _ in range(count)]


def measurement(seed: int = 1) -> Measurement:
    return Measurement(
        "stages",
        "stages: a clip & <threads>",
        rounds(seed),
        {"clock": "50 ns", "rest": 1.5},
        ["a note <b>"],
        restarted=True,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_five_milliseconds_slower_is_found(stage: str) -> None:
    changes = compare("stages", rounds(2, slower={stage: 5.0}), rounds(1))
    worse = regressions(changes)
    assert worse[0].stage == stage
    assert {change.stage for change in worse} <= {stage, WHOLE}
    assert 4 < worse[0].new_ms - worse[0].old_ms < 6


def test_there_are_few_false_alarms() -> None:
    alarms = sum(bool(regressions(compare("stages", rounds(2 * i), rounds(2 * i + 1)))) for i in range(60))
    assert alarms <= 4


def test_a_stage_that_got_faster_is_no_alarm() -> None:
    changes = compare("stages", rounds(1), rounds(2, slower={"track": 5.0}))
    assert not regressions(changes)
    assert next(change.stage for change in changes if change.better) == "track"


def test_one_round_each_still_finds_a_large_change() -> None:
    changes = compare("device", rounds(1, 1, {"generate": 30.0}), rounds(2, 1))
    assert regressions(changes)[0].stage == "generate"
    assert not compare("device", [], rounds(1))


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=60))
def test_percentiles_are_ordered_and_within(values: list[float]) -> None:
    result = summary(np.array(values))
    assert result["p50"] <= result["p95"] <= result["p99"] <= result["max"]
    assert result["max"] == pytest.approx(max(values), abs=1e-3)
    assert all(value >= 0 for value in jitter(np.array(values)).values())


def test_percentiles_of_no_samples_are_zero() -> None:
    assert set(summary(np.zeros(0)).values()) == {0.0}
    assert set(jitter(np.zeros(0)).values()) == {0.0}


def test_the_whole_is_the_sum_of_the_stages() -> None:
    each = rounds(1, 1)[0]
    assert np.allclose(each.whole, np.sum([each.samples(stage) for stage in STAGES], axis=0))
    assert measurement().stages == [*STAGES, WHOLE]
    assert Measurement("device", "", [readings_to_round([Reading(1, 5_000_000, 0)], 0)]).stages == [WHOLE]


def test_json_and_back() -> None:
    before = measurement()
    report = json.loads(json.dumps(to_json([before], HEADER)))
    after = rounds_of(report, "stages")
    assert np.allclose(after[0].whole, before.rounds[0].whole, atol=0.01)
    assert rounds_of(report, "device") == []
    assert report["parts"]["stages"]["dropped"] == {"capture": 12, "null": 0}
    assert report["parts"]["stages"]["missed"] == 18


@pytest.mark.parametrize(
    "report", [{}, [], {"version": 99}, {"version": 1, "parts": 3}, {"version": 1, "parts": {"stages": {}}}]
)
def test_a_file_that_is_not_a_report_is_an_error(report: object) -> None:
    with pytest.raises(ConfigError) as caught:
        rounds_of(report, "stages")
    assert caught.value.code in {"against-not-a-report", "against-version"}


def test_an_older_report_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        OlderReport(tmp_path / "none.json")
    assert caught.value.code == "against-unreadable"
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError) as caught:
        OlderReport(tmp_path / "x.json")
    assert caught.value.code == "against-not-a-report"


def older(folder: Path, **header: Any) -> OlderReport:
    path = folder / "old.json"
    path.write_text(json.dumps(to_json([measurement()], HEADER | header)))
    return OlderReport(path)


def test_another_size_is_not_compared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        bench_latency.compare_with(older(tmp_path), [measurement()], {**HEADER["config"], "size": "1280x720"})
    assert caught.value.code == "against-other-settings"
    assert "--size 640x480" in caught.value.cure


def test_without_the_older_program_the_figures_of_the_file_are_compared(tmp_path: Path) -> None:
    old = older(tmp_path)
    changes, how = bench_latency.compare_with(old, [measurement(3)], HEADER["config"])
    assert len(changes) == len(STAGES) + 1
    assert old.reason in how


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"commit": ""}, "names no commit"),
        ({"changed": True}, "files differed"),
        ({"commit": "f" * 40}, "is not in this checkout"),
    ],
)
def test_the_reason_why_an_older_program_cannot_be_run_is_known(
    tmp_path: Path, header: dict[str, Any], reason: str
) -> None:
    old = older(tmp_path, **header)
    with old.program() as program:
        assert program is None
    assert reason in old.reason


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("tools/latency/stages.py", "tools.latency.stages"),
        ("tools/latency_stages.py", "tools.latency_stages"),
        ("tools/other.py", None),
    ],
)
def test_a_commit_of_either_layout_is_run_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, module: str | None
) -> None:
    root = tmp_path / "checkout"
    (root / path).parent.mkdir(parents=True)
    (root / path).touch()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(root)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "test"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr("tools.latency.rounds.ROOT", root)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    old = older(tmp_path, commit=commit)
    with old.program() as program:
        assert (program.module if program else None) == module
        assert program is None or (program.root / path).is_file()
    assert bool(old.reason) == (module is None)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("p99=80", Budget("p99", 80.0)),
        ("track.p95=12.5", Budget("p95", 12.5, "track")),
        ("end to end.max=200", Budget("max", 200.0, "end to end")),
    ],
)
def test_budgets_are_parsed(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@given(st.text(max_size=12))
def test_no_budget_crashes(text: str) -> None:
    with suppress(UsageError):
        assert math.isfinite(Budget.parse(text).limit_ms)


def test_a_budget_is_met_or_violated() -> None:
    assert Budget("p99", 1e4).violations([measurement()]) == []
    assert Budget("p50", 0.1).violations([measurement()])[0].startswith("stages, end to end: p50")
    assert Budget("p50", 0.1, "send").violations([measurement()]) == []
    with pytest.raises(UsageError) as caught:
        Budget("p50", 1, "tracks").violations([measurement()])
    assert caught.value.code == "bench-unknown-stage"
    assert Budget("p50", 10).violations([Measurement("device", "", [readings_to_round([], 3)])])


class Strict(HTMLParser):
    """A parser that checks the nesting of elements and collects the addresses that could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "rect", "path", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "rect", "path", "br"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_and_needs_no_network() -> None:
    readings = [Reading(i, 9_000_000 + i, i * 33_000_000) for i in range(90)]
    device = Measurement("device", "device: in and out", split(readings_to_round(readings, 2)))
    measurements = [measurement(), device]
    changes = compare("stages", rounds(2, slower={"track": 5.0}), rounds(1))
    text = page.build(measurements, to_json(measurements, HEADER), changes, "in turn")
    parsed = Strict()
    parsed.feed(text)
    assert parsed.open == []
    assert parsed.fetched == []
    assert "url(" not in text
    assert "http" not in text
    assert "<script" not in text
    assert "prefers-color-scheme:dark" in text
    assert "a processor <&>" in parsed.text
    assert text.count("<svg") == 1 + 2 + 2
    assert not re.search(r"\bnan\b|\binf\b", parsed.text)
    for stage in STAGES:
        assert MEANING[stage] in parsed.text


def test_the_table_fits_a_terminal_and_names_the_regressions() -> None:
    out = io.StringIO()
    console = Console(file=out, width=110)
    table.show(console, [measurement()])
    table.show_changes(console, compare("stages", rounds(2, slower={"publish": 5.0}), rounds(1)), "in turn")
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 110
    assert re.search(r"^WORSE stages, publish: .* \(\+\d\.\d\d ms, noise", text, re.MULTILINE)
    assert "dropped: capture 12" in text
    assert table.markdown(measurement()).count("\n") == len(STAGES) + 2


def test_the_trace_follows_every_frame() -> None:
    built = trace.build([measurement()], THREADS)
    json.dumps(built)
    events = built["traceEvents"]
    assert {"b", "e", "X", "s", "t", "f", "M"} == {event["ph"] for event in events}
    frames = len(measurement().rounds[-1].at_s)
    assert sum(event["ph"] == "s" for event in events) == sum(event["ph"] == "f" for event in events) == frames
    assert {event["name"] for event in events if event["ph"] == "X"} == set(THREADS)
    starts = {event["id"]: event["ts"] for event in events if event["ph"] == "s"}
    assert all(event["ts"] >= starts[event["id"]] for event in events if event["ph"] == "f")
    rows = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert rows == {"capture", "compute", "sink", "whole"}


def test_timestamps_become_samples() -> None:
    times = Timestamps()
    for seq in range(100):
        begin = seq * 33_000_000
        for index, point in enumerate(times.times):
            if index in (0, 8) or not bare(seq):
                times.times[point][seq] = begin + index * 1_000_000
        if seq % 10:
            times.faces.add(seq)
    result = timestamps_to_round(times, {"capture": 1})
    assert np.allclose(result.whole, 8.0)
    assert all(np.allclose(result.samples(stage), 1.0) for stage in STAGES)
    assert result.missed == sum(seq % 10 == 0 for seq in range(31, 100))
    assert result.frames == 69
    assert np.allclose(result.bare_ms, 8.0)
    assert overhead([result] * 3) == (0.0, 0.0)
    assert overhead([]) is None


def test_a_round_without_a_frame_is_an_error() -> None:
    with pytest.raises(ReenactError) as caught:
        timestamps_to_round(Timestamps(), {})
    assert caught.value.code == "measure-no-frame"


def test_the_clock_is_measured() -> None:
    clock = clock_figures()
    assert 0 < clock["resolution_ns"] < 1e6
    assert 0 < clock["reading_ns"] < 1e5
    assert clock["timestamps_us"] > 0


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(0, 0xFFFF))
@settings(max_examples=50)
def test_skipped_and_repeated_codes_are_counted(steps: list[int], start: int) -> None:
    counters = [start]
    for step in steps:
        counters.append((counters[-1] + step) & 0xFFFF)
    readings = [Reading(counter, 2_000_000, i * 1_000_000) for i, counter in enumerate(counters)]
    whole = readings_to_round([each for each in readings for _ in range(2)], 5)
    assert whole.dropped["on the way"] == sum(steps) - len(steps)
    assert whole.frames == len(counters) + 5
    intervals = split(whole)
    assert sum(len(each.at_s) for each in intervals) == len(counters)
    assert sum(each.frames for each in intervals) == whole.frames


@given(st.floats(-25, 25), st.floats(0.35, 1.0), st.booleans(), st.integers(0, 0xFFFF))
@settings(deadline=None, max_examples=25)
def test_a_code_on_a_screen_is_found(turn: float, scale: float, mirrored: bool, counter: int) -> None:
    screen = np.full((720, 1280, 3), 40, np.uint8)
    code = pixelcode.Code(counter, 123_456)
    pixelcode.draw(screen, code, pixelcode.Place(360, 250, 28))
    view = cv2.getRotationMatrix2D((640, 360), turn, scale)
    filmed = np.asarray(cv2.GaussianBlur(cv2.warpAffine(screen, view, (1280, 720)), (0, 0), 1.0), np.uint8)
    if mirrored:
        filmed = np.ascontiguousarray(filmed[:, ::-1])
    finder = CodeFinder()
    assert finder.find(filmed).code == code
    assert finder.find(filmed).code == code


def test_advice_depends_on_the_last_pictures() -> None:
    small = np.array([[0, 0], [18, 0], [18, 6], [0, 6]], np.float32)
    assert "cover" in advice([Detection(None, None, 5)] * 5)
    assert "exposure" in advice([Detection(None, None, 250)] * 5)
    assert "point the camera" in advice([Detection(None, None, 120)] * 5)
    assert "too small" in advice([Detection(None, small, 120)] * 5)
    assert "sharp" in advice([Detection(None, small * 10, 120)] * 5)
    assert advice([])


def test_a_machine_without_a_screen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ReenactError) as caught:
        screen.ScreenWindow()
    assert caught.value.code == "window-no-screen"


def test_the_counters_of_a_browser_become_figures_for_a_frame() -> None:
    first = {"inbound-rtp": {"jitterBufferDelay": 1.0, "jitterBufferEmittedCount": 100, "framesDecoded": 100}}
    last = {
        "inbound-rtp": {"jitterBufferDelay": 2.0, "jitterBufferEmittedCount": 200, "framesDecoded": 250},
        "outbound-rtp": {"totalEncodeTime": 0.5, "framesEncoded": 100, "bytesSent": 10_000},
    }
    figures = stats_between(first, last, 5.0)
    assert figures["jitter buffer, ms a picture"] == pytest.approx(10.0)
    assert figures["encoding, ms a picture"] == pytest.approx(5.0)
    assert figures["pictures decoded a second"] == pytest.approx(30.0)
    assert figures["sent, kbit/s"] == pytest.approx(16.0)
    assert stats_between({}, {}, 1.0) == {}


def test_machine_code_is_shared_only_between_programs_with_the_same_loops(tmp_path: Path) -> None:
    def write(root: Path, name: str, text: str) -> Path:
        path = root / "engines" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    here, same, other = (tmp_path / name for name in ("here", "same", "other"))
    for root in (here, same, other):
        write(root, "layers/one.py", "one")
        write(root, "two.py", "two" if root is not other else "TWO")
        write(root, "three.py", root.name)
    code = write(here, "layers/__pycache__/one.loop-3.py311.nbi", "index")
    write(here, "layers/__pycache__/one.loop-3.py311.1.nbc", "code")
    write(here, "__pycache__/two.loop-7.py311.nbi", "index")
    os.utime(here / "engines" / "layers" / "one.py", (1e9, 1e9))
    share_machine_code(here, same)
    share_machine_code(here, other)
    shared = {path.name for path in same.glob("engines/**/*.nb[ic]")}
    assert shared == {"one.loop-3.py311.nbi", "one.loop-3.py311.1.nbc", "two.loop-7.py311.nbi"}
    assert (same / code.relative_to(here)).read_text() == "index"
    assert (same / "engines" / "layers" / "one.py").stat().st_mtime == 1e9
    assert not list(other.glob("engines/**/*.nb[ic]"))
