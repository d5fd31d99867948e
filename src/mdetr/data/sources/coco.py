"""Any COCO-format JSON of instances in; a record for each class of an image, its name as the text, out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdetr.data.record import Box, Record
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.rle import encode_polygons, encode_run_lengths

SOURCE = "coco"
Shown = tuple[Mapping[str, Any], int, list[Any], list[Any]]
"""An image, the number of a class, its annotations there; with the first class, the crowds of all classes."""


def read_coco(root: str | Path, split: str, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Read the instances of one split, image after image.

    Each class that an image shows is a text, its name, with all its boxes, their masks where they are given,
    and their category. Crowds and boxes without area are left out, others cut at the border of the image;
    the first text of an image keeps its crowds, each with its class, in `extra`, for evaluation.
    Files with captions and `tokens_positive` are read by `mdetr.data.sources.official`.

    Args:
        root: a folder with annotations/instances_SPLIT.json and the images in SPLIT/; or a JSON file, whose
            images are named as in it.
        split: train2017, val2017, ...
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.

    Raises:
        InvalidInputError: the file is missing or damaged.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    file = folder / "annotations" / f"instances_{split}.json" if folder.is_dir() else folder
    if not file.is_file():
        found = sorted(path.stem for path in folder.glob("annotations/instances_*.json"))
        raise InvalidInputError(f"There is no file {file}; found {', '.join(found) or 'no annotations'}.")
    prefix = f"{split}/" if folder.is_dir() else ""
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in iterate_list(file, "categories")}
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{file} is damaged ({error!r}); get it again.") from None
    seen: set[int] = set()
    with EntryIndex(_annotations(file, seen)) as annotations:

        def convert(entry: Shown, where: str) -> list[Record]:
            record = _to_record(*entry, names, prefix, split)
            return [] if record is None else [record]

        yield from convert_entries(_classes(file, annotations, seen), convert, on_bad)
    if seen:
        problem = InvalidRecordError(
            f"{file}: {len(seen)} images have annotations but no entry, such as image {min(seen)}."
        )
        if on_bad is None:
            raise problem
        on_bad(problem)


def _annotations(file: Path, seen: set[int]) -> Iterator[tuple[int, Any]]:
    """Annotations with the number of their image, which is also added to `seen`."""
    for entry in iterate_list(file, "annotations"):
        try:
            number = int(entry["image_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{file} is damaged ({error!r}); get it again.") from None
        seen.add(number)
        yield number, entry


def _classes(file: Path, annotations: EntryIndex, seen: set[int]) -> Iterator[tuple[str, Shown]]:
    """Each image with each class that it shows; images leave `seen`."""
    for place, image in enumerate(iterate_list(file, "images")):
        where = f"{file}, image {place}"
        try:
            number = int(image["id"])
            classes: dict[int, list[Any]] = {}
            crowds: list[Any] = []
            for entry in annotations.of(number):
                if entry.get("iscrowd"):
                    crowds.append(entry)
                else:
                    classes.setdefault(int(entry["category_id"]), []).append(entry)
        except (KeyError, TypeError, ValueError):
            raise InvalidInputError(
                f"{where}: its id or a category is missing; get the file again."
            ) from None
        seen.discard(number)
        for category, things in sorted(classes.items()):
            yield where, (image, category, things, crowds)
            crowds = []


def _to_record(
    image: Mapping[str, Any],
    category: int,
    things: Sequence[Mapping[str, Any]],
    crowds: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
    prefix: str,
    split: str,
) -> Record | None:
    """None where no box has an area."""
    width, height = int(image["width"]), int(image["height"])
    text = names[category]
    clamped = [(clamp_box(entry["bbox"], width, height), entry) for entry in things]
    kept = [(box, entry) for box, entry in clamped if box is not None]
    masks = [_mask(entry.get("segmentation"), width, height) for _, entry in kept]
    if not kept:
        return None
    present = [mask for mask in masks if mask is not None]
    facts = {
        "annotation_ids": [entry.get("id") for _, entry in kept],
        "areas": [entry.get("area", 0.0) for _, entry in kept],
    }
    in_crowds = [(entry["category_id"], clamp_box(entry["bbox"], width, height)) for entry in crowds]
    if in_crowds:
        facts["crowds"] = [[number, *box] for number, box in in_crowds if box is not None]
    return Record(
        source=SOURCE,
        split=split,
        id=f"{image['id']}-{category}",
        image=prefix + str(image["file_name"]),
        image_id=str(image["id"]),
        width=width,
        height=height,
        text=text,
        boxes=tuple(box for box, _ in kept),
        spans=tuple(((0, len(text)),) for _ in kept),
        masks=tuple(present) if len(present) == len(kept) else None,
        category_ids=tuple(category for _ in kept),
        extra=json.dumps(facts),
    )


def clamp_box(bbox: Sequence[float], width: int, height: int) -> Box | None:
    """COCO's x, y, width, height -> x0, y0, x1, y1 within the image; None where nothing is left."""
    x, y, w, h = map(float, bbox)
    x0, y0 = min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))
    x1, y1 = min(max(x + w, 0.0), float(width)), min(max(y + h, 0.0), float(height))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _mask(segmentation: Any, width: int, height: int) -> bytes | None:
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return encode_run_lengths(segmentation["counts"], height, width)
    return encode_polygons(segmentation, height, width)
