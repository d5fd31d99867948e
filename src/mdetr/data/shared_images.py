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
    """Image of COCO.

    Attributes:
        file_name: File, relative to COCO's image folder.
        width: Width in pixels.
        height: Height in pixels.
    """

    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageIndex:
    """Index of the images that Visual Genome shares with COCO and Flickr.

    Attributes:
        aliases: Id in Visual Genome -> names of the same image in other data sets, such as "coco:9".
        coco: Id in COCO -> the image.
        coco_folder: Folder of COCO's images; None if no image is replaced by COCO's.
    """

    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coco: Mapping[str, CocoImage] = field(default_factory=dict)
    coco_folder: Path | None = None

    def names_of(self, source: str, image_id: str) -> tuple[str, ...]:
        """List the names of an image; images with the same first name are combined as one image.

        The first name of an image of Visual Genome is its name in COCO if the index has that image.

        Args:
            source: Data set of the image.
            image_id: Id of the image in that data set.

        Returns:
            Names such as "coco:9", "flickr:12" or "visual_genome:7".
        """
        match = _NUMBER.search(image_id)
        number = str(int(match[1])) if match else image_id
        if source in COCO_SOURCES:
            return (f"coco:{number}",)
        if source in FLICKR_SOURCES:
            return (f"flickr:{number}",)
        if source not in VISUAL_GENOME_SOURCES:
            return (f"{source}:{image_id}",)

        # Put the names of COCO's images first, since texts move to these
        in_coco: list[str] = []
        others: list[str] = []
        for name in self.aliases.get(number, ()):
            (in_coco if name.removeprefix("coco:") in self.coco else others).append(name)
        return (*in_coco, f"visual_genome:{number}", *others)

    def moved_to(self, source: str, name: str) -> CocoImage | None:
        """Return COCO's image that replaces an image of Visual Genome with this first name, or None."""
        if source not in VISUAL_GENOME_SOURCES or not name.startswith("coco:"):
            return None
        return self.coco[name.removeprefix("coco:")]

    def fingerprint(self) -> int:
        """Hash the content, to notice when it changes."""
        lines = []
        for table in (self.aliases, self.coco):
            for key, value in table.items():
                lines.append(f"{key} {value}")
        return zlib.crc32("\n".join([*sorted(lines), str(self.coco_folder)]).encode())


def read_aliases(file: Path) -> dict[str, tuple[str, ...]]:
    """Read the names that images of Visual Genome have in COCO and Flickr.

    Args:
        file: Visual Genome's image_data.json.

    Returns:
        Id in Visual Genome -> names in the other data sets, without images that have none.

    Raises:
        InvalidInputError: The file is missing or damaged.
        InvalidRecordError: An entry has no id.
    """
    entries = numbered(iterate_entries(file), f"{file}, entry")
    return {number: names for number, names in read_entries(entries, _read_names, None) if names}


def _read_names(entry: Any) -> tuple[str, tuple[str, ...]]:
    fields = Fields(entry)
    named = [(name, key) for name, key in _IDS if fields.value(key, None) is not None]
    return fields.identifier("image_id"), tuple(f"{name}:{fields.identifier(key)}" for name, key in named)


_IDS = (("coco", "coco_id"), ("flickr", "flickr_id"))


def read_coco_images(file: Path) -> dict[str, CocoImage]:
    """Read the images of a file in COCO's format.

    Args:
        file: Annotation file, such as instances_train2014.json.

    Returns:
        Image id -> image.

    Raises:
        InvalidInputError: The file is missing or damaged.
        InvalidRecordError: An image has no id, name or size.
    """
    return dict(read_entries(numbered(iterate_list(file, "images"), f"{file}, image"), _read_image, None))


def _read_image(entry: Any) -> tuple[str, CocoImage]:
    fields = Fields(entry)
    return fields.identifier("id"), CocoImage(fields.text("file_name"), *fields.size())
