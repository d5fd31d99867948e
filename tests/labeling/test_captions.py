from __future__ import annotations

from pathlib import Path

import pytest

from mdetr.errors import InvalidInputError
from mdetr.labeling.captions import match_captions, read_captions
from mdetr.labeling.image_list import ImageReference

IMAGES = [ImageReference(name, name) for name in ("day/a.jpg", "b.jpg", "c.jpg")]


def test_captions_belong_to_images_by_name_or_by_a_unique_file_name(tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text(
        '{"image": "a.jpg", "text": "a cat"}\n\n'
        '{"image": "b.jpg", "text": "a dog", "id": 7}\n'
        '{"image": "b.jpg", "text": "two dogs"}\n{"image": "z.jpg", "text": "x"}\n'
    )
    captioned = match_captions(IMAGES, read_captions(file))
    assert [(image.reference.name, image.texts) for image in captioned.images] == [
        ("day/a.jpg", ("a cat",)),
        ("b.jpg", ("a dog", "two dogs")),
    ]
    assert captioned.num_without_caption == 1
    assert captioned.unused == ["z.jpg"]


def test_a_file_name_of_several_captions_is_not_guessed() -> None:
    captions = {"x/c.jpg": ["left"], "y/c.jpg": ["right"], "b.jpg": ["a dog"]}
    captioned = match_captions(IMAGES, captions)
    assert [image.reference.name for image in captioned.images] == ["b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "line 1: expected an object"),
        ('{"image": "a.jpg"}', "line 1: it has no"),
        ('{"image": "a.jpg", "text": " "}', "line 1: The text is empty"),
        ("{", "line 1: it is not JSON"),
        ("\n", "has no captions"),
    ],
)
def test_invalid_captions_are_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text(content)
    with pytest.raises(InvalidInputError) as error:
        read_captions(file)
    assert message in str(error.value)


def test_captions_of_other_images_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"None of the 3 images has a caption"):
        match_captions(IMAGES, {"z.jpg": ["x"]})
