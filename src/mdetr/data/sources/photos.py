"""Reader of photos with named boxes, and boxes of a teacher detector."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from mdetr.data.class_names import GARMENTS, KINDS, is_lookalike
from mdetr.data.composition.scene import Thing, scene_of
from mdetr.data.composition.texts import compose
from mdetr.data.image_tensors import load_image_tensor
from mdetr.data.record import Record
from mdetr.data.sources.converting import LeftOut, convert_entries
from mdetr.data.sources.photo_files import (
    CAPTIONS,
    COCO_NAMES,
    RECORDS_FILE,
    Entry,
    Line,
    read_photo_files,
)
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box, Span, Spans

HELD_OUT = 10  # one photo in so many is for validation
TEACHER_SCORE = 0.5  # minimum score of a teacher's box that counts as true; those below count as unknown
COMPOSED_TEXTS = 4  # texts of a validation photo
SAME_BOX = 0.5  # minimum IoU of two boxes of a class that show the same thing

# fmt: off
# Classes so common or so small that a detector often misses them
OFTEN_MISSED = frozenset((
    "person", "chair", "car", "bottle", "book", "cup", "bowl", "handbag", "tie", "backpack", "sports ball",
    "clock", "fork", "knife", "spoon", "cell phone", "dining table", "potted plant", "wine glass",
    "traffic light", "baseball glove",
))
# fmt: on
PAIRED = KINDS["shoe"] | {"socks", "gloves", "stockings", "bag", "purse", "wallet", "accessories", "bracelet"}

NO_BOX = "photos without a box"
TOO_SMALL = "boxes of less than a pixel in their photo"
NOT_CHECKED = "photos whose boxes nobody checked, which are not for validation"


def read_photos(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    images: Path | None = None,
    *,
    composed: bool = False,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read a folder of photos with `records.jsonl` (boxes by people) and `teacher.jsonl` (by a detector).

    A line of `records.jsonl`: image, source, text, boxes (x0, y0, x1, y1 in pixels), labels (a class name a
    box), spans ([start, end] a box), width, height, and if wanted boxed (classes of which nothing in the
    photo lacks a box). A line of `teacher.jsonl`, which may be missing: image, labels, scores, boxes.
    Each photo gives a record that lists its class names and says what is absent, for texts to be composed
    from, and its captions as they are. Validation photos, one in ten by the hash of their names, have no
    boxes of the detector and no captions.

    Args:
        root: The folder.
        split: "train" or "val".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder that images are relative to; `root` if left out.
        composed: For validation, whether the texts are composed (colors, places, absent things) instead of
            lists of class names.
        left_out: Counts what is left out on purpose, by kind.

    Returns:
        An iterator over valid records.

    Raises:
        InvalidInputError: `records.jsonl` is missing, or there is no such split.
        InvalidRecordError: A line breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    if split not in ("train", "val"):
        raise InvalidInputError(f"Expected the split train or val, got {split!r}.")
    if composed and split != "val":
        raise InvalidInputError("The composed texts are for validation; import them with --split val.")
    if not (folder / RECORDS_FILE).is_file():
        raise InvalidInputError(
            f"There is no file {folder / RECORDS_FILE}; see docs/photo-tiny.md for the layout."
        )
    counts = Counter[str]() if left_out is None else left_out

    def entries() -> Iterator[tuple[str, Entry]]:
        for entry in read_photo_files(folder, on_bad, counts):
            if is_held_out(entry.photo.image) is (split == "val"):
                yield entry.where, entry

    def convert(entry: Entry, where: str) -> list[Record | LeftOut]:
        if split == "train":
            return _training_records(entry)
        return _composed_records(entry, images or folder) if composed else _validation_records(entry)

    return convert_entries(entries(), convert, on_bad, counts)


def is_held_out(image: str) -> bool:
    """Tell whether a photo is for validation, which depends on its name alone.

    Args:
        image: File name of the photo.

    Returns:
        True for a validation photo.
    """
    return zlib.crc32(image.encode()) % HELD_OUT == 0


def _training_records(entry: Entry) -> list[Record | LeftOut]:
    is_captioned = entry.photo.source == CAPTIONS
    things = () if is_captioned else _by_people(entry)
    things = (*things, *_by_teacher(entry, things))
    records = _list_of_names(entry, things, "train")
    if is_captioned:
        for number, line in enumerate(entry.lines):
            records += _caption(entry, line, number)
    return records or [LeftOut(NO_BOX)]


def _validation_records(entry: Entry) -> list[Record | LeftOut]:
    if entry.photo.source == CAPTIONS:
        return [LeftOut(NOT_CHECKED)]
    return _list_of_names(entry, _by_people(entry), "val") or [LeftOut(NO_BOX)]


def _composed_records(entry: Entry, folder: Path) -> list[Record | LeftOut]:
    """Compose texts about a validation photo, reproducibly because its name seeds them."""
    if entry.photo.source == CAPTIONS:
        return [LeftOut(NOT_CHECKED)]
    photo = entry.photo
    converted = _list_of_names(entry, _by_people(entry), "val")
    if not converted:
        return [LeftOut(NO_BOX)]
    image = load_image_tensor(folder / photo.image)
    if image.shape[-2:] != (photo.height, photo.width):
        raise InvalidInputError(
            f"its width and height are {photo.width} x {photo.height}, but {photo.image} has "
            f"{image.shape[-1]} x {image.shape[-2]} pixels"
        )
    records: list[Record | LeftOut] = []
    for item in converted:
        if isinstance(item, Record):
            scene, rng = scene_of(item, image), Random(zlib.crc32(photo.image.encode()))
            for number in range(COMPOSED_TEXTS):
                records.append(compose(item, scene, rng, number))
        else:
            records.append(item)
    return records


def _by_people(entry: Entry) -> tuple[Thing, ...]:
    """Return the boxes that people drew, with the parts of one garment merged."""
    things: list[Thing] = []
    for line in entry.lines:
        things += line.things
    if entry.photo.source != "ccp":
        return tuple(things)
    merged: dict[str, Box] = {}
    rest = []
    for thing in things:
        if thing.name in PAIRED:
            rest.append(thing)
        else:
            merged[thing.name] = _enclosing(merged.get(thing.name, thing.box), thing.box)
    return (*map(Thing, merged.keys(), merged.values()), *rest)


def _by_teacher(entry: Entry, things: Sequence[Thing]) -> Iterator[Thing]:
    """Yield confident boxes of the detector, of classes that people did not box in this photo."""
    if entry.teacher is None:
        return
    boxed = entry.boxed
    # Fashion data has a class for everything people wear, so that similar classes of the detector add nothing
    others = boxed if entry.photo.source == "ccp" else frozenset[str]()
    for detection, score in zip(entry.teacher.things, entry.teacher.scores, strict=True):
        if score < TEACHER_SCORE or detection.name in boxed or is_lookalike(detection.name, others):
            continue
        if not _is_duplicate(detection, things):
            yield detection


def _is_duplicate(detection: Thing, things: Sequence[Thing]) -> bool:
    for thing in things:
        if thing.name == detection.name and _iou(thing.box, detection.box) >= SAME_BOX:
            return True
    return False


def _absent_names(entry: Entry, things: Sequence[Thing]) -> tuple[str, ...]:
    """List classes that are not in the photo: neither people nor the detector boxed one or a similar one."""
    seen = frozenset(thing.name for thing in things)
    boxed = entry.boxed
    candidates = boxed
    if entry.teacher is not None:
        seen |= frozenset(thing.name for thing in entry.teacher.things)
    if entry.teacher is not None or boxed.issuperset(COCO_NAMES):  # otherwise they may be unlabeled
        candidates |= (frozenset(COCO_NAMES) - OFTEN_MISSED) | {"raccoon"}
        if entry.photo.source != "ccp" and "person" not in seen:
            candidates |= GARMENTS - {"accessories", "bag", "ring", "watch", "tie"}
    return tuple(sorted(name for name in candidates if not is_lookalike(name, seen)))


def _list_of_names(entry: Entry, things: Sequence[Thing], split: str) -> list[Record | LeftOut]:
    """Make a record whose text lists the class names of a photo, each tied to its boxes; none without things.

    A class whose only boxes are too small stays in the text: the photo shows it.
    """
    if not things:
        return []

    # List each name once, "dog. cat."
    text = ""
    name_spans: dict[str, Span] = {}
    for thing in things:
        if thing.name not in name_spans:
            text += " " if text else ""
            name_spans[thing.name] = len(text), len(text) + len(thing.name)
            text += f"{thing.name}."

    # Clip the boxes, and keep those that are large enough
    boxes: list[Box] = []
    spans: list[Spans] = []
    for thing in things:
        box = _clipped(thing.box, entry.photo)
        if _is_large_enough(box):
            boxes.append(box)
            spans.append((name_spans[thing.name],))

    record = Record(
        source=entry.photo.source,
        split=split,
        id=f"{entry.photo.image}-names",
        image=entry.photo.image,
        image_id=entry.photo.image,
        width=entry.photo.width,
        height=entry.photo.height,
        text=text,
        boxes=tuple(boxes),
        spans=tuple(spans),
        extra=json.dumps({"absent": _absent_names(entry, things)}),
    )
    return [record, LeftOut(TOO_SMALL, len(things) - len(boxes))]


def _caption(entry: Entry, line: Line, number: int) -> list[Record | LeftOut]:
    """Convert a captioned photo with the boxes that are large enough."""
    boxes: list[Box] = []
    spans: list[Spans] = []
    for thing, span in zip(line.things, line.spans, strict=True):
        box = _clipped(thing.box, line)
        if _is_large_enough(box):
            boxes.append(box)
            spans.append((span,))
    record = Record(
        source=line.source,
        split="train",
        id=f"{line.image}-{number}",
        image=line.image,
        image_id=line.image,
        width=line.width,
        height=line.height,
        text=line.text or "",
        boxes=tuple(boxes),
        spans=tuple(spans),
    )
    return [record, LeftOut(TOO_SMALL, len(line.things) - len(boxes))]


def _clipped(box: Box, photo: Line) -> Box:
    """Clip a box to its photo; a box outside it gets no area, or a negative one."""
    x0, y0, x1, y1 = box
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(photo.width)), min(y1, float(photo.height))


def _is_large_enough(box: Box) -> bool:
    x0, y0, x1, y1 = box
    return x1 - x0 >= 1 and y1 - y0 >= 1


def _enclosing(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared) if areas > shared else 0.0
