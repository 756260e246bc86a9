"""The certificate of HTTPS: made once, kept, renewed, and a user's own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from engines.errors import UsageError
from realtime.webrtc.certificate import RENEW_DAYS, VALID_DAYS, given_certificate, machine_names, own_certificate

NAMES = ["localhost", "192.168.1.20", "::1"]
NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)


def content(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_certificate_is_for_the_names_and_only_its_owner_can_read_its_key(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "own.pem"
    made = own_certificate(NAMES, path, NOW)
    assert made.own
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = content(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ipaddress.ip_address("192.168.1.20"),
        ipaddress.ip_address("::1"),
    }
    assert (content(path).not_valid_after_utc - content(path).not_valid_before_utc).days == VALID_DAYS


def test_a_certificate_is_used_again_so_that_browsers_go_on_to_trust_it(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    first = own_certificate(NAMES, path, NOW)
    assert own_certificate(NAMES[:2], path, NOW + dt.timedelta(days=100)).fingerprint == first.fingerprint


def test_a_certificate_is_replaced_for_a_new_name_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    first = own_certificate(["localhost"], path, NOW)
    second = own_certificate(["10.0.0.7"], path, NOW)
    assert second.fingerprint != first.fingerprint
    assert own_certificate(["localhost", "10.0.0.7"], path, NOW).fingerprint == second.fingerprint


@pytest.mark.parametrize("days", [VALID_DAYS - RENEW_DAYS, VALID_DAYS + 1, -3])
def test_a_certificate_that_ends_soon_or_is_not_valid_yet_is_renewed(tmp_path: Path, days: int) -> None:
    path = tmp_path / "own.pem"
    first = own_certificate(NAMES, path, NOW)
    later = NOW + dt.timedelta(days=days)
    assert own_certificate(NAMES, path, later).fingerprint != first.fingerprint
    assert content(path).not_valid_after_utc > later + dt.timedelta(days=RENEW_DAYS)


@pytest.mark.parametrize(
    "damage", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "own.pem"
    path.write_bytes(damage)
    own_certificate(NAMES, path, NOW)
    assert content(path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        own_certificate(NAMES, tmp_path / "file" / "own.pem", NOW)
    assert caught.value.code == "https-not-writable"


def test_a_certificate_of_the_user_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    made = own_certificate(NAMES, path, NOW)
    given = given_certificate(path, NOW)
    assert given.fingerprint == made.fingerprint
    assert not given.own


def test_files_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    own_certificate(NAMES, path, NOW)
    pem = path.read_bytes()
    only_certificate, locked = tmp_path / "a.pem", tmp_path / "b.pem"
    only_certificate.write_bytes(pem[pem.index(b"-----BEGIN CERT") :])
    key = serialization.load_pem_private_key(pem, None)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    locked.write_bytes(secret + only_certificate.read_bytes())
    for file, now, code in (
        (tmp_path / "none.pem", NOW, "https-file-unreadable"),
        (tmp_path, NOW, "https-file-unreadable"),
        (only_certificate, NOW, "https-file-invalid"),
        (locked, NOW, "https-file-invalid"),
        (path, NOW + dt.timedelta(days=VALID_DAYS + 1), "https-not-valid-now"),
        (path, NOW - dt.timedelta(days=9), "https-not-valid-now"),
    ):
        with pytest.raises(UsageError) as caught:
            given_certificate(file, now)
        assert caught.value.code == code


def test_a_server_for_all_addresses_is_reached_under_those_of_the_machine() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(machine_names("0.0.0.0"))
    assert {"localhost", "portrait.example"} <= set(machine_names("portrait.example"))
    assert "fe80::1" in machine_names("[fe80::1]")
    assert "0.0.0.0" not in machine_names("0.0.0.0")
    assert machine_names("127.0.0.1").count("127.0.0.1") == 1
