"""The color of a part of an image, on patches whose color is known."""

from __future__ import annotations

import pytest
import torch

from mdetr.data.colors import COLORS, SIMILAR_COLORS, color_of
from tests.photos import painted

PATCHES = {
    "black": [(0, 0, 0), (40, 38, 42)],
    "white": [(255, 255, 255), (235, 230, 225)],
    "gray": [(128, 128, 128), (90, 92, 88)],
    "red": [(255, 0, 0), (180, 20, 30)],
    "orange": [(255, 130, 0)],
    "brown": [(110, 65, 30), (150, 100, 60)],
    "yellow": [(255, 230, 20)],
    "green": [(20, 160, 40), (90, 120, 30)],
    "blue": [(20, 60, 200), (100, 160, 230)],
    "purple": [(110, 40, 180)],
    "pink": [(255, 150, 180), (230, 40, 150)],
}


@pytest.mark.parametrize(("name", "rgb"), [(name, rgb) for name, all_of in PATCHES.items() for rgb in all_of])
def test_a_patch_has_the_color_that_people_call_it(name: str, rgb: tuple[int, int, int]) -> None:
    image = torch.tensor(rgb, dtype=torch.uint8)[:, None, None].repeat(1, 20, 30)
    assert color_of(image, (0, 0, 30, 20)) == name
    assert color_of(image, (3.5, 2.5, 4.2, 3.1)) == name  # less than a pixel


def test_the_middle_of_a_box_counts_and_not_what_is_behind_at_its_edges() -> None:
    image = painted(100, 100, [("green", (0, 0, 100, 100)), ("red", (30, 30, 70, 70))])
    assert color_of(image, (20, 20, 80, 80)) == "red"
    assert color_of(image, (0, 0, 30, 100)) == "green"


def test_a_box_of_many_colors_has_none() -> None:
    image = painted(80, 80, [("red", (0, 0, 40, 80)), ("blue", (40, 0, 80, 80))])
    assert color_of(image, (0, 0, 80, 80)) is None
    assert color_of(image, (0, 0, 80, 80), agreement=0.4) in ("red", "blue")
    assert color_of(image, (0, 0, 50, 80)) == "red"


def test_every_color_has_others_that_it_is_taken_for() -> None:
    assert set(PATCHES) == set(COLORS) == SIMILAR_COLORS.keys()
    for color, others in SIMILAR_COLORS.items():
        assert color not in others
        assert others <= set(COLORS)
