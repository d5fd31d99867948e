"""Reader of COCO-format instances: one record for each class of an image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.prompts import class_prompt
from mdetr.data.record import Record
from mdetr.data.sources.annotations import CROWDS, masks_of, name_of, read_annotations
from mdetr.data.sources.converting import LeftOut, attempt, convert_entries, numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError

SOURCE = "coco"


@dataclass(frozen=True, slots=True)
class _Image:
    """What the file says of an image; width, height in pixels."""

    id: str
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Shown:
    """A class that an image shows: its number, its annotations there; with the first class, all crowds."""

    image: _Image
    category: int
    things: list[Any]
    crowds: list[Any]


def read_coco(
    root: str | Path, split: str, on_bad: OnBad | None = None, left_out: Counter[str] | None = None
) -> Iterator[Record]:
    """Read the instances of one split, image after image.

    Each class that an image shows is a text, the one that asks for it (`class_prompt`), with all its boxes,
    their masks where they are given, and their category. Crowds and boxes without area are left out, others
    cut at the border of the image; the first text of an image keeps its crowds, each with its class, in
    `extra`, for evaluation. Ids of images may be texts.
    Files with captions and `tokens_positive` are read by `mdetr.data.sources.official`.

    Args:
        root: A folder with annotations/instances_SPLIT.json and the images in SPLIT/; or a JSON file, whose
            images are named as in it.
        split: Train2017, val2017, ...
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: The file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    file = folder / "annotations" / f"instances_{split}.json" if folder.is_dir() else folder
    if not file.is_file():
        names = sorted(path.stem for path in folder.glob("annotations/instances_*.json"))
        raise InvalidInputError(
            f"There is no file {file}; its folder has {', '.join(names) or 'no annotations'}."
        )
    prefix = f"{split}/" if folder.is_dir() else ""
    categories = numbered(iterate_list(file, "categories"), f"{file}, category")
    texts = dict(read_entries(categories, _read_category, on_bad))
    waiting: dict[str, None] = {}  # images that have annotations, and whose entry has not come yet
    with EntryIndex(_annotations(file, waiting, on_bad)) as annotations:

        def convert(shown: _Shown, where: str) -> list[Record | LeftOut]:
            if shown.category not in texts:
                raise InvalidRecordError(f"{where}: category {shown.category} is not in the file.")
            return _to_records(shown, texts[shown.category], prefix, split)

        shown = _shown(file, annotations, waiting, on_bad, left_out)
        yield from convert_entries(shown, convert, on_bad, left_out)
    if waiting:
        problem = InvalidRecordError(
            f"{file}: {len(waiting)} images have annotations but no entry, such as image "
            f"{next(iter(waiting))}."
        )
        if on_bad is None:
            raise problem
        on_bad(problem)


def _read_category(entry: Any) -> tuple[int, str]:
    fields = Fields(entry)
    return fields.whole("id"), class_prompt(fields.text("name"))


def _annotations(file: Path, waiting: dict[str, None], on_bad: OnBad | None) -> Iterator[tuple[str, Any]]:
    """Yield annotations with the id of their image, which is also added to `waiting`."""
    entries = numbered(iterate_list(file, "annotations"), f"{file}, annotation")
    for image, entry in read_entries(
        entries, lambda entry: (Fields(entry).identifier("image_id"), entry), on_bad
    ):
        waiting[image] = None
        yield image, entry


def _shown(
    file: Path,
    annotations: EntryIndex,
    waiting: dict[str, None],
    on_bad: OnBad | None,
    left_out: Counter[str] | None,
) -> Iterator[tuple[str, _Shown]]:
    """Yield each image with each class that it shows, and remove the image from `waiting`."""
    seen: set[str] = set()
    for where, entry in numbered(iterate_list(file, "images"), f"{file}, image"):
        number = attempt(lambda entry: _read_new_id(entry, seen), entry, where, on_bad)
        if number is None:
            continue
        seen.add(number)
        waiting.pop(number, None)
        image = attempt(_read_image, entry, where, on_bad)
        if image is None:
            continue

        # Group the annotations by class
        classes: dict[int, list[Any]] = {}
        crowds: list[Any] = []
        named = ((f"{where}, {name_of(annotation)}", annotation) for annotation in annotations.of(number))
        for category, is_crowd, annotation in read_entries(named, _read_class, on_bad):
            if is_crowd:
                crowds.append(annotation)
            else:
                classes.setdefault(category, []).append(annotation)
        if left_out is not None and crowds:
            left_out[CROWDS] += len(crowds)

        # The first class of an image carries its crowds
        for category, things in sorted(classes.items()):
            yield where, _Shown(image, category, things, crowds)
            crowds = []


def _read_new_id(entry: Any, seen: Container[str]) -> str:
    number = Fields(entry).identifier("id")
    if number in seen:
        raise InvalidInputError(f"its id {number} is a duplicate of another image's")
    return number


def _read_image(entry: Any) -> _Image:
    fields = Fields(entry)
    return _Image(fields.identifier("id"), fields.text("file_name"), *fields.size())


def _read_class(entry: Any) -> tuple[int, bool, Any]:
    fields = Fields(entry)
    return fields.whole("category_id"), fields.flag("iscrowd"), entry


def _to_records(shown: _Shown, text: str, prefix: str, split: str) -> list[Record | LeftOut]:
    """Convert a class of an image to a record, if a box has an area, and count what is left out."""
    image = shown.image
    things, _, left_out = read_annotations(shown.things, image.width, image.height)
    _, crowds, _ = read_annotations(shown.crowds, image.width, image.height)
    if not things:
        return [*left_out]

    # Add what the evaluation of detection requires
    extra: dict[str, Any] = {
        "annotation_ids": [thing.fields.value("id", None) for thing in things],
        "areas": [thing.area for thing in things],
    }
    if crowds:
        extra["crowds"] = [[crowd.fields.whole("category_id"), *crowd.box] for crowd in crowds]
    record = Record(
        source=SOURCE,
        split=split,
        id=f"{image.id}-{shown.category}",
        image=prefix + image.file_name,
        image_id=image.id,
        width=image.width,
        height=image.height,
        text=text,
        boxes=tuple(thing.box for thing in things),
        spans=(((0, len(text)),),) * len(things),
        masks=masks_of(things),
        category_ids=(shown.category,) * len(things),
        extra=json.dumps(extra),
    )
    return [record, *left_out]
