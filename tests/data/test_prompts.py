"""Names of classes become the texts that the published models were trained with."""

from __future__ import annotations

import pytest

from mdetr.data.prompts import class_prompt


@pytest.mark.parametrize(
    ("name", "prompt"),
    [("bow_(weapon)", "bow "), ("first-aid_kit", "first-aid kit"), ("bow_(decorative_ribbons)_x", "bow x")],
)
def test_class_names_become_prompts(name: str, prompt: str) -> None:
    assert class_prompt(name) == prompt
