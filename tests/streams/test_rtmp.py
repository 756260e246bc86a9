"""An RTMP client against servers that do not take the stream, or not for long."""

from __future__ import annotations

import io
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import av
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from realtime.streams import rtmp
from realtime.streams.backoff import Backoff
from realtime.streams.rtmp import RtmpPush
from realtime.streams.target import Target
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.settings import ServerSettings
from tests.support.rings import SIZE, ring_pair, write_number
from tests.support.waiting import until

OPEN = av.open


class Taking:
    """A container that takes some packets before the server closes the connection."""

    def __init__(self, packets: int) -> None:
        self._container = OPEN(io.BytesIO(), "w", format="flv")
        self._left = packets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def mux(self, packets: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise av.BrokenPipeError(32, "Broken pipe")
        self._container.mux(packets)


class Messages:
    """Notes what is told to the main process."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.codes: list[str] = []

    def send(self, values: dict[str, Any]) -> bool:
        if values["kind"] != "alive":
            self.kinds.append(values["kind"])
        if values["kind"] == "down":
            self.codes.append(values["error"]["code"])
        return True


SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
kept = []
while True:
    accepted, _ = server.accept()
    {}
"""


@contextmanager
def accepting(then: str) -> Iterator[str]:
    """Accept connections in a process of its own, as PyAV may hold the interpreter's lock meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", SERVER.format(then)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"rtmp://127.0.0.1:{int(process.stdout.readline())}/live/key"
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@contextmanager
def pushing(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Messages, list[bool]]]:
    """Push numbered frames; provide what is told, and whether each failure counted as a refusal."""
    refusals: list[bool] = []

    class Noting(Backoff):
        def fail(self, *, refused: bool) -> float:
            refusals.append(refused)
            return 0.01

    monkeypatch.setattr(rtmp, "Backoff", Noting)
    messages = Messages()
    incoming: queue.Queue[Message] = queue.Queue()
    over = threading.Event()
    writer, reader = ring_pair()

    def write() -> None:
        number = 0
        while not over.wait(0.01):
            number += 1
            write_number(writer, number, time.monotonic_ns())

    settings = ServerSettings(h264_encoder="libx264")
    push = RtmpPush(Target("rtmp", url), SIZE, 30.0, settings, messages)  # type: ignore[arg-type]
    threads = [
        threading.Thread(target=write, name="frames"),
        threading.Thread(target=push.run, args=(reader, iter(incoming.get, None)), name="push"),
    ]
    for thread in threads:
        thread.start()
    try:
        yield messages, refusals
    finally:
        incoming.put(Message({"kind": "stop"}))
        threads[1].join()
        over.set()
        threads[0].join()
        writer.close()
        reader.close()


def test_a_server_that_closes_the_connection_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with accepting("accepted.close()") as url, pushing(url, monkeypatch) as (messages, refusals):
        until(lambda: refusals, timeout_s=60)
    assert all(refusals)
    assert "up" not in messages.kinds


def test_a_stream_that_is_cut_off_at_once_was_never_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "_SETTLED_S", 3600.0, raising=False)
    monkeypatch.setattr(av, "open", lambda *_, **__: Taking(5))
    with pushing("rtmp://127.0.0.1/live/key", monkeypatch) as (messages, refusals):
        until(lambda: len(refusals) > 1, timeout_s=60)
    assert all(refusals)
    assert set(messages.kinds) == {"down"}


def test_a_stream_that_breaks_after_it_was_up_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "_SETTLED_S", 0.0, raising=False)
    monkeypatch.setattr(av, "open", lambda *_, **__: Taking(40))
    with pushing("rtmp://127.0.0.1/live/key", monkeypatch) as (messages, refusals):
        until(lambda: refusals, timeout_s=60)
    assert not any(refusals)
    assert messages.kinds[:2] == ["up", "down"]


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp, "_TIMEOUT_S", 1)
    hang = "kept.append(accepted); server.settimeout(20)"
    with accepting(hang) as url, pushing(url, monkeypatch) as (messages, refusals):
        until(lambda: refusals, timeout_s=60)
    assert not any(refusals)
    assert messages.codes[0] == "stream-no-answer"


@pytest.mark.parametrize("trusted", [False, True])
def test_over_tls_only_a_server_with_a_trusted_certificate_gets_the_stream(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed("127.0.0.1")
    for name, content in (("certificate", certificate), ("key", key)):
        (tmp_path / name).write_bytes(content)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
    got = tmp_path / "got"
    read = (
        "import ssl; context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);"
        f"context.load_cert_chain({str(tmp_path / 'certificate')!r}, {str(tmp_path / 'key')!r})\n"
        "    try: data = context.wrap_socket(accepted, server_side=True).recv(1)\n"
        "    except OSError: data = b''\n"
        f"    open({str(got)!r}, 'ab').write(data); accepted.close()"
    )
    with accepting(read) as url, pushing(url.replace("rtmp:", "rtmps:"), monkeypatch) as (messages, refusals):
        until(lambda: refusals and got.exists(), timeout_s=60)
    assert bool(got.read_bytes()) == trusted
    assert all(refusals)
    assert set(messages.codes) == {"stream-ended"}


def self_signed(host: str) -> tuple[bytes, bytes]:
    """Return a certificate that no authority has signed, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private
