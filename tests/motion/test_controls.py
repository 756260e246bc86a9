"""The vocabularies of expressions, and what they are translated into."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import CommandError
from realtime.motion.controls import (
    ACTION_UNITS,
    COEFFICIENTS,
    CONTROLS,
    GROUP_OF_COEFFICIENT,
    GROUPS,
    INDEX,
    SIMPLE,
    coefficients_of,
    group_of,
    resolve,
)

PAGE = Path(__file__).parents[2] / "realtime/webrtc/page/expression.js"


def values(**controls: float) -> NDArray[np.float32]:
    array = np.zeros(len(CONTROLS), np.float32)
    for name, value in controls.items():
        array[INDEX[name]] = value
    return array


def test_a_name_without_a_side_stands_for_both() -> None:
    assert resolve({"mouthSmile": 0.4}) == {"mouthSmileLeft": 0.4, "mouthSmileRight": 0.4}
    assert resolve({"mouthSmileLeft": 0.4}) == {"mouthSmileLeft": 0.4}
    assert resolve({"headTilt": 0.5}) == {"headRoll": 0.5}


def test_action_units_are_known_by_number_and_name_and_for_each_side() -> None:
    assert resolve({"AU12": 0.5}) == resolve({"lip corner puller": 0.5}) == resolve({"mouthSmile": 0.5})
    assert resolve({"AU12L": 0.5}) == {"mouthSmileLeft": 0.5}
    assert resolve({"AU1R": 0.5}) == {"browInnerUp": 0.5}


@pytest.mark.parametrize("number", ACTION_UNITS)
def test_every_action_unit_sets_something(number: int) -> None:
    assert resolve({f"AU{number}": 1.0})


@pytest.mark.parametrize("name", ["", "AU", "AU3", "AU12X", "smilee", "tongueOut", "Left", "AU" + "9" * 50])
def test_an_unknown_control_is_refused(name: str) -> None:
    with pytest.raises(CommandError) as caught:
        resolve({name: 0.5})
    assert caught.value.code == "expression-unknown"


@pytest.mark.parametrize("value", [1.01, -2, float("nan"), True])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(CommandError) as caught:
        resolve({"smile": value})
    assert caught.value.code == "expression-bad-value"


def test_what_people_want_first_becomes_coefficients_of_both_signs() -> None:
    smile, frown = coefficients_of(values(smile=1)), coefficients_of(values(smile=-1))
    assert smile[COEFFICIENTS.index("mouthSmileLeft")] > 0.5 > smile[COEFFICIENTS.index("mouthFrownLeft")]
    assert frown[COEFFICIENTS.index("mouthFrownLeft")] > 0.5
    assert frown[COEFFICIENTS.index("mouthSmileLeft")] == 0


def test_coefficients_are_kept_as_they_are_and_sums_are_bounded() -> None:
    assert coefficients_of(values(jawOpen=-0.5))[COEFFICIENTS.index("jawOpen")] == -0.5
    both = coefficients_of(values(smile=1, mouthSmileLeft=1))
    assert both[COEFFICIENTS.index("mouthSmileLeft")] == 1


def test_every_control_has_a_group() -> None:
    assert {group_of(name) for name in CONTROLS} == set(GROUPS)
    assert [GROUPS[index] for index in GROUP_OF_COEFFICIENT] == [group_of(name) for name in COEFFICIENTS]


def test_the_page_has_a_slider_for_every_control() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = set(re.findall(r'"([a-z]+[A-Z]\w*\*?|smile|brows)"', page))
    shown = {each for name in names for each in ([f"{name[:-1]}Left", f"{name[:-1]}Right"] if "*" in name else [name])}
    assert set(CONTROLS) <= shown
    assert set(SIMPLE) <= shown


def test_the_documented_table_is_that_of_the_program() -> None:
    text = (Path(__file__).parents[2] / "docs/directing.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `AU(\d+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert {int(number): name for number, name, _ in documented} == {n: name for n, (name, _) in ACTION_UNITS.items()}
    for number, _, parts in documented:
        found = {name: float(weight or 1) for name, weight in re.findall(r"`(\w+)`(?: (-?[\d.]+))?", parts)}
        assert found == ACTION_UNITS[int(number)][1]
