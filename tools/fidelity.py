"""How faithfully an output follows its driver, judged by MediaPipe's official face landmarker.

    python -m tools.fidelity DRIVER OUTPUT      one driving video and what was made of it, frame by frame
    python -m tools.fidelity suite              a fixed list of drivers and portraits, end to end

Each channel of the two faces is compared over time: Pearson's r says whether the output does the same things,
the gain (standard deviation of the output over that of the driver) how strongly.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from engines.errors import ReenactError
from engines.types import Image
from tools.fidelity_suite.judge import ANGLES, CHANNELS, Floats, Track, frames_of, judge_clip
from tools.support.command import new_app, run_app

SIX = ("jawOpen", "blink", "smile", "yaw", "pitch", "roll")
"""The channels whose mean r is the figure of merit."""

STILL = {name: 0.5 if name in ANGLES else 0.03 for name in CHANNELS}
"""A channel of the driver that varies less (degrees, or blendshape score) says nothing about r and gain."""

HEAD_SPREAD = 2.0
"""The head with hair, ears and neck: the hull of the landmarks, spread about its centre by this much."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of driver and output compared over the frames in which both have a face."""

    name: str
    r: float
    """Pearson correlation; NaN where either does not move at all."""
    gain: float
    """Standard deviation of the output over that of the driver; NaN where the driver does not move."""
    driver_std: float
    """Blendshape score, or degrees."""
    still: bool
    """The driver hardly moves: left out of means."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What ``measure`` finds."""

    channels: tuple[Channel, ...]
    frames: int
    """Frames compared: the shorter of the two videos."""
    driver_frames: int
    output_frames: int
    driver_found: int
    """Frames among those compared in which the driver has a face."""
    output_found: int
    driver: Track = field(repr=False)
    output: Track = field(repr=False)

    def __getitem__(self, name: str) -> Channel:
        return next(channel for channel in self.channels if channel.name == name)

    @property
    def mean_r(self) -> float:
        """Mean r over the six channels, those that are still left out; NaN when all are."""
        moving = [self[name].r for name in SIX if not self[name].still]
        return float(np.mean(np.nan_to_num(moving))) if moving else float("nan")

    def summary(self) -> dict[str, Any]:
        """Everything but the tracks, as JSON takes it (NaN becomes None)."""
        names = ("frames", "driver_frames", "output_frames", "driver_found", "output_found")
        counts = {name: getattr(self, name) for name in names}
        channels = {channel.name: _plain(asdict(channel)) for channel in self.channels}
        return _plain({**counts, "mean_r": self.mean_r}) | {"channels": channels}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in values.items()
    }


def measure(driver: Path, output: Path, model: Path) -> Fidelity:
    """Judge two videos; frame i of ``output`` answers frame i of ``driver``.

    Raises SourceMissing for a video that cannot be read, TrackerError for a bundle that cannot be loaded.
    """
    return compare(judge_clip(driver, model), judge_clip(output, model))


def compare(driver: Track, output: Track) -> Fidelity:
    """Compare two tracks over the frames they share."""
    frames = min(len(driver), len(output))
    before, after = driver.first(frames), output.first(frames)
    both = before.found & after.found
    channels = tuple(_channel(name, before.channel(name)[both], after.channel(name)[both]) for name in CHANNELS)
    return Fidelity(
        channels=channels,
        frames=frames,
        driver_frames=len(driver),
        output_frames=len(output),
        driver_found=int(before.found.sum()),
        output_found=int(after.found.sum()),
        driver=before,
        output=after,
    )


def _channel(name: str, driver: Floats, output: Floats) -> Channel:
    wanted, got = driver.astype(np.float64), output.astype(np.float64)
    wanted_std, got_std = (float(values.std()) if len(values) else 0.0 for values in (wanted, got))
    r = gain = float("nan")
    if wanted_std > 0:
        gain = got_std / wanted_std
        if got_std > 0:
            r = float(np.mean((wanted - wanted.mean()) * (got - got.mean())) / (wanted_std * got_std))
    return Channel(name, r, gain, wanted_std, still=wanted_std < STILL[name])


class Background:
    """Compares the output with the rest picture outside the head, frame by frame, and pools the error."""

    def __init__(self, rest: Image, landmarks: Floats) -> None:
        """``rest`` is the picture before anything moves and ``landmarks`` (N, 2) its face in pixels."""
        self._rest = rest
        self._outside = ~self._head(landmarks)
        self._error = 0.0
        self._values = 0
        self.worst = float("inf")
        """PSNR of the worst frame, dB."""

    def add(self, image: Image, landmarks: Floats) -> None:
        """Take one frame with the face (N, 2) seen in it; a frame without one (NaN) is left out."""
        if np.isnan(landmarks).any():
            return
        outside = self._outside & ~self._head(landmarks)
        difference = cv2.absdiff(image, self._rest)[outside].astype(np.float64)
        if not difference.size:
            return
        error = float(np.square(difference).sum())
        self._error += error
        self._values += difference.size
        self.worst = min(self.worst, _psnr(error, difference.size))

    @property
    def psnr(self) -> float:
        """PSNR over all frames in dB; infinite when nothing changed, NaN when no background was ever seen."""
        return _psnr(self._error, self._values) if self._values else float("nan")

    def _head(self, landmarks: Floats) -> NDArray[np.bool_]:
        hull: Floats = np.asarray(cv2.convexHull(landmarks.astype(np.float32)), np.float32)[:, 0]
        centre = (hull.min(0) + hull.max(0)) / 2
        spread: NDArray[np.int32] = np.round(centre + (hull - centre) * HEAD_SPREAD).astype(np.int32)
        mask = np.zeros(self._rest.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, spread, (1,))
        return mask.astype(np.bool_)


def _psnr(error: float, count: int) -> float:
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 * count / error))


def jitter(track: Track) -> float:
    """How much the landmarks of a face that should be still move: the mean of their standard deviations.

    Pixels of the frame; a landmark's deviation takes both axes together. Frames without a face are left out;
    NaN when there are none with one.
    """
    seen = track.landmarks[track.found].astype(np.float64)
    return float(np.sqrt(seen.var(axis=0).sum(axis=1)).mean()) if len(seen) else float("nan")


def background_of(output: Path, track: Track, rest: Path | None, portrait: Path | None) -> Background:
    """Compare a finished output with its rest picture: ``rest`` as it is, or ``portrait`` cropped to size.

    Raises PortraitError for a picture that cannot be used.
    """
    from realtime.portraits.portrait import load_portrait
    from realtime.tracking.tracker import find_faces

    if portrait is not None:
        cropped = load_portrait(portrait, track.size)
        picture, face = cropped.image, cropped.face
    else:
        shown = cv2.imread(str(rest), cv2.IMREAD_COLOR)
        if shown is None:
            raise ReenactError(f"{rest} is not a picture that can be read", cure="give a PNG or JPEG picture")
        picture = np.ascontiguousarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), np.uint8)
        if picture.shape[1::-1] != track.size:
            raise ReenactError(
                f"{rest} is {picture.shape[1]}x{picture.shape[0]}, not {track.size[0]}x{track.size[1]}",
                cure="give a rest picture of the output's size, or the portrait with --portrait",
            )
        faces = find_faces(picture)
        if not faces:
            raise ReenactError(f"no face was found in {rest}", cure="give the portrait with --portrait instead")
        face = faces[0]
    background = Background(picture, face.pixels()[:, :2])
    for image, landmarks in zip(frames_of(output), track.landmarks, strict=False):
        background.add(image, landmarks)
    return background


def channel_table(found: Fidelity, title: str) -> Table:
    """The table that ``python -m tools.fidelity`` prints."""
    table = Table(title=title, title_justify="left")
    table.add_column("channel")
    for heading in ("r", "gain", "driver std", ""):
        table.add_column(heading, justify="right")
    for channel in found.channels:
        table.add_row(
            ("* " if channel.name in SIX else "  ") + channel.name,
            f"{channel.r:.3f}",
            f"{channel.gain:.2f}",
            f"{channel.driver_std:.3f}",
            "still" if channel.still else "",
        )
    return table


def plot(found: Fidelity, path: Path, title: str) -> None:
    """Draw every channel of driver and output over the frames. Raises ReenactError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise ReenactError(
            "a plot needs matplotlib", cure="python -m pip install -c constraints.txt matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(found.channels), 1, figsize=(11, 1.5 * len(found.channels)), sharex=True)
    for axis, channel in zip(axes, found.channels, strict=True):
        axis.plot(found.driver.channel(channel.name), label="driver", linewidth=1)
        axis.plot(found.output.channel(channel.name), label="output", linewidth=1)
        axis.set_ylabel(channel.name)
        note = "still" if channel.still else f"r {channel.r:.2f}  gain {channel.gain:.2f}"
        axis.set_title(note, loc="right", fontsize="small", pad=2)
    axes[0].legend(loc="upper left", fontsize="small", ncols=2)
    axes[0].set_title(title, loc="left", fontsize="small", pad=2)
    axes[-1].set_xlabel("frame")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def default_model() -> Path:
    """Where the bundle lies: the cache, or the place it would be fetched to."""
    from realtime.tracking.model_files import find, target

    return find("face_landmarker") or target("face_landmarker")


def judge_command(
    driver: Annotated[Path, typer.Argument(help="The driving video.")],
    output: Annotated[Path, typer.Argument(help="What was made of it, frame by frame.")],
    model: Annotated[Path | None, typer.Option(help="The bundle face_landmarker.task.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    plot_path: Annotated[Path | None, typer.Option("--plot", help="Draw the channels here (PNG).")] = None,
    portrait: Annotated[Path | None, typer.Option(help="The portrait: measures the background too.")] = None,
    rest: Annotated[
        Path | None, typer.Option(help="The rest picture at the output's size, instead of --portrait.")
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="The driver holds still: measure the jitter.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Driver and output side by side, to look at.")] = None,
) -> None:
    """Judge how faithfully OUTPUT follows DRIVER."""
    console = Console()
    found = measure(driver, output, model or default_model())
    console.print(channel_table(found, f"{driver.name} -> {output.name}"))
    summary = found.summary()
    console.print(f"mean r over the six (*): {found.mean_r:.3f}")
    console.print(f"face found in {found.driver_found} (driver) and {found.output_found} (output) of {found.frames}")
    if found.driver_frames != found.output_frames:
        console.print(
            f"note: the driver has {found.driver_frames} frames and the output {found.output_frames}; "
            f"only the first {found.frames} are compared"
        )
    if portrait or rest:
        background = background_of(output, found.output, rest, portrait)
        summary["background_psnr"] = background.psnr if np.isfinite(background.psnr) else None
        console.print(f"background PSNR {background.psnr:.1f} dB, worst frame {background.worst:.1f} dB")
    if still:
        summary["jitter_px"] = jitter(found.output)
        console.print(f"landmarks of the output move {jitter(found.output):.3f} px (std)")
    if plot_path:
        plot(found, plot_path, f"{driver.name} -> {output.name}")
    if sheet:
        from tools.fidelity_suite.sheet import sheet_of

        sheet_of(found.driver, frames_of(driver), frames_of(output), sheet)
    if json_path:
        json_path.write_text(json.dumps(summary, indent=2) + "\n")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.fidelity") -> int:
    """Run the command line and return its exit code; ``suite`` as the first word runs the suite."""
    words = sys.argv[1:] if arguments is None else arguments
    app = new_app()
    if words[:1] == ["suite"]:
        from tools.fidelity_suite.suite import suite_command

        app.command()(suite_command)
        words, prog = words[1:], f"{prog} suite"
    else:
        app.command()(judge_command)
    return run_app(app, prog, words)


if __name__ == "__main__":
    sys.exit(main())
