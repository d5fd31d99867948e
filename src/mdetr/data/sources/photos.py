"""Photos with the boxes of named things, and the boxes that another detector found in them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mdetr.data.class_names import GARMENTS, KINDS, is_lookalike
from mdetr.data.composition import ABSENT, Thing, compose, scene_of
from mdetr.data.record import Box, Record
from mdetr.data.sources.converting import convert_entries
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.images import load_image

RECORDS_FILE, TEACHER_FILE = "records.jsonl", "teacher.jsonl"
HELD_OUT = 10  # one photo in so many is for validation
TEACHER_SCORE = 0.5  # boxes of the detector below it are neither true nor false
COMPOSED_TEXTS = 4  # of a validation photo
SAME_BOX = 0.5  # IoU from which two boxes of a class are of the same thing

# fmt: off
COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase",
    "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl",
    "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock",
    "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
VOC_NAMES = frozenset((
    "person", "bird", "cat", "cow", "dog", "horse", "sheep", "airplane", "bicycle", "boat", "bus", "car",
    "motorcycle", "train", "bottle", "chair", "couch", "tv", "dining table", "potted plant",
))
# What is so common or so small that a detector's silence does not say that it is not there.
OFTEN_MISSED = frozenset((
    "person", "chair", "car", "bottle", "book", "cup", "bowl", "handbag", "tie", "backpack", "sports ball",
    "clock", "fork", "knife", "spoon", "cell phone", "dining table", "potted plant", "wine glass",
    "traffic light", "baseball glove",
))
# fmt: on
# Source -> the classes of which every thing has a box by people.
BOXED_BY_PEOPLE: dict[str, frozenset[str]] = {
    "voc12(animal-pose subset)": VOC_NAMES,
    "voc12(rodm)": VOC_NAMES,
    "coco train2017": frozenset(COCO_NAMES),
    "ccp": GARMENTS | {"person"},
    "fruit": KINDS["fruit"],
    "raccoon": frozenset(("raccoon",)),
    "animal-pose(web)": frozenset(),
}
PAIRED = KINDS["shoe"] | {"socks", "gloves", "stockings", "bag", "purse", "wallet", "accessories", "bracelet"}
CAPTIONS = "flickr8k-small+nanodet"


@dataclass(frozen=True)
class Entry:
    """All that the files say of one photo.

    Attributes:
        image: Path of the photo, relative to the folder.
        source: The data set that it is from.
        lines: What people said of it; a line a text.
        teacher: What the detector found in it; None where it found nothing.
    """

    image: str
    source: str
    lines: tuple[Mapping[str, Any], ...]
    teacher: Mapping[str, Any] | None


def read_photos(
    root: str | Path, split: str, on_bad: OnBad | None = None, *, composed: bool = False
) -> Iterator[Record]:
    """Read a folder of photos with `records.jsonl` (boxes by people) and `teacher.jsonl` (by a detector).

    A line of `records.jsonl`: image, source, text, boxes (x0, y0, x1, y1 in pixels), labels (a class name a
    box), spans ([start, end] a box), width, height. A line of `teacher.jsonl`: image, labels, scores, boxes.
    Each photo gives a record that lists its class names and says what is absent, for texts to be composed
    from, and its captions as they are. Validation photos, one in ten by the hash of their names, have no
    boxes of the detector and no captions.

    Args:
        root: The folder.
        split: "train" or "val".
        on_bad: Called with the error of each photo that breaks a rule; None to stop.
        composed: For validation, whether the texts are composed (colors, places, absent things) instead of
            lists of class names.

    Raises:
        InvalidInputError: A file is missing, or there is no such split.
        InvalidRecordError: A photo breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    if split not in ("train", "val"):
        raise InvalidInputError(f"The photos have the splits train and val; found {split!r}.")
    for name in (RECORDS_FILE, TEACHER_FILE):
        if not (folder / name).is_file():
            raise InvalidInputError(
                f"There is no file {folder / name}; see docs/photo-tiny.md for the layout."
            )
    entries = (
        (f"{folder / RECORDS_FILE}, {entry.image}", entry)
        for entry in _entries(folder)
        if is_held_out(entry.image) is (split == "val")
    )

    def convert(entry: Entry, where: str) -> list[Record]:
        if split == "train":
            return _training_records(entry)
        return _composed_records(entry, folder) if composed else _validation_records(entry)

    return convert_entries(entries, convert, on_bad)


def is_held_out(image: str) -> bool:
    """Whether a photo is for validation, which depends on its name alone."""
    return zlib.crc32(image.encode()) % HELD_OUT == 0


def _entries(folder: Path) -> Iterator[Entry]:
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for line in (folder / RECORDS_FILE).read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        lines.setdefault(content["image"], []).append(content)
    found = (json.loads(line) for line in (folder / TEACHER_FILE).read_text(encoding="utf-8").splitlines())
    teacher = {content["image"]: content for content in found}
    for image, said in lines.items():
        yield Entry(image, said[0]["source"], tuple(said), teacher.get(image))


def _training_records(entry: Entry) -> list[Record]:
    records = []
    things = () if entry.source == CAPTIONS else _by_people(entry)
    things = (*things, *_by_teacher(entry, things))
    if things:
        records.append(_list_of_names(entry, things, "train", with_absent=True))
    if entry.source == CAPTIONS:
        records += [_caption(entry, line, number) for number, line in enumerate(entry.lines)]
    return records


def _validation_records(entry: Entry) -> list[Record]:
    if entry.source == CAPTIONS:  # nobody checked its boxes
        return []
    return [_list_of_names(entry, _by_people(entry), "val")]


def _composed_records(entry: Entry, folder: Path) -> list[Record]:
    if entry.source == CAPTIONS:
        return []
    names = _list_of_names(entry, _by_people(entry), "val", with_absent=True)
    scene = scene_of(names, load_image(folder / entry.image))
    rng = Random(zlib.crc32(entry.image.encode()))
    return [compose(names, scene, rng, number) for number in range(COMPOSED_TEXTS)]


def _by_people(entry: Entry) -> tuple[Thing, ...]:
    """The boxes that people drew, the parts of one garment put together."""
    things = [
        Thing(_canonical(label), (box[0], box[1], box[2], box[3]))
        for line in entry.lines
        for label, box in zip(line["labels"], line["boxes"], strict=True)
    ]
    if entry.source != "ccp":
        return tuple(things)
    joined: dict[str, Box] = {}
    rest = []
    for thing in things:
        if thing.name in PAIRED:
            rest.append(thing)
        else:
            joined[thing.name] = _enclosing(joined.get(thing.name, thing.box), thing.box)
    return (*(Thing(name, box) for name, box in joined.items()), *rest)


def _by_teacher(entry: Entry, things: Sequence[Thing]) -> Iterator[Thing]:
    """The detector's sure boxes of classes that people did not box in this photo."""
    if entry.teacher is None:
        return
    found = entry.teacher
    boxed = BOXED_BY_PEOPLE.get(entry.source, frozenset())
    for label, score, values in zip(found["labels"], found["scores"], found["boxes"], strict=True):
        box = (values[0], values[1], values[2], values[3])
        is_new = all(thing.name != label or _iou(thing.box, box) < SAME_BOX for thing in things)
        others = boxed if entry.source == "ccp" else frozenset()
        if score >= TEACHER_SCORE and label not in boxed and is_new and not is_lookalike(label, others):
            yield Thing(label, box)


def _absent_names(entry: Entry, things: Sequence[Thing]) -> tuple[str, ...]:
    """Names of what is not in the photo: neither people nor the detector saw it, or anything like it."""
    seen = frozenset(thing.name for thing in things)
    if entry.teacher is not None:
        seen |= frozenset(entry.teacher["labels"])
    boxed = BOXED_BY_PEOPLE.get(entry.source, frozenset())
    candidates = boxed | (frozenset(COCO_NAMES) - OFTEN_MISSED) | {"raccoon"}
    if entry.source != "ccp" and "person" not in seen:
        candidates |= GARMENTS - {"accessories", "bag", "ring", "watch", "tie"}
    return tuple(sorted(name for name in candidates if not is_lookalike(name, seen)))


def _list_of_names(entry: Entry, things: Sequence[Thing], split: str, with_absent: bool = False) -> Record:
    names = list(dict.fromkeys(thing.name for thing in things))
    text = ". ".join(names) + "."
    starts = {name: sum(len(other) + 2 for other in names[:index]) for index, name in enumerate(names)}
    boxes = [_clipped(thing.box, entry) for thing in things]
    kept = [index for index, (x0, y0, x1, y1) in enumerate(boxes) if x1 - x0 >= 1 and y1 - y0 >= 1]
    return Record(
        source=entry.source,
        split=split,
        id=f"{entry.image}-names",
        image=entry.image,
        image_id=entry.image,
        width=entry.lines[0]["width"],
        height=entry.lines[0]["height"],
        text=text,
        boxes=tuple(boxes[index] for index in kept),
        spans=tuple(((starts[things[i].name], starts[things[i].name] + len(things[i].name)),) for i in kept),
        extra=json.dumps({ABSENT: _absent_names(entry, things)}) if with_absent else None,
    )


def _caption(entry: Entry, line: Mapping[str, Any], number: int) -> Record:
    return Record(
        source=entry.source,
        split="train",
        id=f"{entry.image}-{number}",
        image=entry.image,
        image_id=entry.image,
        width=line["width"],
        height=line["height"],
        text=line["text"],
        boxes=tuple(_clipped((box[0], box[1], box[2], box[3]), entry) for box in line["boxes"]),
        spans=tuple(((start, end),) for start, end in line["spans"]),
    )


def _clipped(box: Box, entry: Entry) -> Box:
    width, height = entry.lines[0]["width"], entry.lines[0]["height"]
    x0, y0, x1, y1 = box
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _canonical(label: str) -> str:
    return {"sofa": "couch"}.get(label, label)


def _enclosing(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)
