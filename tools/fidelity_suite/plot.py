"""A plot of every channel of driver and output over the frames."""

from __future__ import annotations

from pathlib import Path

from engines.errors import ReenactError
from engines.install_hint import python
from tools.fidelity_suite.measures import Fidelity


def plot(fidelity: Fidelity, path: Path, title: str) -> None:
    """Draw every channel of driver and output over the frames. Raises ReenactError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise ReenactError(
            "matplotlib-missing",
            "a plot needs matplotlib",
            cure=f"{python()} -m pip install -c constraints.txt matplotlib",
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = len(fidelity.channels)
    figure, axes = pyplot.subplots(count, 1, figsize=(11, 1.5 * count), sharex=True)
    for axis, channel in zip(axes, fidelity.channels, strict=True):
        axis.plot(fidelity.driver.channel(channel.name), label="driver", linewidth=1)
        axis.plot(fidelity.output.channel(channel.name), label="output", linewidth=1)
        axis.set_ylabel(channel.name)
        note = "still" if channel.still else f"r {channel.r:.2f}  gain {channel.gain:.2f}"
        axis.set_title(note, loc="right", fontsize="small", pad=2)
    axes[0].legend(loc="upper left", fontsize="small", ncols=2)
    axes[0].set_title(title, loc="left", fontsize="small", pad=2)
    axes[-1].set_xlabel("frame")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
