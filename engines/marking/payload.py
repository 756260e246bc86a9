"""What a watermark says: 48 bits, with a checksum and an error-correcting code around them."""

from __future__ import annotations

import binascii
import datetime
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""The version of the format that this program writes."""
BITS = 48
SESSION_BITS, DAY_BITS = 28, 16
EPOCH = datetime.date(2020, 1, 1)
"""Days are counted from here; 16 bits last until 2199."""
CONSTRAINT = 9
"""Length of the code's register, in bits."""
_POLYNOMIALS = (0o463, 0o535, 0o733, 0o745)
"""The generators of the best code of rate 1/4 and that length, free distance 24 (Larsen, IEEE Trans. IT-19, 1973)."""
_MESSAGE = BITS + 16
CODED = (_MESSAGE + CONSTRAINT - 1) * len(_POLYNOMIALS)
"""How many bits a payload has once it is coded."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The contents of a watermark."""

    session: int
    """A random number of 28 bits, one for each start of the program."""
    day: int
    """Days since ``EPOCH``."""
    version: int = VERSION

    @classmethod
    def on(cls, session: int, date: datetime.date) -> Payload:
        """Return the payload of a session on that date; the session is cut to its bits."""
        return cls(session & ((1 << SESSION_BITS) - 1), (date - EPOCH).days & ((1 << DAY_BITS) - 1))

    @property
    def date(self) -> datetime.date:
        """The day as a date."""
        return EPOCH + datetime.timedelta(days=self.day)

    def to_bytes(self) -> bytes:
        """Return the 48 bits: version (4), session (28), day (16), the most significant first."""
        value = (self.version << SESSION_BITS | self.session) << DAY_BITS | self.day
        return value.to_bytes(BITS // 8, "big")

    @classmethod
    def from_bytes(cls, body: bytes) -> Payload:
        """Return the payload of 48 bits."""
        value = int.from_bytes(body, "big")
        session = value >> DAY_BITS & ((1 << SESSION_BITS) - 1)
        return cls(session, value & ((1 << DAY_BITS) - 1), value >> (SESSION_BITS + DAY_BITS))

    def __str__(self) -> str:
        return f"session {self.session:07x}, {self.date.isoformat()}, format {self.version}"


def encode(payload: Payload) -> NDArray[np.int8]:
    """Return the coded bits of a payload, (CODED,) int8, -1 or 1: CRC-16, then a convolutional code that ends at zero.

    The CRC is pixelcode's, CRC-16/CCITT-FALSE.
    """
    body = payload.to_bytes()
    message = body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
    register, coded = 0, []
    for bit in [*np.unpackbits(np.frombuffer(message, np.uint8)).tolist(), *[0] * (CONSTRAINT - 1)]:
        register = (register << 1 | bit) & ((1 << CONSTRAINT) - 1)
        coded += [(register & polynomial).bit_count() & 1 for polynomial in _POLYNOMIALS]
    return np.array(coded, np.int8) * 2 - 1


def decode(soft: NDArray[np.float32]) -> Payload | None:
    """Return the likeliest payload of soft bits, (CODED,) float32, positive for 1; None where the checksum is wrong.

    Viterbi's algorithm over all states at once (Forney, Proc. IEEE 61, 1973).
    """
    outputs, before = _trellis()
    score = np.full(len(before), -np.inf, np.float32)
    score[0] = 0
    choices = []
    for values in soft.reshape(-1, len(_POLYNOMIALS)):
        # (states, 2): the score of each state by way of each of its two predecessors
        ways = score[before] + outputs @ values
        best = ways.argmax(1)
        choices.append(best)
        score = np.take_along_axis(ways, best[:, None], 1)[:, 0]
    state, bits = 0, []
    for best in reversed(choices):
        bits.append(state & 1)
        state = int(before[state, best[state]])
    message = np.packbits(np.array(bits[::-1][:_MESSAGE], np.uint8)).tobytes()
    body, checksum = message[: BITS // 8], message[BITS // 8 :]
    if binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big") != checksum:
        return None
    return Payload.from_bytes(body)


@functools.cache
def _trellis() -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the output of each way into each state, (states, 2, rate) float32, -1 or 1, and where it comes from."""
    states = 1 << (CONSTRAINT - 1)
    outputs = np.empty((states, 2, len(_POLYNOMIALS)), np.float32)
    before = np.empty((states, 2), np.intp)
    for state in range(states):
        for oldest in (0, 1):
            register = oldest << (CONSTRAINT - 1) | state
            before[state, oldest] = register >> 1
            outputs[state, oldest] = [(register & each).bit_count() % 2 * 2 - 1 for each in _POLYNOMIALS]
    return outputs, before
