"""The command line of the daemon."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import ReenactError, SinkLost, UsageError
from engines.install_hint import version
from realtime import config as configs
from realtime import report
from realtime.config import Config
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import KEYS
from realtime.terminal import std_streams
from realtime.terminal.display import FLUSH_S, Display, format_error, summary
from realtime.terminal.keys import Keys
from realtime.terminal.signals import Interrupts, Suspensions

if TYPE_CHECKING:
    from realtime.assemble import Opened
    from realtime.pipeline.run import Run
    from realtime.server.service import MediaService

FINISH_S = 60.0
"""A run that ended by itself may take this long to finish its recordings."""
ENCODE_S = 8.0
"""A run that was told to stop has stopped in two seconds, but what is being encoded may take this much longer: until it
is, nothing of a recording may play. A second signal cuts that short."""
TICK_S = 0.1
STARTED_NS = time.monotonic_ns()
"""When the program started, or nearly: what start-up time counts from."""
SWITCH_S = 0.001
"""How long a Python thread keeps the others waiting at most; the interpreter's own 5 ms is a sixth of a frame."""
WRONG_USE: Any = typer.BadParameter.__base__
"""What typer raises for an option that there is not, or a value that is none."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use."""
    _open_streams()
    try:
        code = typer.main.get_command(_app()).main(prog_name="run.py", standalone_mode=False)
    except WRONG_USE as error:
        text = " ".join(error.format_message().split())
        print(f"reenact: {text}; python run.py --help lists the options", file=sys.stderr)
        code = 2
    except ReenactError as error:
        print(format_error(error), file=sys.stderr)
        code = exit_code(error)
    except OSError:  # the text of --help, for one
        code = std_streams.flush_output(last="\n")
        if not code:
            raise
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if threading.active_count() > 1:
        _leave(code)
    sys.exit(std_streams.flush_output(code))


def _open_streams() -> None:
    """Let any text be printed, and what is said on standard error arrive at once.

    Native libraries chatter on file descriptor 2, which ``realtime.core.quiet_libraries`` holds back while they
    load; the lines of ours go around that, because the process may end meanwhile.
    """
    _occupy()
    std_streams.protect_stderr()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - stands in for one that was closed
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _occupy() -> None:
    """Open standard streams that were closed: the next file would get their number, and what is printed natively."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def exit_code(error: BaseException | None) -> int:
    """0 without an error, 2 for wrong use, otherwise 1."""
    return 0 if error is None else 2 if isinstance(error, UsageError) else 1


def _app() -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help="Appear as a living portrait: a webcam drives it, a virtual camera shows it.")(_command)
    return app


def _option(key: str, metavar: str, *names: str) -> typer.models.OptionInfo:
    text = configs.allowed(key).removeprefix("true or false: ")
    default = Config.model_fields[key].default
    if default and default is not True:
        text += f" [{default[0] if key == 'sink' else 'x'.join(map(str, default)) if key == 'size' else default}]"
    info: typer.models.OptionInfo = typer.Option(*(names or (f"--{key}",)), metavar=metavar, help=text)
    return info


def _number(text: str | None) -> object:
    """A number where the text is one; otherwise the text, which the configuration refuses in its own words."""
    for kind in (int, float):
        with contextlib.suppress(ValueError, TypeError):
            return kind(text)  # type: ignore[arg-type]
    return text


def _version(wanted: bool) -> None:
    if wanted:
        print(f"reenact {version()}")
        raise typer.Exit


def _command(
    camera: Annotated[str | None, _option("camera", "auto|INDEX|/dev/videoN|FILE|performer|webrtc")] = None,
    portrait: Annotated[list[str] | None, _option("portrait", "IMAGE")] = None,
    generator: Annotated[str | None, _option("generator", "mesh|liveportrait|fomm")] = None,
    backend: Annotated[str | None, _option("backend", "auto|torch|onnx|tensorrt")] = None,
    device: Annotated[str | None, _option("device", "auto|cpu|cuda|rtx")] = None,
    compiled: Annotated[bool | None, _option("compile", "", "--compile/--no-compile")] = None,
    weights: Annotated[str | None, _option("weights", "PATH|random:SEED")] = None,
    sink: Annotated[
        list[str] | None, _option("sink", "auto|virtualcam[:DEVICE]|webrtc[:HOST:PORT]|file:OUT.mp4|null")
    ] = None,
    size: Annotated[str | None, _option("size", "WxH")] = None,
    fps: Annotated[str | None, _option("fps", "N")] = None,
    pace: Annotated[str | None, _option("pace", "live|max")] = None,
    frames: Annotated[str | None, _option("frames", "N")] = None,
    duration: Annotated[str | None, _option("duration", "S")] = None,
    neutral: Annotated[str | None, _option("neutral", "auto|first")] = None,
    region: Annotated[str | None, _option("region", "all|expression|pose|lips|eyes")] = None,
    retarget: Annotated[str | None, _option("retarget", "none|eyes|lips|both")] = None,
    gain: Annotated[str | None, _option("gain", "G")] = None,
    mouth: Annotated[str | None, _option("mouth", "driver|painted")] = None,
    mirror: Annotated[bool | None, _option("mirror", "", "--mirror/--no-mirror")] = None,
    tracker: Annotated[str | None, _option("tracker", "auto|facemesh|landmarker")] = None,
    model: Annotated[str | None, _option("model", "FILE.task")] = None,
    token: Annotated[str | None, _option("token", "TEXT")] = None,
    token_file: Annotated[str | None, _option("token_file", "FILE", "--token-file")] = None,
    sessions: Annotated[str | None, _option("sessions", "N")] = None,
    ice_server: Annotated[list[str] | None, _option("ice_server", "URL[,USER,PASSWORD]", "--ice-server")] = None,
    server_name: Annotated[list[str] | None, _option("server_name", "NAME", "--server-name")] = None,
    bitrate: Annotated[str | None, _option("bitrate", "KBIT")] = None,
    jitter_mend: Annotated[bool | None, _option("jitter_mend", "", "--jitter-mend/--no-jitter-mend")] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE.toml", help="read options from a TOML file")
    ] = None,
    relay_code: Annotated[bool | None, _option("relay_code", "", "--relay-code/--no-relay-code")] = None,
    report: Annotated[str | None, _option("report", "OUT.json")] = None,
    quiet: Annotated[bool | None, _option("quiet", "", "--quiet/--no-quiet")] = None,
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = None,
) -> int:
    options: dict[str, object] = {
        "camera": camera,
        "portrait": portrait,
        "generator": generator,
        "backend": backend,
        "device": device,
        "compile": compiled,
        "weights": weights,
        "sink": sink,
        "size": size,
        "fps": _number(fps),
        "pace": pace,
        "frames": _number(frames),
        "duration": _number(duration),
        "neutral": neutral,
        "region": region,
        "retarget": retarget,
        "gain": _number(gain),
        "mouth": mouth,
        "mirror": mirror,
        "tracker": tracker,
        "model": model,
        "token": token,
        "token_file": token_file,
        "sessions": _number(sessions),
        "ice_server": ice_server,
        "server_name": server_name,
        "bitrate": _number(bitrate),
        "jitter_mend": jitter_mend,
        "relay_code": relay_code,
        "report": report,
        "quiet": quiet,
    }
    del version
    return run(configs.load(options, None if config is None else Path(config)))


def run(config: Config) -> int:
    """Do the whole job that a configuration asks for; the exit code. Raises ReenactError before it has begun.

    A thread that hangs, in a camera's driver for one, may still be there when it returns.
    """
    _check_folder()
    if config.report is not None:
        report.check(config.report)
    sys.setswitchinterval(SWITCH_S)
    with contextlib.closing(Display(quiet=config.quiet, lossless=config.pace == "max")) as display:
        return _run(config, display)


def _run(config: Config, display: Display) -> int:
    stop_signal = StopSignal()
    opened: Opened | None = None

    def pressed(key: str) -> None:
        command = KEYS.get(key)
        if command == "quit":
            stop_signal.stop("quit")
        elif opened is not None and command is not None:
            opened.run.commands.post(command)

    def leave() -> None:
        keys.restore()
        std_streams.show_cursor()

    def pause() -> None:
        keys.pause()
        std_streams.show_cursor()

    with Keys(pressed) as keys, Interrupts(leave) as interrupts, Suspensions(pause, keys.resume):
        from realtime import assemble  # takes most of a second, in which a signal is heard already
        from realtime.core.background_task import BackgroundTask

        parts = assemble.loader(config, stop_signal, display.say) if config.camera != "webrtc" else None
        if parts is not None:
            parts.start()
        opening = BackgroundTask("open", lambda: assemble.open_run(config, parts, stop_signal, display.say))
        opening.start()
        try:
            while not opening.wait(TICK_S) and not _ended(interrupts, stop_signal):
                pass
            # what is open by then is closed in order, although the run has been ended before it began
            if opening.wait(1.0):
                opened = opening.result()
                _supervise(opened, display, interrupts, with_keys=keys.active)
        except Exception as error:
            stop_signal.fail(error)
        finally:
            display.end()
    return _conclude(config, stop_signal, opened, display)


def _check_folder() -> None:
    """Raise UsageError in a working directory that was deleted, where libraries cannot even be imported."""
    try:
        os.getcwd()
    except OSError:
        raise UsageError("the folder this was started in is gone", cure="cd into another one") from None


def _ended(interrupts: Interrupts, stop_signal: StopSignal) -> bool:
    """Whether the run is over, by a signal for one."""
    if interrupts.count:
        stop_signal.stop("interrupted")
    return stop_signal.over.is_set()


def _supervise(opened: Opened, display: Display, interrupts: Interrupts, *, with_keys: bool) -> None:
    """Start the run and see it through."""
    run, media = opened.run, opened.media
    if with_keys:
        display.show_keys()
    display.begin(run.total)
    opened.start()
    running = False
    try:
        while not _ended(interrupts, run.stop_signal):
            run.stop_signal.over.wait(TICK_S)
            if run.ledger.frames and not running:
                running = True
                display.say(f"after {(run.ledger.first_ns - STARTED_NS) / 1e9:.1f} s; Ctrl-C ends it", "running")
            display.update(run, media.summary() if media is not None else "")
    finally:
        deadline = time.monotonic() + FINISH_S
        if run.stop_signal.complete:
            while not interrupts.count and time.monotonic() < deadline and not run.finished(TICK_S):
                pass
        opened.close()
        if interrupts.count:
            deadline = min(deadline, time.monotonic() + ENCODE_S)
        _finish_recordings(run, display, interrupts, deadline)


def _finish_recordings(run: Run, display: Display, interrupts: Interrupts, deadline: float) -> None:
    """Wait for recordings that are still being written: until then nothing of them may play."""
    signals = interrupts.count
    if unfinished(run):
        display.say(f"finishing the recording; Ctrl-C {'again ' if signals else ''}leaves it as it is")
    while unfinished(run) and interrupts.count == signals and time.monotonic() < deadline:
        time.sleep(TICK_S)


def unfinished(run: Run) -> list[SinkLost]:
    """An error for each recording of a closed run that is still being written."""
    writing = [each.sink for each in run.deliveries if each.is_alive()]
    if not writing:
        return []
    from realtime.sinks.recording import Recording

    return [
        SinkLost(
            f"the recording was not finished: {sink.partial} is what there is of it, and may not play",
            cure="choose a smaller --size where encoding takes this long",
        )
        for sink in writing
        if isinstance(sink, Recording)
    ]


def _conclude(config: Config, stop_signal: StopSignal, opened: Opened | None, display: Display) -> int:
    """Say how it ended, write the report; the exit code."""
    code = exit_code(stop_signal.error)
    errors = [stop_signal.error] if stop_signal.error is not None else []
    run: Run | None = None
    media: MediaService | None = None
    if opened is not None:
        run, media = opened.run, opened.media
        for note in run.notes:
            display.say(note)
        errors += [each.error for each in run.deliveries if each.error is not None and each.error not in errors]
        errors += unfinished(run)
        display.say(summary(run), "done" if stop_signal.error is None else "stopped")
        code = code or exit_code(errors[0] if errors else None)
    display.close()  # before what else is written, perhaps to the same place
    if config.report is not None:
        try:
            report.write(config.report, report.build(run, config, media))
        except SinkLost as failure:
            errors.append(failure)
            code = code or 1
    if errors:
        complaint = threading.Thread(target=_complain, args=(errors,), name="complaint", daemon=True)
        complaint.start()
        complaint.join(FLUSH_S)  # a terminal that is held keeps nobody here
    return code


def _complain(errors: Sequence[BaseException]) -> None:
    for error in errors:
        if isinstance(error, ReenactError):
            print(format_error(error), file=sys.stderr)
        else:
            traceback.print_exception(error, file=sys.stderr)


def _leave(code: int) -> None:
    """End the process although a thread is at work, or hangs, say in a camera's driver.

    Waiting for it could take for ever, and the interpreter's own way out kills threads inside native code, which C++
    answers with an abort. Nothing is left to flush, and it could hang on a terminal that is held.
    """
    os._exit(code)
