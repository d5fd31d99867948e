"""An image's id in its data set in; the names by which other data sets know it, out."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mdetr.data.sources.json_lists import iterate_entries, iterate_list
from mdetr.errors import InvalidInputError

COCO_SOURCES = frozenset({"coco", "lvis", "refcoco", "refcoco+", "refcocog"})
VISUAL_GENOME_SOURCES = frozenset({"visual_genome", "vg", "gqa", "phrasecut"})
FLICKR_SOURCES = frozenset({"flickr30k", "flickr"})
_NUMBER = re.compile(r"(\d+)(\.\w+)?$")


@dataclass(frozen=True, slots=True)
class CocoImage:
    """file_name: relative to COCO's folder of images. width, height: in pixels."""

    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageIndex:
    """Which images of Visual Genome are images of COCO or Flickr, and what COCO says of its own.

    aliases: Visual Genome's id -> the names of the same image elsewhere, such as "coco:9".
    coco: COCO's id -> the image. coco_folder: where COCO's images are.
    """

    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coco: Mapping[str, CocoImage] = field(default_factory=dict)
    coco_folder: Path | None = None

    def names_of(self, source: str, image_id: str) -> tuple[str, ...]:
        """All names of an image; those whose first is the same are one image to the combination.

        An image of Visual Genome that is COCO's is known as COCO's if that image is in the index.
        """
        found = _NUMBER.search(image_id)
        number = str(int(found[1])) if found else image_id
        if source in COCO_SOURCES:
            return (f"coco:{number}",)
        if source in FLICKR_SOURCES:
            return (f"flickr:{number}",)
        if source not in VISUAL_GENOME_SOURCES:
            return (f"{source}:{image_id}",)
        own, others = f"visual_genome:{number}", self.aliases.get(number, ())
        movable = [name for name in others if name.removeprefix("coco:") in self.coco]
        return (*movable, own, *(name for name in others if name not in movable))

    def moved_to(self, source: str, name: str) -> CocoImage | None:
        """COCO's image, to which texts of Visual Genome's image of this first name move, or None."""
        if source not in VISUAL_GENOME_SOURCES or not name.startswith("coco:"):
            return None
        return self.coco[name.removeprefix("coco:")]

    def fingerprint(self) -> int:
        """Changes with the content."""
        lines = [f"{key} {value}" for table in (self.aliases, self.coco) for key, value in table.items()]
        return zlib.crc32("\n".join([*sorted(lines), str(self.coco_folder)]).encode())


def read_aliases(file: Path) -> dict[str, tuple[str, ...]]:
    """Read Visual Genome's image_data.json: its ids -> the names of the same images at COCO and Flickr.

    Raises:
        InvalidInputError: the file is missing or damaged.
    """
    aliases: dict[str, tuple[str, ...]] = {}
    try:
        for entry in iterate_entries(file):
            names = [f"{name}:{entry[key]}" for name, key in _IDS if entry.get(key) is not None]
            if names:
                aliases[str(entry["image_id"])] = tuple(names)
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{file} is not Visual Genome's image_data.json ({error!r}).") from None
    return aliases


_IDS = (("coco", "coco_id"), ("flickr", "flickr_id"))


def read_coco_images(file: Path) -> dict[str, CocoImage]:
    """Read the images of a COCO-format file, such as instances_train2014.json.

    Raises:
        InvalidInputError: the file is missing or damaged.
    """
    try:
        return {
            str(entry["id"]): CocoImage(str(entry["file_name"]), int(entry["width"]), int(entry["height"]))
            for entry in iterate_list(file, "images")
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{file} is damaged ({error!r}); get it again.") from None
