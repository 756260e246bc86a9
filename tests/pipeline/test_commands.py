"""Commands on their way to the compute thread, and the keys for them."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

import realtime.webrtc
from engines.errors import BusyError
from realtime.pipeline.commands import KEYS, LOCAL_COMMANDS, MAX_WAITING, Commands, QueuedCommand
from realtime.server.control import request_types
from tests.support.waiting import until

SHORTCUTS = Path(realtime.webrtc.__file__).parent / "page" / "shortcuts.js"


def test_the_page_has_the_terminals_keys() -> None:
    table = re.search(r"const KEYS = \{(.*?)\};", SHORTCUTS.read_text("utf-8"), re.DOTALL)
    assert table is not None
    page = {key.strip('"'): command for key, command in re.findall(r'("?\S"?): "(\w+)"', table[1])}
    assert page == {key: command for key, command in KEYS.items() if command not in LOCAL_COMMANDS}


def test_every_key_is_for_a_command_of_the_network_or_a_local_one() -> None:
    assert set(KEYS.values()) <= request_types().keys() | LOCAL_COMMANDS


def test_commands_wait_in_order() -> None:
    commands = Commands()
    commands.post("set_frozen")
    commands.post("next_portrait")
    assert [command.name for command in commands.take()] == ["set_frozen", "next_portrait"]
    assert commands.take() == []


def test_the_sender_gets_the_result() -> None:
    commands = Commands()
    results: list[str] = []
    sender = threading.Thread(target=lambda: results.append(commands.ask("set_gain", 2.0)))
    sender.start()
    (command,) = until(commands.take)
    assert command.start()
    command.finish("gain 2")
    sender.join(5)
    assert results == ["gain 2"]


def test_a_command_that_does_not_start_in_time_is_withdrawn() -> None:
    commands = Commands()
    with pytest.raises(BusyError) as caught:
        commands.ask("next_portrait", timeout_s=0.01)
    assert caught.value.code == "pipeline-busy"
    (command,) = commands.take()
    assert not command.start(), "a command that is sent again would be carried out twice"


def test_a_command_that_has_started_is_not_withdrawn() -> None:
    class StartsAtOnce(Commands):
        def _put(self, command: QueuedCommand) -> bool:
            return command.start() and super()._put(command)

    commands = StartsAtOnce()
    with pytest.raises(BusyError) as caught:
        commands.ask("set_frozen", timeout_s=0.01)
    assert caught.value.code == "command-pending"
    (command,) = commands.take()
    command.finish("too late")  # its sender has given up


def test_a_full_queue_refuses_commands() -> None:
    commands = Commands()
    assert [commands.post("next_portrait") for _ in range(MAX_WAITING + 1)] == [True] * MAX_WAITING + [False]
    with pytest.raises(BusyError) as caught:
        commands.ask("next_portrait")
    assert caught.value.code == "pipeline-busy"
