"""Captions of the images of a labeling run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mdetr.data.sources.fields import Fields
from mdetr.data.sources.json_lines import iterate_lines, parse_line
from mdetr.errors import InvalidInputError
from mdetr.labeling.image_list import ImageReference
from mdetr.labeling.plan import PlannedImage
from mdetr.processing.texts import check_text


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """The images that have captions.

    Attributes:
        images: The images, each with its captions.
        num_without_caption: Number of images that are left out, since they have no caption.
        unused: Images that captions name, but that are not among the images.
    """

    images: list[PlannedImage]
    num_without_caption: int
    unused: list[str]


def read_captions(file: Path) -> dict[str, list[str]]:
    """Read a file with a JSON object on each line, such as {"image": "a.jpg", "text": "a cat on a mat"}.

    Args:
        file: The file; an image may have several lines, and other fields are ignored.

    Returns:
        The captions of each image, in the order of the file.

    Raises:
        InvalidInputError: The file does not exist, or a line has no image or no valid text.
    """
    if not file.is_file():
        raise InvalidInputError(f"There is no file {file}; give a file with a JSON object on each line.")
    captions: dict[str, list[str]] = {}
    for where, (_, line) in iterate_lines(file):
        try:
            entry = parse_line(line)
            if not isinstance(entry, dict):
                raise InvalidInputError('expected an object with "image" and "text"')
            fields = Fields(entry)
            text = fields.text("text")
            check_text(text)
            captions.setdefault(fields.text("image"), []).append(text)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}.".replace("..", ".")) from None
    if not captions:
        raise InvalidInputError(f"{file} has no captions; give an object with image and text on each line.")
    return captions


def match_captions(images: Sequence[ImageReference], captions: dict[str, list[str]]) -> CaptionedImages:
    """Combine images with their captions.

    A caption belongs to the image whose name it gives; otherwise to the only image with its file name.

    Args:
        images: The images.
        captions: The captions by image.

    Returns:
        The images that have captions, in order.

    Raises:
        InvalidInputError: No image has a caption.
    """
    # Index the captions by the whole name, and by the file name where it is unique
    by_file_name: dict[str, list[str]] = {}
    for name in captions:
        by_file_name.setdefault(PurePosixPath(name).name, []).append(name)

    planned: list[PlannedImage] = []
    used: set[str] = set()
    for image in images:
        key = image.name
        if key not in captions:
            candidates = by_file_name.get(PurePosixPath(image.name).name, [])
            if len(candidates) != 1 or candidates[0] in used:
                continue
            key = candidates[0]
        used.add(key)
        planned.append(PlannedImage(image, tuple(dict.fromkeys(captions[key]))))
    if not planned:
        raise InvalidInputError(
            f"None of the {len(images):,} images has a caption, such as {images[0].name}; name the images in "
            "the captions as in their folder."
        )
    unused = [name for name in captions if name not in used]
    return CaptionedImages(planned, len(images) - len(planned), unused)
