"""Messages between the two processes: whole, in order, with their descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.webrtc.ipc.messages import MAX_BODY, MessageParser, MessageSocket, encode

VALUES = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(-9, 9), st.text(max_size=9)), max_size=4)
MESSAGES = st.lists(st.tuples(VALUES, st.binary(max_size=50)), max_size=6)


@pytest.fixture
def sockets() -> Iterator[tuple[MessageSocket, MessageSocket]]:
    one, other = (MessageSocket(end) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1))
def test_messages_can_arrive_in_any_pieces(messages: list[tuple[dict[str, Any], bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode(values, body) for values, body in messages)
    parser, got, at = MessageParser(), [], 0
    while at < len(stream):
        step = cuts[at % len(cuts)]
        got += [(each.values, each.body) for each in parser.feed(stream[at : at + step])]
        at += step
    assert got == messages


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise_value_error_or_wait_for_more(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(isinstance(message.body, bytes) for message in MessageParser().feed(data))


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode({}, bytes(MAX_BODY + 1))


def test_descriptors_arrive_with_their_message(sockets: tuple[MessageSocket, MessageSocket]) -> None:
    one, other = sockets
    read, write = os.pipe()
    assert one.send({"n": 1})
    assert one.send({"n": 2}, b"body", fds=(write,))
    assert one.send({"n": 3})
    os.close(write)
    received = other.messages()
    assert next(received).fds == ()
    message = next(received)
    assert (message.values, message.body) == ({"n": 2}, b"body")
    (crossed,) = message.fds
    os.write(crossed, b"through")
    os.close(crossed)
    assert os.read(read, 100) == b"through"
    os.close(read)
    assert next(received).values == {"n": 3}


def test_large_messages_of_several_threads_do_not_mix(sockets: tuple[MessageSocket, MessageSocket]) -> None:
    one, other = sockets
    bodies = [bytes([which]) * 500_000 for which in range(4)]
    senders = [threading.Thread(target=lambda body=body: one.send({}, body)) for body in bodies]
    for sender in senders:
        sender.start()
    received = other.messages()
    got = sorted(next(received).body for _ in bodies)
    for sender in senders:
        sender.join()
    assert got == bodies


def test_messages_end_when_the_peer_is_gone(sockets: tuple[MessageSocket, MessageSocket]) -> None:
    one, other = sockets
    one.send({"last": True})
    one.close()
    assert [message.values for message in other.messages()] == [{"last": True}]
    assert not other.send({})


def test_a_message_whose_descriptors_did_not_fit_arrives_without_them() -> None:
    read, write = os.pipe()
    parser = MessageParser()
    (message,) = parser.feed(encode({"n": 1}, fds=2), [write])
    assert (message.values, message.fds) == ({"n": 1}, (write,))
    assert [each.values for each in parser.feed(encode({"n": 2}))] == [{"n": 2}]
    os.close(read)
    os.close(write)


def test_descriptors_of_incomplete_messages_are_closed() -> None:
    read, write = os.pipe()
    parser = MessageParser()
    assert list(parser.feed(b"", [write])) == []
    parser.close()
    assert os.read(read, 1) == b""
    os.close(read)
