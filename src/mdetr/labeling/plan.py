"""The plan of a labeling run: its settings and its list of images, kept in the output folder.

The images are divided into parts, each with one file of results that is written at once. A part is therefore
either done or not, whatever process labels it and whenever a run stops: the same command does the missing
parts, and no image is labeled twice or left out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mdetr.errors import InvalidInputError
from mdetr.files import atomic_write, read_json_object
from mdetr.labeling.class_phrases import ClassPhrase
from mdetr.labeling.image_list import ImageReference

IMAGES_PER_PART = 64
_MAX_PARTS = 4096
_VERSION = 1
_SECONDS_TO_WAIT = 600.0  # for the process that lists the images
_ENTRY_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("member", pa.string()),
        pa.field("texts", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """Settings that determine the labels.

    Attributes:
        sources: Images, as for `list_images`; local paths are absolute.
        model: Name or folder of the model.
        phrases: Phrases of the classes to detect; empty if each image has captions.
        captions: File with the captions; None if classes are detected.
        threshold: Minimum score of a box, from 0 to 1, unless its phrase has another.
        max_overlap: Maximum intersection over union of two boxes of an image, from 0 to 1; of two boxes above
            it, the one with the lower score is removed, whatever their classes. Captions are not affected.
        margin: Distance from the threshold up to which a score counts as unsure.
        dtype: Number type of the model, such as "float32".
        copy_images: Whether images are copied to the output; by default local files are linked.
    """

    sources: tuple[str, ...]
    model: str
    phrases: tuple[ClassPhrase, ...]
    captions: str | None
    threshold: float
    max_overlap: float
    margin: float
    dtype: str = "float32"
    copy_images: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order given; empty if each image has captions."""
        return tuple(dict.fromkeys(phrase.class_name for phrase in self.phrases))

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold."""
        content: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            content[name] = getattr(self, name)
        content["sources"] = list(self.sources)
        content["phrases"] = [phrase.to_dict() for phrase in self.phrases]
        return content


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of the list.

    Attributes:
        reference: The image.
        texts: Captions to ground; empty if classes are detected.
    """

    reference: ImageReference
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """The settings, images and parts of a run, in its output folder; see `create` and `open`.

    Attributes:
        folder: Output folder.
        settings: The settings.
        num_images: Number of images.
        num_parts: Number of parts.
    """

    folder: Path
    settings: LabelSettings
    num_images: int
    num_parts: int

    @classmethod
    def create(cls, folder: Path, settings: LabelSettings, images: Sequence[PlannedImage]) -> LabelPlan:
        """Write a new plan to a folder.

        Args:
            folder: Created if it does not exist.
            settings: The settings.
            images: The images, at least one.

        Returns:
            The plan.
        """
        folder.mkdir(parents=True, exist_ok=True)
        per_part = max(IMAGES_PER_PART, -(-len(images) // _MAX_PARTS))

        # Write the list with a row group for each part
        with (
            atomic_write(_list_file(folder)) as file,
            pq.ParquetWriter(file, _ENTRY_SCHEMA, compression="zstd") as writer,
        ):
            for start in range(0, len(images), per_part):
                rows = [_to_row(image) for image in images[start : start + per_part]]
                writer.write_table(pa.Table.from_pylist(rows, schema=_ENTRY_SCHEMA))

        # The description comes last: with it, the plan is complete
        num_parts = -(-len(images) // per_part)
        description = {"version": _VERSION, "images": len(images), "parts": num_parts}
        with atomic_write(_plan_file(folder)) as file:
            content = json.dumps(description | {"settings": settings.to_dict()}, indent=2)
            file.write_text(content + "\n", encoding="utf-8")
        return cls(folder, settings, len(images), num_parts)

    @classmethod
    def open(cls, folder: Path, settings: LabelSettings) -> LabelPlan:
        """Open the plan of an earlier run, or of another process.

        Args:
            folder: Output folder.
            settings: The settings of this run.

        Returns:
            The plan.

        Raises:
            InvalidInputError: The folder was made with other settings, or its plan cannot be read.
        """
        file = _plan_file(folder)
        try:
            content = read_json_object(file)
            earlier, num_images, num_parts = content["settings"], content["images"], content["parts"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                f"{file} is damaged ({error}); remove the folder {folder}, or choose another."
            ) from None

        # Refuse to mix the labels of different settings
        for name, value in settings.to_dict().items():
            if earlier.get(name) == value:
                continue
            before, now = json.dumps(earlier.get(name)), json.dumps(value)
            change = f"another setting: {name} was {before}, now it is {now}"
            if name == "phrases":  # which may be many
                change = "other classes or phrases"
            raise InvalidInputError(
                f"The labels in {folder} were made with {change}. Repeat the earlier command to complete "
                "them, or choose another folder."
            )
        return cls(folder, settings, num_images, num_parts)

    @classmethod
    def wait_for(cls, folder: Path, settings: LabelSettings) -> LabelPlan:
        """Open the plan that another process writes, once it is complete.

        Args:
            folder: Output folder, which the processes share.
            settings: The settings of this run.

        Returns:
            The plan.

        Raises:
            InvalidInputError: The plan does not appear, or was made with other settings.
        """
        end = time.monotonic() + _SECONDS_TO_WAIT
        while not cls.exists(folder):
            if time.monotonic() > end:
                raise InvalidInputError(
                    f"The first process has not listed the images in {folder} within "
                    f"{_SECONDS_TO_WAIT:.0f} seconds; check that all processes share this folder."
                )
            time.sleep(0.2)
        return cls.open(folder, settings)

    @staticmethod
    def exists(folder: Path) -> bool:
        """Return whether a folder has a complete plan."""
        return _plan_file(folder).is_file()

    def images_of(self, part: int) -> list[PlannedImage]:
        """Read the images of one part."""
        with pq.ParquetFile(_list_file(self.folder)) as file:
            rows = file.read_row_group(part).to_pylist()
        planned: list[PlannedImage] = []
        for row in rows:
            reference = ImageReference(row["name"], row["source"], row["member"])
            planned.append(PlannedImage(reference, tuple(row["texts"])))
        return planned

    def result_file(self, part: int) -> Path:
        """Return the path of the results of one part."""
        return self.folder / "results" / f"{part:05d}.parquet"

    def is_done(self, part: int) -> bool:
        """Return whether the results of a part are complete."""
        return self.result_file(part).is_file()

    def missing_parts(self, rank: int = 0, world_size: int = 1) -> Iterator[int]:
        """Yield the parts without results that belong to one of several processes.

        Args:
            rank: Number of the process, from 0.
            world_size: Number of processes.

        Yields:
            Numbers of parts.
        """
        for part in range(rank, self.num_parts, world_size):
            if not self.is_done(part):
                yield part

    def count_done(self) -> int:
        """Count the parts whose results are complete."""
        return sum(self.is_done(part) for part in range(self.num_parts))

    def image_file(self, name: str) -> Path:
        """Return the path of an image within the labeled data set."""
        return self.folder / "images" / name


def check_output_folder(folder: Path) -> None:
    """Check that a folder can take the labels: it is new, empty, or has a plan.

    Args:
        folder: Output folder.

    Raises:
        InvalidInputError: It is a file, or has other content.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; choose a folder for the labels.")
    # A run that was killed before its plan was complete leaves the list, or a hidden temporary file
    names = os.listdir(folder) if folder.is_dir() else []
    has_content = any(not name.startswith(".") for name in names)
    if has_content and not LabelPlan.exists(folder) and not _list_file(folder).is_file():
        raise InvalidInputError(f"{folder} exists, but was not made by this command; choose another folder.")


def _plan_file(folder: Path) -> Path:
    return folder / "labels.json"


def _list_file(folder: Path) -> Path:
    return folder / "image-list.parquet"


def _to_row(image: PlannedImage) -> dict[str, Any]:
    reference = image.reference
    return {
        "name": reference.name,
        "source": reference.source,
        "member": reference.member,
        "texts": list(image.texts),
    }
