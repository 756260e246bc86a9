"""The certificate that the page is served with over HTTPS: the user's own, or one that this machine makes for itself.

Browsers give a page the camera only over HTTPS, or on the same machine. A certificate of the machine's own encrypts as
any other does, but no authority vouches for it: browsers warn, and the user compares its fingerprint.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engines.atomic_write import atomic_write
from engines.errors import UsageError

VALID_DAYS = 397
"""Browsers refuse certificates that are valid for longer than 398 days."""
RENEW_DAYS = 30
"""A certificate that ends sooner is replaced."""
_PROGRAM = "reenact"
_MAX_BYTES = 1 << 20
_EXPECTED = "a PEM file with a certificate, its chain and its private key"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A file with a certificate and its private key."""

    path: Path
    """PEM: the private key, the certificate and its chain, in any order."""
    fingerprint: str
    """SHA-256 of the certificate as browsers show it, such as ``A1:B2:...``."""
    own: bool
    """Whether this machine made it, so that browsers warn of it."""


def own_path() -> Path:
    """Return where this machine keeps the certificate that it makes."""
    return platformdirs.user_data_path(_PROGRAM, appauthor=False) / "certificate.pem"


def given_certificate(path: Path, now: dt.datetime | None = None) -> Certificate:
    """Return a certificate of the user's. Raises UsageError if the file cannot serve as one."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except OSError as error:
        found = f"--https: {path} cannot be read: {error.strerror}"
        raise UsageError("https-file-unreadable", found, _EXPECTED, "name another file") from None
    try:
        certificate = x509.load_pem_x509_certificate(content)
        # an empty password: OpenSSL would ask for one on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password="")
    except (ValueError, OSError):
        found = f"--https: {path} is not a certificate with its private key, or the key has a password"
        raise UsageError("https-file-invalid", found, _EXPECTED, "name another file, or give --https auto") from None
    ends = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= (now or _now()) < ends:
        found = f"--https: the certificate in {path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d}"
        found += f" to {ends:%Y-%m-%d}"
        raise UsageError("https-not-valid-now", found, "one that is valid now", "renew it, or give --https auto")
    return Certificate(path, _fingerprint(certificate), own=False)


def own_certificate(names: Iterable[str], path: Path | None = None, now: dt.datetime | None = None) -> Certificate:
    """Return this machine's own certificate for names and addresses.

    The one that was made before is used again, so that browsers that trust it go on to, unless it ends soon or lacks a
    name. Only the user can read the file. Raises UsageError if it cannot be written.
    """
    path, now = path or own_path(), now or _now()
    wanted = {_general_name(name) for name in names}
    kept = _kept(path, now)
    if kept is None or not wanted <= set(_names_of(kept)):
        kept = _make(path, wanted | set(_names_of(kept) if kept else ()), now)
    return Certificate(path, _fingerprint(kept), own=True)


def machine_names(host: str) -> list[str]:
    """Return the names and addresses of this machine, and ``host`` unless it stands for all of them.

    Those in the local network are among them even where the server listens on loopback: guests may be let in there.
    """
    machine, bare = socket.gethostname(), host.strip("[]")
    names = ["localhost", "127.0.0.1", "::1", machine, *([] if "." in machine else [f"{machine}.local"])]
    names += [] if bare in ("", "0.0.0.0", "::") else [bare]
    # from the network interfaces: looking up the machine's name may wait for a name server
    from aioice.ice import get_host_addresses

    names += [each.partition("%")[0] for each in get_host_addresses(use_ipv4=True, use_ipv6=True)]
    return list(dict.fromkeys(names))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode())


def _names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _kept(path: Path, now: dt.datetime) -> x509.Certificate | None:
    """Return the certificate that was made before, or None if it cannot be used any longer."""
    try:
        content = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(content)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password="")
    except (OSError, ValueError):
        return None
    soon = now + dt.timedelta(days=RENEW_DAYS)
    return certificate if certificate.not_valid_before_utc <= now and soon < certificate.not_valid_after_utc else None


def _make(path: Path, names: Iterable[x509.GeneralName], now: dt.datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_PROGRAM} on this computer")])
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # clocks of other devices may be a little late
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS - 1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(sorted(names, key=str)), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    try:
        with atomic_write(path) as partial:  # which only its owner can read
            partial.write_bytes(content)
    except OSError as error:
        found = f"--https auto: the certificate cannot be written to {path}: {error.strerror}"
        raise UsageError("https-not-writable", found, cure="check the folder, or give a certificate") from None
    return certificate


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
