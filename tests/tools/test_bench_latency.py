"""What the latency tool says about measurements, on measurements that are made up."""

from __future__ import annotations

import io
import json
import math
import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

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
from tools.latency.device import blocks, codes_to_round
from tools.latency.figures import (
    WHOLE,
    Budget,
    Part,
    Round,
    compare,
    disturbance,
    jitter,
    named,
    rounds_of,
    summary,
    to_json,
)
from tools.latency.rounds import Older
from tools.latency.sight import Finder, Sight, advice
from tools.latency.stages import MEANING, STAGES, THREADS, Marks, bare, clock_figures, to_round

USUAL = dict(zip(STAGES, (0.2, 0.15, 4.5, 0.5, 2.9, 0.15, 0.15, 0.01), strict=True))
MACHINE = {"processor": "a processor <&>", "cores": 2, "python": "3.11", "packages": {"numpy": "1.26"}}
HEAD = {
    "taken": "2026-01-01T00:00:00+00:00",
    "commit": "0123456789abcdef",
    "changed": False,
    "machine": MACHINE,
    "config": {"size": "640x480", "fps": 30.0, "generator": "mesh", "seconds": 24.0, "rounds": 6},
}


def made_up(rng: np.random.Generator, frames: int = 120, slower: dict[str, float] | None = None) -> Round:
    """A round as a shared machine gives it: each round has its own pace, and now and then a frame is much later."""
    pace = rng.lognormal(0, 0.12)
    stages = {}
    for stage, usual in USUAL.items():
        samples = usual * pace * rng.lognormal(0, 0.2, frames) + (rng.random(frames) < 0.03) * rng.exponential(
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
    return [made_up(rng, slower=slower) for _ in range(count)]


def part(seed: int = 1) -> Part:
    return Part(
        "stages",
        "stages: a clip & <threads>",
        rounds(seed),
        {"clock": "50 ns", "rest": 1.5},
        ["a note <b>"],
        apart=True,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_five_milliseconds_more_are_found_and_named(stage: str) -> None:
    changes = compare("stages", rounds(2, slower={stage: 5.0}), rounds(1))
    worse = named(changes)
    assert worse[0].stage == stage
    assert {change.stage for change in worse} <= {stage, WHOLE}
    assert 4 < worse[0].new_ms - worse[0].old_ms < 6


def test_there_are_few_false_alarms() -> None:
    alarms = sum(bool(named(compare("stages", rounds(2 * i), rounds(2 * i + 1)))) for i in range(60))
    assert alarms <= 4


def test_what_got_faster_is_no_alarm() -> None:
    changes = compare("stages", rounds(1), rounds(2, slower={"track": 5.0}))
    assert not named(changes)
    assert next(change.stage for change in changes if change.better) == "track"


def test_one_round_each_still_finds_what_is_large() -> None:
    changes = compare("device", rounds(1, 1, {"generate": 30.0}), rounds(2, 1))
    assert named(changes)[0].stage == "generate"
    assert not compare("device", [], rounds(1))


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=60))
def test_percentiles_are_ordered_and_within(values: list[float]) -> None:
    found = summary(np.array(values))
    assert found["p50"] <= found["p95"] <= found["p99"] <= found["max"]
    assert found["max"] == pytest.approx(max(values), abs=1e-3)
    assert all(value >= 0 for value in jitter(np.array(values)).values())


def test_nothing_has_no_percentiles() -> None:
    assert set(summary(np.zeros(0)).values()) == {0.0}
    assert set(jitter(np.zeros(0)).values()) == {0.0}


def test_the_whole_is_the_sum_of_the_stages() -> None:
    each = rounds(1, 1)[0]
    assert np.allclose(each.whole, np.sum([each.samples(stage) for stage in STAGES], axis=0))
    assert part().stages == [*STAGES, WHOLE]
    assert Part("device", "", [codes_to_round([(1, 5_000_000, 0)], 0)]).stages == [WHOLE]


def test_json_and_back() -> None:
    before = part()
    found = json.loads(json.dumps(to_json([before], HEAD)))
    after = rounds_of(found, "stages")
    assert np.allclose(after[0].whole, before.rounds[0].whole, atol=0.01)
    assert rounds_of(found, "device") == []
    assert found["parts"]["stages"]["dropped"] == {"capture": 12, "null": 0}
    assert found["parts"]["stages"]["missed"] == 18


@pytest.mark.parametrize(
    "found", [{}, [], {"version": 99}, {"version": 1, "parts": 3}, {"version": 1, "parts": {"stages": {}}}]
)
def test_a_file_of_something_else_is_refused(found: object) -> None:
    with pytest.raises(ConfigError):
        rounds_of(found, "stages")


def test_an_older_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Older(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        Older(tmp_path / "x.json")


def test_another_size_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(to_json([part()], HEAD)))
    old = Older(path)
    with pytest.raises(ConfigError, match="640x480"):
        bench_latency.against([part()], old, {**HEAD["config"], "size": "1280x720"})  # type: ignore[dict-item]
    changes, how = bench_latency.against([part(3)], old, HEAD["config"])  # type: ignore[arg-type]
    assert len(changes) == len(STAGES) + 1
    assert "cannot be run again" in how


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("p99=80", Budget("p99", 80.0)),
        ("track.p95=12.5", Budget("p95", 12.5, "track")),
        ("end to end.max=200", Budget("max", 200.0, "end to end")),
    ],
)
def test_budgets_are_read(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@given(st.text(max_size=12))
def test_no_budget_crashes(text: str) -> None:
    with suppress(UsageError):
        assert math.isfinite(Budget.parse(text).limit_ms)


def test_a_budget_is_kept_or_broken() -> None:
    assert Budget("p99", 1e4).broken([part()]) == []
    assert Budget("p50", 0.1).broken([part()])[0].startswith("stages, end to end: p50")
    assert Budget("p50", 0.1, "send").broken([part()]) == []
    with pytest.raises(UsageError, match="no stage"):
        Budget("p50", 1, "tracks").broken([part()])
    assert Budget("p50", 10).broken([Part("device", "", [codes_to_round([], 3)])])


class Strict(HTMLParser):
    """Counts what is opened and closed, and collects what could be fetched."""

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


def test_the_page_is_whole_and_needs_no_network() -> None:
    parts = [
        part(),
        Part(
            "device",
            "device: in and out",
            blocks(codes_to_round([(i, 9_000_000 + i, i * 33_000_000) for i in range(90)], 2)),
        ),
    ]
    changes = compare("stages", rounds(2, slower={"track": 5.0}), rounds(1))
    text = page.build(parts, to_json(parts, HEAD), changes, "in turn")
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


def test_the_table_fits_a_terminal_and_names_what_got_worse() -> None:
    out = io.StringIO()
    console = Console(file=out, width=110)
    table.show(console, [part()])
    table.show_changes(console, compare("stages", rounds(2, slower={"publish": 5.0}), rounds(1)), "in turn")
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= 110
    assert re.search(r"^WORSE stages, publish: .* \(\+\d\.\d\d ms, noise", said, re.MULTILINE)
    assert "dropped: capture 12" in said
    assert table.markdown(part()).count("\n") == len(STAGES) + 2


def test_the_trace_follows_every_frame() -> None:
    built = trace.build([part()], THREADS)
    json.dumps(built)
    events = built["traceEvents"]
    assert {"b", "e", "X", "s", "t", "f", "M"} == {event["ph"] for event in events}
    frames = len(part().rounds[-1].at_s)
    assert sum(event["ph"] == "s" for event in events) == sum(event["ph"] == "f" for event in events) == frames
    assert {event["name"] for event in events if event["ph"] == "X"} == set(THREADS)
    starts = {event["id"]: event["ts"] for event in events if event["ph"] == "s"}
    assert all(event["ts"] >= starts[event["id"]] for event in events if event["ph"] == "f")
    rows = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert rows == {"capture", "compute", "sink", "whole"}


def test_samples_out_of_times() -> None:
    marks = Marks()
    for seq in range(100):
        begin = seq * 33_000_000
        for index, place in enumerate(marks.times):
            if index in (0, 8) or not bare(seq):
                marks.times[place][seq] = begin + index * 1_000_000
        if seq % 10:
            marks.faces.add(seq)
    found = to_round(marks, {"capture": 1})
    assert np.allclose(found.whole, 8.0)
    assert all(np.allclose(found.samples(stage), 1.0) for stage in STAGES)
    assert found.missed == sum(seq % 10 == 0 for seq in range(31, 100))
    assert found.frames == 69
    assert np.allclose(found.bare_ms, 8.0)
    assert disturbance([found] * 3) == (0.0, 0.0)
    assert disturbance([]) is None


def test_nothing_that_came_through_is_an_error() -> None:
    with pytest.raises(ReenactError, match="no frame came through"):
        to_round(Marks(), {})


def test_the_clock_is_measured() -> None:
    found = clock_figures()
    assert 0 < found["resolution_ns"] < 1e6
    assert 0 < found["reading_ns"] < 1e5
    assert found["marks_us"] > 0


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(0, 0xFFFF))
@settings(max_examples=50)
def test_skipped_and_repeated_codes_are_counted(steps: list[int], start: int) -> None:
    counters = [start]
    for step in steps:
        counters.append((counters[-1] + step) & 0xFFFF)
    seen = [(counter, 2_000_000, i * 1_000_000) for i, counter in enumerate(counters)]
    seen = [item for item in seen for _ in range(2)]
    found = codes_to_round(seen, 5)
    assert found.dropped["on the way"] == sum(steps) - len(steps)
    assert found.frames == len(counters) + 5
    pieces = blocks(found)
    assert sum(len(piece.at_s) for piece in pieces) == len(counters)
    assert sum(piece.frames for piece in pieces) == found.frames


@given(st.floats(-25, 25), st.floats(0.35, 1.0), st.booleans(), st.integers(0, 0xFFFF))
@settings(deadline=None, max_examples=25)
def test_a_code_on_a_screen_is_found(turn: float, scale: float, mirrored: bool, counter: int) -> None:
    screen = np.full((720, 1280, 3), 40, np.uint8)
    code = pixelcode.Code(counter, 123_456)
    pixelcode.draw(screen, code, pixelcode.Place(360, 250, 28))
    view = cv2.getRotationMatrix2D((640, 360), turn, scale)
    seen = np.asarray(cv2.GaussianBlur(cv2.warpAffine(screen, view, (1280, 720)), (0, 0), 1.0), np.uint8)
    if mirrored:
        seen = np.ascontiguousarray(seen[:, ::-1])
    finder = Finder()
    assert finder.look(seen).code == code
    assert finder.look(seen).code == code


def test_advice_goes_with_what_was_seen() -> None:
    small = np.array([[0, 0], [18, 0], [18, 6], [0, 6]], np.float32)
    assert "cover" in advice([Sight(None, None, 5)] * 5)
    assert "exposure" in advice([Sight(None, None, 250)] * 5)
    assert "point the camera" in advice([Sight(None, None, 120)] * 5)
    assert "too small" in advice([Sight(None, small, 120)] * 5)
    assert "sharp" in advice([Sight(None, small * 10, 120)] * 5)
    assert advice([])


def test_no_screen_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ReenactError, match="no screen"):
        screen.ScreenWindow()


def test_what_a_browser_counts_is_told_for_a_frame() -> None:
    first = {"inbound-rtp": {"jitterBufferDelay": 1.0, "jitterBufferEmittedCount": 100, "framesDecoded": 100}}
    last = {
        "inbound-rtp": {"jitterBufferDelay": 2.0, "jitterBufferEmittedCount": 200, "framesDecoded": 250},
        "outbound-rtp": {"totalEncodeTime": 0.5, "framesEncoded": 100, "bytesSent": 10_000},
    }
    found = stats_between(first, last, 5.0)
    assert found["jitter buffer, ms a picture"] == pytest.approx(10.0)
    assert found["encoding a picture, ms"] == pytest.approx(5.0)
    assert found["pictures decoded a second"] == pytest.approx(30.0)
    assert found["sent, kbit/s"] == pytest.approx(16.0)
    assert stats_between({}, {}, 1.0) == {}
