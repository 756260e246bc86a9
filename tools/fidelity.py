"""How faithfully an output follows its driver, measured with MediaPipe's official face landmarker.

    python -m tools.fidelity DRIVER OUTPUT      one driving video and the output made from it, frame by frame
    python -m tools.fidelity suite              a fixed list of drivers and portraits, end to end

Each channel of the two faces is compared over time: Pearson's r says whether the output makes the same movements,
the gain (standard deviation of the output over that of the driver) how strongly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import PortraitError
from engines.types import FaceState, Image
from tools.fidelity_suite.measures import SCORED, Background, Fidelity, finite, jitter, measure
from tools.fidelity_suite.plot import plot
from tools.fidelity_suite.reference_tracker import Track, default_model
from tools.fidelity_suite.sheet import sheet_of
from tools.support.command import new_app, run_app
from tools.support.files import check_writable, read_frames, write_json


def background_of(output: Path, track: Track, rest: Path | None, portrait: Path | None) -> Background:
    """Compare a finished output with its rest picture: ``rest`` as it is, or ``portrait`` cropped to size.

    Raises PortraitError for a picture that cannot be used.
    """
    from realtime.portraits.portrait import load_portrait

    if portrait is not None:
        cropped = load_portrait(portrait, track.size)
        picture, face = cropped.image, cropped.face
    else:
        assert rest is not None
        picture, face = _rest_picture(rest, track.size)
    background = Background(picture, face.pixels()[:, :2])
    for image, landmarks in zip(read_frames(output), track.landmarks, strict=False):
        background.add(image, landmarks)
    return background


def _rest_picture(path: Path, size: tuple[int, int]) -> tuple[Image, FaceState]:
    """Return a rest picture, which must have the output's size, and its face. Raises PortraitError."""
    from realtime.tracking.still_faces import find_faces

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise PortraitError("rest-picture-unreadable", f"{path} cannot be read", "a PNG or JPEG picture")
    picture = np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    if picture.shape[1::-1] != size:
        raise PortraitError(
            "rest-picture-size",
            f"{path} is {picture.shape[1]}x{picture.shape[0]}",
            f"{size[0]}x{size[1]}, the size of the output",
            "give a rest picture of that size, or the portrait with --portrait",
        )
    faces = find_faces(picture)
    if not faces:
        raise PortraitError(
            "portrait-no-face", f"no face was found in {path}", cure="give the portrait with --portrait instead"
        )
    return picture, faces[0]


def channel_table(fidelity: Fidelity, title: str) -> Table:
    """Return the table that ``python -m tools.fidelity`` prints."""
    table = Table(title=title, title_justify="left")
    table.add_column("channel")
    for heading in ("r", "gain", "driver std", ""):
        table.add_column(heading, justify="right")
    for channel in fidelity.channels:
        table.add_row(
            ("* " if channel.name in SCORED else "  ") + channel.name,
            f"{channel.r:.3f}",
            f"{channel.gain:.2f}",
            f"{channel.driver_std:.3f}",
            "still" if channel.still else "",
        )
    return table


def compare_command(
    driver: Annotated[Path, typer.Argument(help="The driving video.")],
    output: Annotated[Path, typer.Argument(help="The video made from it, frame by frame.")],
    model: Annotated[Path | None, typer.Option(help="The bundle face_landmarker.task.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    plot_path: Annotated[Path | None, typer.Option("--plot", help="Draw the channels into this PNG file.")] = None,
    portrait: Annotated[Path | None, typer.Option(help="The portrait: measure the background too.")] = None,
    rest: Annotated[
        Path | None, typer.Option(help="The rest picture at the output's size, instead of --portrait.")
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="The driver holds still: measure the jitter.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write driver and output side by side to this PNG file.")] = None,
) -> None:
    """Measure how faithfully OUTPUT follows DRIVER."""
    if json_path:
        check_writable(json_path, "--json")
    console = Console()
    title = f"{driver.name} -> {output.name}"
    fidelity = measure(driver, output, model or default_model())
    console.print(channel_table(fidelity, title))
    _print_counts(console, fidelity)
    summary = fidelity.summary()
    if portrait or rest:
        background = background_of(output, fidelity.output, rest, portrait)
        summary["background_psnr"] = finite(background.psnr)
        console.print(f"background PSNR {background.psnr:.1f} dB, worst frame {background.worst:.1f} dB")
    if still:
        moved = jitter(fidelity.output)
        summary["jitter_px"] = finite(moved)
        console.print(f"landmarks of the output move {moved:.3f} px (std)")
    if plot_path:
        plot(fidelity, plot_path, title)
    if sheet:
        sheet_of(fidelity.driver, read_frames(driver), read_frames(output), sheet)
    if json_path:
        write_json(json_path, summary, "--json")


def _print_counts(console: Console, fidelity: Fidelity) -> None:
    console.print(f"mean r over the six (*): {fidelity.mean_r:.3f}")
    console.print(
        f"face found in {fidelity.driver_found} (driver) and {fidelity.output_found} (output) of {fidelity.frames}"
    )
    if fidelity.driver_frames != fidelity.output_frames:
        console.print(
            f"note: the driver has {fidelity.driver_frames} frames and the output {fidelity.output_frames}; "
            f"only the first {fidelity.frames} are compared"
        )


def main(arguments: list[str] | None = None, prog: str = "python -m tools.fidelity") -> int:
    """Run the command line and return its exit code; ``suite`` as the first word runs the suite."""
    words = sys.argv[1:] if arguments is None else arguments
    app = new_app()
    if words[:1] == ["suite"]:
        from tools.fidelity_suite.suite import suite_command

        app.command()(suite_command)
        words, prog = words[1:], f"{prog} suite"
    else:
        app.command()(compare_command)
    return run_app(app, prog, words)


if __name__ == "__main__":
    sys.exit(main())
