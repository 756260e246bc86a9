"""The card of a trained model: what it was trained on, how good it is on people it has not seen, and its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tools.expression_training.samples import Samples


def card_of(samples: Samples, held: frozenset[str], figures: Mapping[str, float], *, epochs: int, seed: int) -> str:
    """Return the card, Markdown."""
    clips = samples.clips
    people = len(set(samples.identity[clips].tolist()))
    sources = Counter(str(each) for each in samples.licence)
    head = f"""\
# Expression coefficients and basis

`engines/assets/expression.npz`, read by `engines/face/coefficients.py`: a network of three layers from 478 landmarks to
the 51 ARKit coefficients that MediaPipe reads and 16 free components, and a linear basis from these to the landmarks.
Made by `python -m tools.train_expression`; MIT, as reenact itself.

Trained with seed {seed}, {epochs} epochs, on {int(clips.sum())} frames of clips of {people} people, {len(held)} of whom
were kept out, and {int((~clips).sum())} still portraits, as MediaPipe's Face Mesh and face landmarker see them. Labels
are the coefficients of the landmarker's bundle (Apache-2.0). No picture is in the file.

| figure, held-out people | value |
| --- | --- |
"""
    middle = """
`r` is the mean correlation with the bundle's coefficients within a clip, of those that vary. `rest after N` is the
distance of the face predicted for the calmest frame from the true one after N frames, in percent of the distance of the
outer corners of the eyes, aligned by the rigid landmarks.

## Limits

`tongueOut` is not read. Coefficients of paintings, drawings and statues are extrapolations. Turned heads (over 30
degrees) were rare in the data, children and very old people rarer.

## Data

| frames | source (licence) |
| --- | --- |
"""
    rows = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    data = "".join(f"| {count} | {source} |\n" for source, count in sources.most_common())
    return head + rows + middle + data
