"""Replaces parts of aiortc, and checks that its version is the one whose private names are used.

aiortc has no public interface for what follows, so the program depends on the names below. ``pyproject.toml`` pins the
minor version, and ``install`` refuses any other.

    aiortc.rtcicetransport.Connection           replaced: gathering with a time limit (process/ice.py)
    aioice.Connection._closing                  read: whether it is being closed (process/ice.py)
    RTCIceTransport._connection                 read: when a peer was last heard (process/peers.py)
    RTCRtpTransceiver._codecs                   read: the negotiated codec (process/peers.py)
    RTCRtpSender._send_keyframe                 replaced: viewers share encoders (process/peers.py)
    RTCRtpSender.__encoder                      read: the receiver's bit-rate estimate (process/peers.py)
    aiortc.rtcrtpsender.get_encoder             replaced: bit rates, NVENC, timestamps (video/codecs.py)
    aiortc.rtcrtpreceiver.get_decoder           replaced: no delay (video/codecs.py)
    aiortc.rtcrtpreceiver.RemoteBitrateEstimator  replaced: bounds (video/codecs.py)
    aiortc.codecs.CODECS                        extended: more H.264 profiles (video/codecs.py)
    H264Encoder._packetize, _split_bitstream    called: RTP payloads of shared frames (video/codecs.py)
    Vp8Encoder._packetize                       called: the same
    aiortc.rtcrtpreceiver.JitterBuffer          replaced: frames with their last packet (video/jitter_buffer.py)
    RtpPacket._data                             read: the same
    RTCRtpReceiver._handle_rtcp_packet          wrapped: reads sender reports (sound/reports.py)
    RTCRtpReceiver.__timestamp_mapper, __rtx_ssrc  read: the same
    RTCRtpSender._next_encoded_frame, _send_rtcp  wrapped: writes sender reports (sound/reports.py)
    RTCRtpSender.__rtp_timestamp, __lsr         read, set: the same
"""

from __future__ import annotations

from engines.errors import SinkMissing
from engines.install_hint import python
from realtime.webrtc.process import ice
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video import jitter_buffer
from realtime.webrtc.video.codecs import Codecs

KNOWN_VERSION = "1.16"


def install(settings: ServerSettings) -> Codecs:
    """Replace parts of aiortc as the settings say, and return the codecs that it uses from now on.

    Raises SinkMissing for another version of aiortc, UsageError if the requested encoder does not work, ImportError
    without aiortc.
    """
    check_version()
    ice.install(settings)
    codecs = Codecs(settings)
    codecs.install()
    jitter_buffer.install(video=settings.marker_jitter_buffer)
    return codecs


def check_version() -> None:
    """Raise SinkMissing unless the installed aiortc is the known minor version."""
    import aiortc

    if aiortc.__version__.split(".")[:2] != KNOWN_VERSION.split("."):
        raise SinkMissing(
            "webrtc-aiortc-version",
            f"aiortc {aiortc.__version__}",
            f"aiortc {KNOWN_VERSION}",
            f"{python()} -m pip install 'aiortc>=1.16,<1.17'",
        )
