"""The delay from camera to picture: by stage, with real devices, over WebRTC, and from the light of a screen.

    python -m tools.bench_latency [stages|device|webrtc|screen|all] [--seconds N] [--size WxH] [--fps N] ...

``stages`` runs a recorded clip through the program's own threads. ``device`` sends a code in the pixels in through one
virtual camera and out through another. ``webrtc`` does so through a peer and through Chromium. ``screen`` points a
camera at a window, which measures the whole delay. ``all`` runs all methods that need no user.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from engines.errors import ConfigError, ReenactError, SourceMissing
from realtime import report
from realtime.config import Config, load
from tools.latency import page, rounds, table, trace
from tools.latency.figures import Budget, Change, Measurement, compare, rounds_of, to_json
from tools.latency.stages import THREADS
from tools.support.command import Notice, new_app, run_app
from tools.support.files import check_writable, write_json, write_text


class Method(StrEnum):
    """The ways to measure the delay."""

    STAGES = "stages"
    DEVICE = "device"
    WEBRTC = "webrtc"
    SCREEN = "screen"
    ALL = "all"


_UNATTENDED = (Method.STAGES, Method.DEVICE, Method.WEBRTC)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files to write; None for those that are not wanted."""

    json: Path | None
    html: Path | None
    trace: Path | None

    def check(self) -> None:
        """Check, before the measurement, that all of them can be written. Raises UsageError."""
        for path, option in ((self.json, "--json"), (self.html, "--html"), (self.trace, "--trace")):
            if path is not None:
                check_writable(path, option)

    def write(self, measurements: list[Measurement], values: dict[str, Any], changes: list[Change], how: str) -> None:
        """Write them. Raises SinkLost."""
        if self.json:
            write_json(self.json, values, "--json", indent=None)
        if self.html:
            write_text(self.html, page.build(measurements, values, changes, how), "--html")
        if self.trace:
            write_json(self.trace, trace.build(measurements, THREADS), "--trace", indent=None)


def measure(
    method: Method, config: Config, fps: float, seconds: float, old: rounds.OlderReport | None
) -> list[Measurement]:
    """Run one method or, for ``all``, those that work here; the others are reported. Raises ReenactError."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    measurements: list[Measurement] = []
    for each in _UNATTENDED if method is Method.ALL else (method,):
        try:
            measurements += _run(each, config, fps, seconds, old, lambda text: console.print(f"  {text}", style="dim"))
        except SourceMissing as error:
            if method is not Method.ALL:
                raise
            console.print(f"{each}: left out: {error}" + (f"; {error.cure}" if error.cure else ""))
    return measurements


def _run(
    method: Method, config: Config, fps: float, seconds: float, old: rounds.OlderReport | None, notice: Notice
) -> list[Measurement]:
    notice(f"{method}, {config.size[0]}x{config.size[1]} at {fps:g} fps, {config.generator}")
    if method is Method.STAGES:
        return [rounds.measure_stages(config, fps, seconds, old, notice)]
    if method is Method.DEVICE:
        from tools.latency import device

        return [device.measure(config, fps, seconds, notice)]
    if method is Method.WEBRTC:
        from tools.latency import webrtc

        return webrtc.measure(config, fps, seconds, notice)
    from tools.latency import screen

    return screen.measure(config, seconds, notice)


def header(config: Config, fps: float, seconds: float) -> dict[str, Any]:
    """Return when, on which machine and with which settings the measurement was made."""
    commit, changed = rounds.commit()
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "changed": changed,
        "machine": report.machine(),
        "config": {
            "size": "{}x{}".format(*config.size),
            "fps": fps,
            "generator": config.generator,
            "seconds": seconds,
            "rounds": rounds.ROUNDS,
        },
    }


def compare_with(
    old: rounds.OlderReport, measurements: list[Measurement], config: dict[str, Any]
) -> tuple[list[Change], str]:
    """Compare every method that the older report has too. Return the changes, and how they were measured.

    Raises ConfigError where the older report was measured with other settings.
    """
    old_config = old.values.get("config", {})
    for key in ("size", "fps", "generator"):
        if old_config.get(key) != config[key]:
            raise ConfigError(
                "against-other-settings",
                f"--against: the older report was measured with {key} {old_config.get(key)}",
                f"{key} {config[key]}",
                f"give --{key} {old_config.get(key)}",
            )
    changes: list[Change] = []
    for each in measurements:
        changes += compare(each.name, each.rounds, each.old_rounds or rounds_of(old.values, each.name))
    if any(each.old_rounds for each in measurements):
        return changes, f"The program of commit {old.commit[:10]} alternated with this one, round by round."
    return changes, (
        f"Compared with the figures in the file, as the older program was not run again ({old.reason}): "
        "if the machine is slower or faster now than then, that shows as a change of every stage."
    )


app = new_app()


@app.command()
def bench_command(
    method: Annotated[Method, typer.Argument(help="What to measure.")] = Method.STAGES,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long each method measures.")] = 24.0,
    size: Annotated[str, typer.Option(metavar="WxH", help="The size of camera and output.")] = "640x480",
    fps: Annotated[float, typer.Option(min=1, max=240, help="The camera's frame rate.")] = 30.0,
    generator: Annotated[str, typer.Option(metavar="NAME", help="The generator.")] = "mesh",
    camera: Annotated[
        str, typer.Option(metavar="CAMERA", help="For screen: the camera that sees the window.")
    ] = "auto",
    budget: Annotated[list[str] | None, typer.Option(metavar="p99=80", help="Exit with 1 above this limit.")] = None,
    old_path: Annotated[
        Path | None, typer.Option("--against", metavar="OLD.json", help="Report what got worse since this report.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write all figures here.")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", metavar="OUT.html", help="Write a page to read.")] = None,
    trace_path: Annotated[
        Path | None, typer.Option("--trace", metavar="OUT.json", help="Write a trace for ui.perfetto.dev.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown too.")] = False,
) -> None:
    """Measure the delay from camera to picture, stage by stage."""
    budgets = [Budget.parse(text) for text in budget or []]
    config = load({"camera": camera, "size": size, "fps": fps, "generator": generator, "sink": ["null"]})
    outputs = Outputs(json_path, html_path, trace_path)
    outputs.check()
    old = rounds.OlderReport(old_path) if old_path else None
    measurements = measure(method, config, fps, seconds, old)
    if not measurements:
        raise ReenactError("measure-nothing", "nothing could be measured here", cure="see why each method was left out")
    values = to_json(measurements, header(config, fps, seconds))
    changes, how = compare_with(old, measurements, values["config"]) if old else ([], "")
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 110)
    table.show(console, measurements)
    if old:
        table.show_changes(console, changes, how)
    if markdown:
        print(table.markdown(measurements[0]) + "\n")
    outputs.write(measurements, values, changes, how)
    exceeded = [line for each in budgets for line in each.violations(measurements)]
    for line in exceeded:
        print(f"over budget: {line}", file=sys.stderr)
    if exceeded:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_latency") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
