"""What a user reads before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdetr.data.augmentation.pipelines import FixedSizeAugmentation
from mdetr.training.recipe_file import parse_recipe
from mdetr.training.run import image_size_warning
from tests.small_training import components_of, small_recipe


@pytest.mark.parametrize(
    ("height", "width", "is_warned"), [(64, 96, False), (66, 98, False), (80, 120, True), (48, 72, True)]
)
def test_training_at_another_size_than_prediction_gets_a_warning(
    shapes_store: Path, height: int, width: int, is_warned: bool
) -> None:
    content = small_recipe(shapes_store)
    content["image"] = {"shortest_edge": 64, "longest_edge": 96}
    components = components_of(parse_recipe(content))
    warning = image_size_warning(FixedSizeAugmentation(height, width), components)
    assert (warning is not None) is is_warned
    if warning is not None:
        assert f"trained at {height} x {width} pixels" in warning
        assert "predicts at 64 x 96" in warning
        assert f"image.shortest_edge={height} and image.longest_edge={width}" in warning
