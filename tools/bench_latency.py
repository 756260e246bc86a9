"""How late is my face? The delay from camera to picture, by stage, with real devices, over WebRTC, and to the eye.

    python -m tools.bench_latency [stages|device|webrtc|screen|all] [--seconds N] [--size WxH] [--fps N] ...

``stages`` plays a recorded clip through the program's own threads. ``device`` sends a code in the pixels in by one
virtual camera and out by another. ``webrtc`` does so through a real peer and through Chromium. ``screen`` lets a camera
look at a window, which measures everything there is. ``all`` is all that needs no person.
"""

from __future__ import annotations

import json
import sys
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
from tools.latency.figures import Budget, Change, Part, compare, rounds_of, to_json
from tools.latency.stages import THREADS
from tools.support.command import new_app, run_app


class What(StrEnum):
    """What can be measured."""

    STAGES = "stages"
    DEVICE = "device"
    WEBRTC = "webrtc"
    SCREEN = "screen"
    ALL = "all"


_UNATTENDED = (What.STAGES, What.DEVICE, What.WEBRTC)


def measure(what: What, config: Config, fps: float, seconds: float, old: rounds.Older | None) -> list[Part]:
    """Measure one part, or with ``all`` those that can be had here; what cannot says why. Raises ReenactError."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    parts: list[Part] = []
    for each in _UNATTENDED if what is What.ALL else (what,):
        try:
            parts += _one(each, config, fps, seconds, old, lambda text: console.print(f"  {text}", style="dim"))
        except SourceMissing as error:
            if what is not What.ALL:
                raise
            console.print(f"{each}: left out: {error}" + (f"; {error.cure}" if error.cure else ""))
    return parts


def _one(
    what: What, config: Config, fps: float, seconds: float, old: rounds.Older | None, say: rounds.Say
) -> list[Part]:
    say(f"{what}, {config.size[0]}x{config.size[1]} at {fps:g} fps, {config.generator}")
    if what is What.STAGES:
        return [rounds.stages(config, fps, seconds, old, say)]
    if what is What.DEVICE:
        from tools.latency import device

        return [device.measure(config, fps, seconds, say)]
    if what is What.WEBRTC:
        from tools.latency import webrtc

        return webrtc.measure(config, fps, seconds, say)
    from tools.latency import screen

    return screen.measure(config, seconds, say)


def head(config: Config, fps: float, seconds: float) -> dict[str, Any]:
    """Where, when and with what."""
    number, changed = rounds.commit()
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": number,
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


def against(parts: list[Part], old: rounds.Older, new_config: dict[str, Any]) -> tuple[list[Change], str]:
    """Every part that the older report has too, and in words how they were compared. Raises ConfigError."""
    old_config = old.found.get("config", {})
    for key in ("size", "fps", "generator"):
        if old_config.get(key) != new_config[key]:
            raise ConfigError(
                f"--against: that was measured with {key} {old_config.get(key)}, this with {new_config[key]}",
                cure=f"give --{key} {old_config.get(key)}",
            )
    changes: list[Change] = []
    turned = False
    for part in parts:
        turned = turned or bool(part.old_rounds)
        changes += compare(part.name, part.rounds, part.old_rounds or rounds_of(old.found, part.name))
    if turned:
        return changes, f"The program of commit {old.commit[:10]} ran in turn with this one, round by round."
    why = (
        "its files differed from its commit" if not old.clean else f"commit {old.commit[:10] or 'unknown'} is not here"
    )
    return changes, (
        f"Compared with the figures in the file, as the older program cannot be run again ({why}): "
        "if the machine is slower or faster now than then, that shows as a change of every stage."
    )


app = new_app()


@app.command()
def bench_command(
    what: Annotated[What, typer.Argument(help="What to measure.")] = What.STAGES,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long each part measures.")] = 24.0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of camera and output.")] = "640x480",
    fps: Annotated[float, typer.Option(min=1, max=240, help="Of the camera.")] = 30.0,
    generator: Annotated[str, typer.Option(metavar="NAME", help="What makes the pictures.")] = "mesh",
    camera: Annotated[
        str, typer.Option(metavar="CAMERA", help="For screen: the camera that sees the window.")
    ] = "auto",
    budget: Annotated[list[str] | None, typer.Option(metavar="p99=80", help="Exit with 1 beyond it.")] = None,
    old_path: Annotated[
        Path | None, typer.Option("--against", metavar="OLD.json", help="Say what got worse since.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write everything here.")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", metavar="OUT.html", help="Write a page to read.")] = None,
    trace_path: Annotated[
        Path | None, typer.Option("--trace", metavar="OUT.json", help="Write a trace for ui.perfetto.dev.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the README's table as well.")] = False,
) -> None:
    """Measure how late the picture is, stage by stage."""
    budgets = [Budget.parse(text) for text in budget or []]
    config = load({"camera": camera, "size": size, "fps": fps, "generator": generator, "sink": ["null"]})
    for path in (json_path, html_path, trace_path):
        if path is not None:
            report.check(path)
    old = rounds.Older(old_path) if old_path else None
    parts = measure(what, config, fps, seconds, old)
    if not parts:
        raise ReenactError("nothing could be measured here")
    found = to_json(parts, head(config, fps, seconds))
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 110)
    table.show(console, parts)
    changes, how = against(parts, old, found["config"]) if old else ([], "")
    if old:
        table.show_changes(console, changes, how)
    if markdown:
        print(table.markdown(parts[0]) + "\n")
    if json_path:
        json_path.write_text(json.dumps(found, ensure_ascii=False) + "\n")
    if html_path:
        html_path.write_text(page.build(parts, found, changes, how), "utf-8")
    if trace_path:
        trace_path.write_text(json.dumps(trace.build(parts, THREADS)))
    broken = [line for each in budgets for line in each.broken(parts)]
    for line in broken:
        print(f"over budget: {line}", file=sys.stderr)
    if broken:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_latency") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
