"""The command line: ``reenact`` and ``python run.py``.

Without a subcommand it runs the program. The options are the fields of ``realtime.config.Config``. The subcommands are
the tools of ``engines.install_hint.SUBCOMMANDS``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engines.errors import ReenactError, SinkLost, UsageError, one_of
from engines.install_hint import SUBCOMMANDS, command, version
from realtime import config as configuration
from realtime import report
from realtime.config import GROUPS, Config
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import KEYS
from realtime.terminal import std_streams
from realtime.terminal.display import FLUSH_S, Display, format_error, summary
from realtime.terminal.keys import Keys
from realtime.terminal.signals import EXIT_CODE, Interrupts, Suspensions

if TYPE_CHECKING:
    from realtime.assemble import OpenedRun
    from realtime.pipeline.run import Run
    from realtime.server.server_application import ServerApplication

FINISH_S = 60.0
"""A run that ended by itself may take this long to finish its recordings."""
ENCODE_S = 8.0
"""A run that was told to stop stops within two seconds, but what is being encoded may take this much longer: until it
is written, a recording does not play. A second signal cuts that short."""
TICK_S = 0.1
STARTED_NS = time.monotonic_ns()
"""When the program started, which start-up time counts from."""
SWITCH_S = 0.001
"""How long a Python thread may keep the others waiting; the interpreter's default of 5 ms is a sixth of a frame."""

SUBCOMMAND_HELP = {
    "doctor": "check what this machine can do, and what is missing",
    "models": "download and check models and weights",
    "build-engine": "build TensorRT engines for this GPU",
    "bench": "measure the delay from camera to output",
    "fidelity": "measure how well the portrait follows the driver",
    "verify": "say whether a picture or a video is marked as generated",
    "panic": "show the slate at once, from anywhere on this machine",
    "consent": "list and revoke the rights to portraits that you have stated",
}
_EXAMPLES = (
    ("", "webcam to virtual camera; the page shows it too"),
    ("--portrait me.jpg --portrait art.png", "your own portraits; n and p switch between them"),
    ("--camera webrtc", "drive it from a browser: open the printed address"),
    ("--camera in.mp4 --pace max --sink file:out.mp4", "convert a video file, every frame of it"),
    ("--generator liveportrait --device cuda", "a network instead of the mesh, on a GPU"),
)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage."""
    _open_streams()
    try:
        code = execute(sys.argv[1:])
    except ReenactError as error:
        print(format_error(error), file=sys.stderr)
        code = exit_code(error)
    except OSError:  # while printing the text of --help, for one
        code = std_streams.flush_output(last="\n")
        if not code:
            raise
    except KeyboardInterrupt:
        code = 130
    if threading.active_count() > 1:
        _exit_now(code)
    sys.exit(std_streams.flush_output(code))


def execute(words: list[str]) -> int:
    """Carry out a command line and return its exit code. Raises ReenactError."""
    if words and words[0] in SUBCOMMANDS:
        tool = importlib.import_module(f"tools.{SUBCOMMANDS[words[0]]}")
        return int(tool.main(words[1:], command(words[0])))
    options = parse(words)
    if options.pop("help"):
        print(_parser().format_help(), end="")
        return 0
    if options.pop("version"):
        print(f"reenact {version()}")
        return 0
    path = options.pop("config")
    return run(configuration.load(options, None if path is None else Path(path)))


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of a command line by key, None where one was not given. Raises UsageError."""
    if words and not words[0].startswith("-"):
        found = f"no command {words[0]!r}"
        raise UsageError("cli-unknown-command", found, one_of((*SUBCOMMANDS, "options")), _help_hint())
    parser = _parser()
    options: dict[str, Any] = vars(parser.parse_args(_join_values(words)))
    for key in Config.model_fields:
        if configuration.kind(key) == "number":
            options[key] = _to_number(options[key])
    return options


class _Parser(argparse.ArgumentParser):
    """A parser that raises UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError("cli-bad-option", message, cure=_help_hint())


def _help_hint() -> str:
    return f"{command()} --help lists the options"


def _parser() -> _Parser:
    """Return a parser with an option for each field of Config, in groups."""
    parser = _Parser(
        prog=command(),
        usage="%(prog)s [OPTIONS]",
        description=_description(),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28),
        add_help=False,
        allow_abbrev=False,
    )
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for key in Config.model_fields:
        _add_option(groups[configuration.group(key)], key)
    other = groups["Other"]
    other.add_argument("--config", metavar="FILE.toml", help="read options from a TOML file; its keys are their names")
    other.add_argument("--version", action="store_true", help="print the version and exit")
    other.add_argument("--help", action="store_true", help="print this text and exit")
    return parser


def _add_option(group: argparse._ArgumentGroup, key: str) -> None:
    """Add the option of one field of Config."""
    text = (Config.model_fields[key].description or "").replace("%", "%%")
    if default := configuration.default(key):
        text += f" [{default}]"
    name = configuration.option_name(key)
    kind = configuration.kind(key)
    if kind == "flag":
        if Config.model_fields[key].default:
            text += " [on]"
        group.add_argument(name, dest=key, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        action = "append" if kind == "list" else "store"
        group.add_argument(name, dest=key, action=action, metavar=configuration.metavar(key), help=text)


def _description() -> str:
    """Return what the program does, examples, and the subcommands."""
    examples = _table((f"{command()} {options}", text) for options, text in _EXAMPLES)
    subcommands = _table((command(name), text) for name, text in SUBCOMMAND_HELP.items())
    return (
        "Turn a webcam into a living portrait, in real time.\n\n"
        f"Examples:\n{examples}\n\n"
        f"Tools, each with a --help of its own:\n{subcommands}"
    )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines of a command and what it does, which is put on a line of its own below a long command."""
    return "\n".join(
        f"  {typed:<36}  {text}" if len(typed) <= 36 else f"  {typed}\n{text:>{40 + len(text)}}" for typed, text in rows
    )


def _join_values(words: Sequence[str]) -> list[str]:
    """Join each option and its value by ``=``, so that a value may begin with a dash."""
    takes_value = {"--config"} | {
        configuration.option_name(key) for key in Config.model_fields if configuration.kind(key) != "flag"
    }
    joined: list[str] = []
    remaining = iter(words)
    for word in remaining:
        value = next(remaining, None) if word in takes_value else None
        joined.append(word if value is None else f"{word}={value}")
    return joined


def _to_number(text: str | None) -> float | str | None:
    """Return a number where the text is one; otherwise the text, which the configuration refuses."""
    if text is None:
        return None
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _open_streams() -> None:
    """Let any text be printed, and let text on standard error arrive at once.

    Native libraries write to file descriptor 2, which ``realtime.core.quiet_libraries`` holds back while they load;
    our own lines go around that, because the process may end meanwhile.
    """
    _occupy_closed_streams()
    std_streams.protect_stderr()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - stands in for one that was closed
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _occupy_closed_streams() -> None:
    """Open standard streams that were closed: the next file would get their number, and what is printed natively."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def exit_code(error: BaseException | None) -> int:
    """Return 0 without an error, 2 for wrong usage, otherwise 1."""
    return 0 if error is None else 2 if isinstance(error, UsageError) else 1


def run(config: Config) -> int:
    """Run the program with a configuration and return its exit code. Raises ReenactError before it has begun.

    A thread that hangs, in a camera's driver for one, may still exist when it returns.
    """
    _check_working_directory()
    if config.report is not None:
        report.check(config.report)
    if config.portrait:
        _require_consent(config)
    sys.setswitchinterval(SWITCH_S)
    with contextlib.closing(Display(quiet=config.quiet, lossless=config.pace == "max")) as display:
        return _run(config, display)


def _require_consent(config: Config) -> None:
    """Have the user say what right there is to portraits that are used for the first time. Raises ConsentError."""
    from realtime.portraits import consent
    from realtime.portraits.bundled import with_bundled

    consent.require(
        [with_bundled(path) for path in config.portrait],
        config.consent,
        None if config.quiet else consent.terminal_ask(),
        lambda text: print(text, file=sys.stderr),
    )


def _run(config: Config, display: Display) -> int:
    stop_signal = StopSignal()
    opened: OpenedRun | None = None

    def pressed(key: str) -> None:
        name = KEYS.get(key)
        if name == "quit":
            stop_signal.stop("quit")
        elif opened is not None and name is not None:
            opened.run.commands.post(name)

    def leave() -> None:
        keys.restore()
        std_streams.show_cursor()

    def pause() -> None:
        keys.pause()
        std_streams.show_cursor()

    with Keys(pressed) as keys, Interrupts(leave) as interrupts, Suspensions(pause, keys.resume):
        from realtime import assemble  # takes most of a second, during which signals are handled already
        from realtime.core.background_task import BackgroundTask

        assemble.check_files(config)
        loader = assemble.make_loader(config, stop_signal, display.say) if config.camera != "webrtc" else None
        if loader is not None:
            loader.start()
        opening = BackgroundTask("open", lambda: assemble.open_run(config, loader, stop_signal, display.say))
        opening.start()
        try:
            while not opening.wait(TICK_S) and not _ended(interrupts, stop_signal):
                pass
            # what is open by then is closed in order, although the run was ended before it began
            if opening.wait(1.0):
                opened = opening.result()
                _supervise(opened, display, interrupts, with_keys=keys.active)
        except Exception as error:
            stop_signal.fail(error)
        finally:
            display.end()
    return _conclude(config, stop_signal, opened, display, interrupted=bool(interrupts.count))


def _check_working_directory() -> None:
    """Raise UsageError in a working directory that was deleted, where libraries cannot even be imported."""
    try:
        os.getcwd()
    except OSError:
        found = "the working directory no longer exists"
        raise UsageError("cli-no-working-directory", found, cure="cd into another one") from None


def _ended(interrupts: Interrupts, stop_signal: StopSignal) -> bool:
    """Return True if the run is over. A signal ends it."""
    if interrupts.count:
        stop_signal.stop("interrupted")
    return stop_signal.over.is_set()


def _supervise(opened: OpenedRun, display: Display, interrupts: Interrupts, *, with_keys: bool) -> None:
    """Start the run, show its state until it ends, and close it."""
    run, application = opened.run, opened.application
    if with_keys:
        display.show_keys()
    display.begin(run.total)
    opened.start()
    running = False
    try:
        while not _ended(interrupts, run.stop_signal):
            run.stop_signal.over.wait(TICK_S)
            if run.counts.frames and not running:
                running = True
                display.say(f"after {(run.counts.first_ns - STARTED_NS) / 1e9:.1f} s; Ctrl-C ends it", "running")
            display.update(run, application.summary() if application is not None else "")
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
    """Wait for recordings that are still being written: until then they do not play."""
    signals = interrupts.count
    if unfinished(run):
        display.say(f"finishing the recording; Ctrl-C {'again ' if signals else ''}leaves it as it is")
    while unfinished(run) and interrupts.count == signals and time.monotonic() < deadline:
        time.sleep(TICK_S)


def unfinished(run: Run) -> list[SinkLost]:
    """Return an error for each recording of a closed run that is still being written."""
    writing = [each.sink for each in run.deliveries if each.is_alive()]
    if not writing:
        return []
    from realtime.sinks.recording import Recording

    return [
        SinkLost(
            "recording-unfinished",
            f"the recording was not finished: its part {sink.partial} may not play",
            cure="choose a smaller --size if encoding takes this long",
        )
        for sink in writing
        if isinstance(sink, Recording)
    ]


def _conclude(
    config: Config, stop_signal: StopSignal, opened: OpenedRun | None, display: Display, *, interrupted: bool
) -> int:
    """Print how it ended, write the report, and return the exit code."""
    code = exit_code(stop_signal.error)
    errors = [stop_signal.error] if stop_signal.error is not None else []
    run: Run | None = None
    application: ServerApplication | None = None
    if opened is not None:
        run, application = opened.run, opened.application
        for note in run.notes:
            display.say(note)
        errors += [each.error for each in run.deliveries if each.error is not None and each.error not in errors]
        errors += unfinished(run)
        code = code or exit_code(errors[0] if errors else None)
    # a server that is open has begun, although no browser came
    begun = run is not None and (run.counts.frames > 0 or stop_signal.complete or config.camera == "webrtc")
    if run is not None and begun:
        display.say(summary(run, lossless=config.pace == "max"), "done" if stop_signal.error is None else "stopped")
    elif run is not None or stop_signal.error is None:
        display.say("before the first frame", "stopped")
        code = code or (EXIT_CODE if interrupted else 0)
    display.close()  # before what else is written, perhaps to the same place
    if config.report is not None:
        try:
            report.write(config.report, report.build(run, config, application))
        except SinkLost as failure:
            errors.append(failure)
            code = code or 1
    if errors:
        printing = threading.Thread(target=_print_errors, args=(errors,), name="print errors", daemon=True)
        printing.start()
        printing.join(FLUSH_S)  # a terminal whose output is stopped does not keep the program from ending
    return code


def _print_errors(errors: Sequence[BaseException]) -> None:
    for error in errors:
        if isinstance(error, ReenactError):
            print(format_error(error), file=sys.stderr)
        else:
            traceback.print_exception(error, file=sys.stderr)


def _exit_now(code: int) -> NoReturn:
    """End the process although a thread is at work, or hangs, for example in a camera's driver.

    Waiting for it could take forever, and the interpreter's own exit kills threads inside native code, which makes C++
    abort. Nothing is left to flush, and flushing could hang on a terminal whose output is stopped.
    """
    os._exit(code)
