"""Files of a folder of photos: boxes and captions by people, and boxes of a teacher detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mdetr.data.class_names import GARMENTS, KINDS
from mdetr.data.composition.scene import Thing
from mdetr.data.sources.converting import attempt, read_entries
from mdetr.data.sources.fields import Fields, describe, to_finite, to_span, to_text
from mdetr.data.sources.json_lines import iterate_lines, parse_line, to_box
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Span

RECORDS_FILE, TEACHER_FILE = "records.jsonl", "teacher.jsonl"
CAPTIONS = "flickr8k-small+nanodet"  # the source whose lines are captions
OTHER_PHOTOS = f"lines of {TEACHER_FILE} about photos that {RECORDS_FILE} lacks"

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
# fmt: on
# Source -> classes whose objects are all boxed by people
BOXED_BY_PEOPLE: dict[str, frozenset[str]] = {
    "voc12(animal-pose subset)": VOC_NAMES,
    "voc12(rodm)": VOC_NAMES,
    "coco train2017": frozenset(COCO_NAMES),
    "ccp": GARMENTS | {"person"},
    "fruit": KINDS["fruit"],
    "raccoon": frozenset(("raccoon",)),
    "animal-pose(web)": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of `records.jsonl`: boxes or a caption of one photo, by people.

    Attributes:
        image: Path of the photo, relative to the folder.
        source: Data set of the photo.
        width: Width of the photo, in pixels.
        height: Height of the photo, in pixels.
        things: Named boxes; they may extend beyond the photo.
        text: Caption, if the line has one.
        spans: For each box of a captioned photo, its characters of the caption.
        boxed: Further classes whose objects in the photo are all boxed.
    """

    image: str
    source: str
    width: int
    height: int
    things: tuple[Thing, ...]
    text: str | None
    spans: tuple[Span, ...]
    boxed: frozenset[str]


@dataclass(frozen=True, slots=True)
class TeacherLine:
    """A line of `teacher.jsonl`: boxes of one photo by a detector, with scores from 0 to 1."""

    image: str
    things: tuple[Thing, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """All lines about one photo.

    Attributes:
        where: File and number of its first line, for messages.
        lines: Lines by people; at least one.
        teacher: Line of the detector; None if it did not process the photo.
    """

    where: str
    lines: tuple[Line, ...]
    teacher: TeacherLine | None

    @property
    def photo(self) -> Line:
        """The first line, which describes the photo like all others."""
        return self.lines[0]

    @property
    def boxed(self) -> frozenset[str]:
        """Classes whose objects in the photo are all boxed by people."""
        known = BOXED_BY_PEOPLE.get(self.photo.source, frozenset())
        return known.union(*(line.boxed for line in self.lines))


def read_photo_files(folder: Path, on_bad: OnBad | None, left_out: Counter[str]) -> Iterator[Entry]:
    """Read the photos of a folder, in the order of their first lines.

    Photos with an invalid line are skipped, because what that line would have named cannot count as absent.

    Args:
        folder: Folder with the files.
        on_bad: Called with the error of each invalid line; None to raise it.
        left_out: Counts lines of the detector about other photos.

    Yields:
        All lines about each photo.
    """
    # Read the lines by people, and group them by photo
    lines: dict[str, list[Line]] = {}
    positions: dict[str, str] = {}
    broken: set[str] = set()
    for where, (_, text) in iterate_lines(folder / RECORDS_FILE):
        named = attempt(_name_photo, text, where, on_bad)
        if named is None:
            continue
        image, fields = named
        positions.setdefault(image, where)
        lines_before = lines.setdefault(image, [])
        line = attempt(partial(_read_line, image, lines_before), fields, where, on_bad)
        if line is None:
            broken.add(image)
        else:
            lines_before.append(line)

    # Add the lines of the detector
    teacher = _read_teacher(folder / TEACHER_FILE, on_bad)
    num_others = len(teacher.keys() - positions.keys())
    if num_others:
        left_out[OTHER_PHOTOS] += num_others
    for image, lines_of_photo in lines.items():
        if image not in broken:
            yield Entry(positions[image], tuple(lines_of_photo), teacher.get(image))


def _name_photo(text: str) -> tuple[str, Fields]:
    """Return the photo of a line, and the fields of the line."""
    fields = Fields(parse_line(text))
    image = fields.text("image")
    if not image:
        raise InvalidInputError('its "image" is empty')
    return image, fields


def _read_line(image: str, before: Sequence[Line], fields: Fields) -> Line:
    """Read a line, and check that it agrees with the lines before about the same photo."""
    width, height = fields.size()
    source = fields.text("source")
    things = _read_things(fields)
    is_caption = source == CAPTIONS
    spans = [to_span(span, '"spans"') for span in fields.items("spans")] if is_caption else []
    if is_caption and len(spans) != len(things):
        raise InvalidInputError(
            f'its "spans" must be one for each box, got {len(spans)} for {len(things)} boxes'
        )
    text = fields.text("text") if is_caption else None
    boxed = [to_text(name, '"boxed"') for name in fields.items("boxed")] if "boxed" in fields else []
    line = Line(
        image, source, width, height, things, text, tuple(spans), frozenset(map(canonical_name, boxed))
    )
    if before:
        _check_same_photo(line, before[0])
    return line


def _read_things(fields: Fields) -> tuple[Thing, ...]:
    """Read the named boxes of a line."""
    labels = [to_text(label, '"labels"') for label in fields.items("labels")]
    boxes = [to_box(box, f"box {number}") for number, box in enumerate(fields.items("boxes"))]
    if len(labels) != len(boxes):
        raise InvalidInputError(
            f'its "labels" must be one for each box, got {len(labels)} for {len(boxes)} boxes'
        )

    # Check and combine names and boxes
    things: list[Thing] = []
    for number, (label, (x0, y0, x1, y1)) in enumerate(zip(labels, boxes, strict=True)):
        if not label.strip():
            raise InvalidInputError(f'its "labels" must be names, got {describe(label)}')
        if x1 < x0 or y1 < y0:
            place = f"({x0:g}, {y0:g}, {x1:g}, {y1:g})"
            raise InvalidInputError(f"its box {number} must be x0, y0, x1, y1 in this order, got {place}")
        things.append(Thing(canonical_name(label), (x0, y0, x1, y1)))
    return tuple(things)


def _check_same_photo(line: Line, first: Line) -> None:
    """Check that two lines about a photo agree on its source and size."""
    for name in ("source", "width", "height"):
        value, expected = getattr(line, name), getattr(first, name)
        if value != expected:
            raise InvalidInputError(
                f'its "{name}" must be {expected!r} as in the first line of this photo, got {value!r}'
            )


def _read_teacher(file: Path, on_bad: OnBad | None) -> dict[str, TeacherLine]:
    """Read the lines of the detector, by photo; none if the file does not exist."""
    if not file.is_file():
        return {}
    lines: dict[str, TeacherLine] = {}

    def read(text: str) -> TeacherLine:
        fields = Fields(parse_line(text))
        image, things = fields.text("image"), _read_things(fields)
        scores = [to_finite(score, '"scores"') for score in fields.items("scores")]
        if len(scores) != len(things):
            raise InvalidInputError(
                f'its "scores" must be one for each box, got {len(scores)} for {len(things)} boxes'
            )
        if not all(0 <= score <= 1 for score in scores):
            raise InvalidInputError('its "scores" must be from 0 to 1')
        if image in lines:
            raise InvalidInputError(f"there is a line about {image} already")
        return TeacherLine(image, things, tuple(scores))

    texts = ((where, text) for where, (_, text) in iterate_lines(file))
    for line in read_entries(texts, read, on_bad):
        lines[line.image] = line
    return lines


def canonical_name(label: str) -> str:
    """Return the name that the package uses for a class label."""
    return {"sofa": "couch"}.get(label, label)
