"""Names of one image in different data sets."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdetr.data.sources.converting import numbered, read_entries
from mdetr.data.sources.fields import Fields
from mdetr.data.sources.json_lists import iterate_entries, iterate_list

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
        InvalidRecordError: an entry has no id.
    """
    entries = numbered(iterate_entries(file), f"{file}, entry")
    return {number: names for number, names in read_entries(entries, _read_names, None) if names}


def _read_names(entry: Any) -> tuple[str, tuple[str, ...]]:
    fields = Fields(entry)
    named = [(name, key) for name, key in _IDS if fields.value(key, None) is not None]
    return fields.identifier("image_id"), tuple(f"{name}:{fields.identifier(key)}" for name, key in named)


_IDS = (("coco", "coco_id"), ("flickr", "flickr_id"))


def read_coco_images(file: Path) -> dict[str, CocoImage]:
    """Read the images of a COCO-format file, such as instances_train2014.json.

    Raises:
        InvalidInputError: the file is missing or damaged.
        InvalidRecordError: an image has no id, name or size.
    """
    return dict(read_entries(numbered(iterate_list(file, "images"), f"{file}, image"), _read_image, None))


def _read_image(entry: Any) -> tuple[str, CocoImage]:
    fields = Fields(entry)
    return fields.identifier("id"), CocoImage(fields.text("file_name"), *fields.size())
