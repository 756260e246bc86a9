"""The painted mouth: its teeth belong to skull and jaw, and it is small enough to ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.face.head import Pose, own_pose, rotation_matrix
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, LIP_ROWS, LOWER_LIP_MIDDLE
from engines.mesh.mouth_light import MouthLight
from engines.mesh.mouth_model import MouthModel, jaw_share
from engines.types import Points
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, with_expression

ASSET = Path(__file__).parents[3] / "engines" / "assets" / "mouth.npz"


@pytest.fixture(scope="module")
def pose(portrait_picture: PortraitPicture) -> Pose:
    return own_pose(portrait_picture.face.pixels())


@pytest.fixture(scope="module")
def shape(portrait_picture: PortraitPicture, pose: Pose) -> Points:
    return pose.unproject(portrait_picture.face.pixels())


@pytest.fixture(scope="module")
def model(portrait_picture: PortraitPicture, pose: Pose, shape: Points) -> MouthModel:
    return MouthModel(
        shape, pose.scale, MouthLight.of(portrait_picture.image, portrait_picture.face.pixels())
    )  # fmt: skip


def test_the_table_is_small() -> None:
    assert ASSET.stat().st_size < 300_000


def test_teeth_meet_behind_lips_that_are_closed(model: MouthModel, shape: Points, pose: Pose) -> None:
    placed, lips = model.place(shape, pose), pose.project(shape)[np.concatenate([INNER_UPPER_LIP, INNER_LOWER_LIP])]
    width = float(np.ptp(lips[:, 0]))
    middle = lips[:, 1].mean()
    for part in ("upper", "lower"):
        assert abs(placed[part][:, 0].mean() - lips[:, 0].mean()) < 0.1 * width
        assert placed[part][:, 2].min() > lips[:, 2].min()
    assert placed["upper"][:, 1].min() < middle < placed["lower"][:, 1].max()
    assert np.ptp(placed["upper"][:, 0]) > width


def test_the_lower_teeth_go_down_with_the_lip_and_the_upper_ones_stay(
    model: MouthModel, shape: Points, pose: Pose
) -> None:
    closed, opened = (model.place(with_expression(shape, jaw=jaw), pose) for jaw in (0.0, 0.4))
    np.testing.assert_array_equal(opened["upper"], closed["upper"])
    lip = (with_expression(shape, jaw=0.4) - shape)[LOWER_LIP_MIDDLE, 1] * pose.scale
    moved = opened["lower"] - closed["lower"]
    foremost = closed["lower"][:, 2] < np.percentile(closed["lower"][:, 2], 20)
    assert moved[foremost, 1].max() == pytest.approx(lip, rel=0.25)
    # the jaw turns about its hinge: what is far behind goes down less
    hindmost = closed["lower"][:, 2] > np.percentile(closed["lower"][:, 2], 80)
    assert moved[hindmost, 1].mean() < 0.8 * moved[foremost, 1].mean()


def test_lips_pressed_together_do_not_push_the_jaw_up(model: MouthModel, shape: Points, pose: Pose) -> None:
    pressed = shape.copy()
    pressed[LOWER_LIP_MIDDLE, 1] -= 0.2
    np.testing.assert_allclose(model.place(pressed, pose)["lower"], model.place(shape, pose)["lower"], atol=1e-3)


def test_teeth_turn_with_the_head(model: MouthModel, shape: Points, pose: Pose) -> None:
    turned = Pose(rotation_matrix(np.array([0, 0.4, 0], np.float32)) @ pose.rotation, pose.origin, pose.scale)
    ahead, aside = model.place(shape, pose)["upper"], model.place(shape, turned)["upper"]
    lip = INNER_UPPER_LIP[4]
    shift = turned.project(shape)[lip, 0] - pose.project(shape)[lip, 0]
    front = (aside - ahead)[ahead[:, 2].argmin(), 0]
    # they lie behind the lip, nearer to the axis of the turn
    assert 0.2 < front / shift < 1.0


def test_teeth_stay_together_in_a_grin(model: MouthModel, shape: Points, pose: Pose) -> None:
    """The lips part and the chin stays where it is."""
    grin, open_mouth = shape.copy(), with_expression(shape, jaw=0.3)
    for row in LIP_ROWS[1]:
        grin[row[1:-1], 1] += 0.15
    grin_share, open_share = (jaw_share(make_motion(shape, face), 0.2) for face in (grin, open_mouth))
    assert (grin_share, open_share) == (0.0, 1.0)
    np.testing.assert_allclose(
        model.place(grin, pose, grin_share)["lower"], model.place(shape, pose)["lower"], atol=1e-3
    )  # fmt: skip
    assert jaw_share(make_motion(shape, grin), 0.7) == 1.0
