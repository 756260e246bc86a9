from __future__ import annotations

import datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.marking.payload import CODED, DAY_BITS, SESSION_BITS, Payload, decode, encode

payloads = st.builds(Payload, st.integers(0, 2**SESSION_BITS - 1), st.integers(0, 2**DAY_BITS - 1), st.integers(0, 15))


@given(payloads)
def test_a_payload_survives_coding(payload: Payload) -> None:
    assert Payload.from_bytes(payload.to_bytes()) == payload
    assert decode(encode(payload).astype(np.float32)) == payload


@given(payloads, st.integers(0, 1000))
def test_errors_are_corrected(payload: Payload, seed: int) -> None:
    random = np.random.default_rng(seed)
    soft = encode(payload).astype(np.float32)
    # fewer than half of the code's free distance
    soft[random.permutation(CODED)[:11]] *= -1
    assert decode(soft) == payload


def test_noise_has_no_payload() -> None:
    random = np.random.default_rng(1)
    assert [decode(random.standard_normal(CODED).astype(np.float32)) for _ in range(200)] == [None] * 200


def test_a_day_is_a_date() -> None:
    date = datetime.date(2026, 8, 2)
    assert Payload.on(2**40 + 5, date) == Payload(5, (date - datetime.date(2020, 1, 1)).days)
    assert Payload.on(5, date).date == date
