"""What other trackers send, and whatever else may arrive at their ports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from engines.face.coefficients import NAMES
from realtime.capture.tracker_packets import (
    Heard,
    IFacialMocapReader,
    LiveLinkReader,
    PacketReader,
    VmcReader,
    turn_of_quaternion,
)

READERS: list[type[PacketReader]] = [VmcReader, LiveLinkReader, IFacialMocapReader]


def osc(address: str, *values: object) -> bytes:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)  # type: ignore[arg-type]
    return bytes(builder.build().dgram)


def value(heard: Heard | None, name: str) -> float:
    assert heard is not None
    return float(heard[0][NAMES.index(name)])


def test_vmc_values_count_when_they_are_applied() -> None:
    reader = VmcReader()
    assert reader.read(osc("/VMC/Ext/Blend/Val", "JawOpen", 0.5)) is None
    assert reader.read(osc("/VMC/Ext/Blend/Val", "mouthSmileLeft", 0.25)) is None
    heard = reader.read(osc("/VMC/Ext/Blend/Apply"))
    assert value(heard, "jawOpen") == 0.5
    assert value(heard, "mouthSmileLeft") == 0.25


def test_vmc_bundles_and_bones_are_read() -> None:
    bundle = OscBundleBuilder(IMMEDIATELY)
    half = float(np.sin(0.1)), float(np.cos(0.1))
    for message in (
        ("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, 0.0, half[0], 0.0, half[1]),
        ("/VMC/Ext/Blend/Val", "Blink_L", 1.0),
        ("/VMC/Ext/Blend/Apply",),
    ):
        builder = OscMessageBuilder(message[0])
        for each in message[1:]:
            builder.add_arg(each)
        bundle.add_content(builder.build())
    heard = VmcReader().read(bundle.build().dgram)
    assert value(heard, "eyeBlinkLeft") == 1
    assert heard is not None
    np.testing.assert_allclose(heard[1], (0, 0.2, 0), atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "much", True])
def test_vmc_values_that_are_none_change_nothing(bad: object) -> None:
    reader = VmcReader()
    reader.read(osc("/VMC/Ext/Blend/Val", "JawOpen", 0.5))
    if not isinstance(bad, bool):
        reader.read(osc("/VMC/Ext/Blend/Val", "JawOpen", bad))
        reader.read(osc("/VMC/Ext/Bone/Pos", "Head", *[0.0] * 6, bad))
    heard = reader.read(osc("/VMC/Ext/Blend/Apply"))
    assert value(heard, "jawOpen") == 0.5
    assert heard is not None
    assert (heard[1] == 0).all()


def test_values_beyond_their_range_are_clipped() -> None:
    reader = VmcReader()
    reader.read(osc("/VMC/Ext/Blend/Val", "JawOpen", 50.0))
    assert value(reader.read(osc("/VMC/Ext/Blend/Apply")), "jawOpen") == 1


def test_live_link_packets_of_an_independent_package_are_read() -> None:
    pylivelinkface = pytest.importorskip("pylivelinkface", reason="pip install pylivelinkface")
    sender = pylivelinkface.PyLiveLinkFace(fps=60)
    shape = pylivelinkface.FaceBlendShape
    sender.set_blendshape(shape.JawOpen, 0.5, no_filter=True)
    sender.set_blendshape(shape.EyeBlinkRight, 0.75, no_filter=True)
    sender.set_blendshape(shape.HeadYaw, 0.25, no_filter=True)
    heard = LiveLinkReader().read(sender.encode())
    assert value(heard, "jawOpen") == 0.5
    assert value(heard, "eyeBlinkRight") == 0.75
    assert value(heard, "eyeBlinkLeft") == 0
    assert heard is not None
    np.testing.assert_allclose(heard[1], (0, -0.25, 0), atol=1e-6)


def test_ifacialmocap_is_read_in_percent_and_degrees() -> None:
    names = [name.replace("Left", "_L").replace("Right", "_R") for name in NAMES]
    for dash in ("-", "&"):
        text = "|".join(f"{name}{dash}{40 if name == 'jawOpen' else 0}" for name in names)
        text += "|=head#10.0,-20.0,5.0,0.0,0.0,0.0|rightEye#0,0,0|leftEye#0,0,0|"
        heard = IFacialMocapReader().read(text.encode())
        assert value(heard, "jawOpen") == pytest.approx(0.4)
        assert heard is not None
        np.testing.assert_allclose(np.degrees(heard[1]), (10, -20, 5), atol=1e-4)


@pytest.mark.parametrize("kind", READERS)
@given(data=st.binary(max_size=600))
def test_no_packet_breaks_a_reader(kind: type[PacketReader], data: bytes) -> None:
    heard = kind().read(data)
    assert heard is None or np.isfinite(heard[0]).all()


@pytest.mark.parametrize("kind", READERS)
def test_enormous_and_nested_packets_are_ignored(kind: type[PacketReader]) -> None:
    assert kind().read(b"#bundle\0" * 8000) is None
    nested = b""
    for _ in range(150):
        nested = b"#bundle\0" + bytes(8) + len(nested).to_bytes(4, "big") + nested
    assert kind().read(nested) is None


def test_a_quaternion_of_any_length_is_a_turn() -> None:
    np.testing.assert_allclose(turn_of_quaternion(0, 0, 0, 5), (0, 0, 0), atol=1e-6)
    np.testing.assert_allclose(turn_of_quaternion(2 * np.sin(0.1), 0, 0, 2 * np.cos(0.1)), (0.2, 0, 0), atol=1e-5)
