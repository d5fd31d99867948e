"""Reader of LVIS (v1 and v0.5): one record for each image and each class present or known to be absent."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mdetr.data.prompts import class_prompt
from mdetr.data.record import Record
from mdetr.data.sources.annotations import CROWDS, masks_of, read_annotations
from mdetr.data.sources.converting import LeftOut, attempt, convert_entries, numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, to_list, to_whole
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError

SOURCE = "lvis"
MINIVAL = "minival"  # the 5,000 images of val that are no training images of COCO 2017
_INCOMPLETE = '"not_exhaustive_category_ids"'
_SEED = 42
_NEGATIVE_EVERY = 10  # of the choice of a subset: one pick in ten is for a class that is absent


@dataclass(frozen=True, slots=True)
class _Category:
    """A class: its name as in the file, the number of its images, its frequency (r, c, f) or None."""

    id: int
    name: str
    image_count: int
    frequency: str | None


@dataclass(frozen=True, slots=True)
class _Image:
    """An image.

    Attributes:
        id: Its id.
        where: Its place in the file, for messages.
        file_name: Path relative to COCO's folder, such as train2017/000000000009.jpg.
        width: Its width in pixels.
        height: Its height in pixels.
        absent: Classes that it is known to lack.
        incomplete: Classes of which some objects are not annotated.
        categories: Classes that it shows, in the order of the file.
    """

    id: int
    where: str
    file_name: str
    width: int
    height: int
    absent: Sequence[int]
    incomplete: Sequence[int]
    categories: dict[int, None] = field(default_factory=dict)


def read_lvis(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    fraction: float = 1.0,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read LVIS as texts: every class that an image shows, with all its boxes, and every one it lacks.

    A text is the class's name (`class_prompt`). `extra` has the id, name and frequency (r, c, f) of the
    class, and whether all its boxes in the image are annotated, which the federated rule requires.

    Args:
        root: The folder with lvis_v1_SPLIT.json or lvis_v0.5_SPLIT.json, or such a file.
        split: "train", "val", or "minival": the images of val that are not in COCO's train2017.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        fraction: Fraction of the images to read, balanced over the classes like the released 1 % and 10 %.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: The file is missing or damaged, or too small for the fraction.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.4 and appendix.
    """
    file = _find(Path(root), "val" if split == MINIVAL else split)
    categories = _read_categories(file, on_bad)
    entries = _read_images(file, on_bad)
    images = {number: image for number, image in entries.items() if image is not None}
    with EntryIndex(_annotations(file, categories, entries, on_bad)) as annotations:
        if split == MINIVAL:
            images = {number: image for number, image in images.items() if "val2017" in image.file_name}
        chosen = choose_subset(images, categories, fraction) if fraction < 1 else images.keys()

        def convert(image: _Image, where: str) -> Iterator[Record | LeftOut]:
            things: dict[int, list[Any]] = defaultdict(list)
            for entry in annotations.of(image.id):
                things[Fields(entry).whole("category_id")].append(entry)
            for category in (*image.categories, *image.absent):
                if category not in categories:
                    raise InvalidInputError(f"class {category} is not in the file")
            for category in image.categories:
                yield from _to_record(image, categories[category], things[category], split)
            for category in image.absent:
                yield from _to_record(image, categories[category], (), split)

        shown = ((image.where, image) for number, image in images.items() if number in chosen)
        yield from convert_entries(shown, convert, on_bad, left_out)


def choose_subset(
    images: Mapping[int, _Image], categories: Mapping[int, _Category], fraction: float
) -> set[int]:
    """Choose a small subset of the images in which every class has positive and negative images.

    Each step picks the class with the fewest images so far, and draws one of its images (every tenth time,
    one of its negative images). Ties are resolved by the number of images of the class. Images with
    incomplete annotations of a class count for it only if there are no others.

    Args:
        images: Images by id.
        categories: Categories by id.
        fraction: Fraction of the images to keep.

    Returns:
        Ids of the images that are kept.

    Raises:
        InvalidInputError: There are too few images to cover every class.
    """
    # Group the images by class
    shown: dict[int, set[int]] = defaultdict(set)
    incomplete: dict[int, set[int]] = defaultdict(set)
    absent: dict[int, set[int]] = defaultdict(set)
    for number, image in images.items():
        for category in image.categories:
            (incomplete if category in image.incomplete else shown)[category].add(number)
        for category in image.absent:
            absent[category].add(number)
    for category in incomplete.keys() - shown.keys():
        shown[category] = incomplete[category]

    # Draw one image after the other for the class that has the fewest
    order = sorted(categories, key=lambda number: (categories[number].image_count, number))
    present, lacking = _Coverage(shown, order), _Coverage(absent, order)
    draw = random.Random(_SEED)
    chosen: set[int] = set()
    for step in range(int(len(images) * fraction)):
        coverage = lacking if step % _NEGATIVE_EVERY == 0 else present
        number = draw.choice(sorted(coverage.candidates(chosen)))
        chosen.add(number)
        present.count(number)
        lacking.count(number)

    missing = [number for number in order if not present.counts[number]]
    if missing:
        raise InvalidInputError(
            f"{len(chosen)} images do not cover all classes ({len(missing)} are missing, such as "
            f"{categories[missing[0]].name!r}); take a larger fraction."
        )
    return chosen


class _Coverage:
    """Counts of the chosen images of each class."""

    def __init__(self, images_of: Mapping[int, Collection[int]], order: Sequence[int]) -> None:
        self.counts = Counter[int](dict.fromkeys(order, 0))
        self._images_of = images_of
        self._rank = {category: rank for rank, category in enumerate(order)}
        self._left = set(order)
        self._classes_of: dict[int, list[int]] = defaultdict(list)
        for category, numbers in images_of.items():
            for number in numbers:
                self._classes_of[number].append(category)

    def candidates(self, chosen: Collection[int]) -> set[int]:
        """Return the images, not yet chosen, of the least covered class that still has some."""
        while self._left:
            category = min(self._left, key=lambda number: (self.counts[number], self._rank[number]))
            remaining = set(self._images_of.get(category, ())).difference(chosen)
            if remaining:
                return remaining
            self._left.remove(category)
        raise InvalidInputError("There are too few images for this fraction; take a smaller one.")

    def count(self, number: int) -> None:
        self.counts.update(self._classes_of[number])


def _find(root: Path, split: str) -> Path:
    if root.is_file():
        return root
    files = [root / f"lvis_{version}_{split}.json" for version in ("v1", "v0.5")]
    for file in files:
        if file.is_file():
            return file
    raise InvalidInputError(f"There is neither {files[0]} nor {files[1].name}; download LVIS's annotations.")


def _read_categories(file: Path, on_bad: OnBad | None) -> dict[int, _Category]:
    entries = numbered(iterate_list(file, "categories"), f"{file}, category")
    return {category.id: category for category in read_entries(entries, _read_category, on_bad)}


def _read_category(entry: Any) -> _Category:
    fields = Fields(entry)
    count = fields.whole("image_count") if "image_count" in fields else 0
    return _Category(fields.whole("id"), fields.text("name"), count, fields.optional_text("frequency"))


def _read_images(file: Path, on_bad: OnBad | None) -> dict[int, _Image | None]:
    """Read the images by their id; None for an invalid image."""
    images: dict[int, _Image | None] = {}
    for where, entry in numbered(iterate_list(file, "images"), f"{file}, image"):
        number = attempt(lambda entry: Fields(entry).whole("id"), entry, where, on_bad)
        if number is not None:
            images[number] = attempt(partial(_read_image, where), entry, where, on_bad)
    return images


def _read_image(where: str, entry: Any) -> _Image:
    fields = Fields(entry)
    absent = _to_ids(fields.items("neg_category_ids"), '"neg_category_ids"')
    incomplete = _to_ids(fields.value("not_exhaustive_category_ids", None) or (), _INCOMPLETE)
    return _Image(fields.whole("id"), where, _file_name(fields), *fields.size(), absent, incomplete)


def _to_ids(values: Any, name: str) -> list[int]:
    return [to_whole(value, name) for value in to_list(values, name)]


def _file_name(fields: Fields) -> str:
    if "coco_url" in fields:
        return "/".join(fields.text("coco_url").split("/")[-2:])
    name = fields.text("file_name")  # v0.5: COCO_train2014_000000000009.jpg; its images are 2017's
    return f"{'val' if 'val' in name else 'train'}2017/{name.rsplit('_', 1)[-1]}"


def _annotations(
    file: Path, categories: Mapping[int, Any], images: Mapping[int, _Image | None], on_bad: OnBad | None
) -> Iterator[tuple[int, Any]]:
    """Yield annotations with the id of their image, and add their classes to the image."""

    def read(entry: Any) -> tuple[int, int, Any]:
        fields = Fields(entry)
        image, category = fields.whole("image_id"), fields.whole("category_id")
        if category not in categories or image not in images:
            raise InvalidInputError(f"it names an unknown image or category ({image}, {category})")
        return image, category, entry

    entries = numbered(iterate_list(file, "annotations"), f"{file}, annotation")
    for number, category, entry in read_entries(entries, read, on_bad):
        image = images[number]
        if image is not None:  # the annotations of an invalid image are skipped
            image.categories[category] = None
            yield number, entry


def _to_record(
    image: _Image, category: _Category, entries: Sequence[Any], split: str
) -> Iterator[Record | LeftOut]:
    """Convert the annotations of one class in an image to a record, and count what is left out."""
    text = class_prompt(category.name)
    things, crowds, left_out = read_annotations(entries, image.width, image.height)
    extra = {
        "original_id": image.id,
        "category_id": category.id,
        "name": category.name,
        "frequency": category.frequency,
        "areas": [thing.area for thing in things],
        "exhaustive": category.id not in image.incomplete,
    }
    yield Record(
        source=SOURCE,
        split=split,
        id=f"{image.id}-{category.id}",
        image=image.file_name,
        image_id=str(image.id),
        width=image.width,
        height=image.height,
        text=text,
        boxes=tuple(thing.box for thing in things),
        spans=(((0, len(text)),),) * len(things),
        masks=masks_of(things),
        category_ids=(category.id,) * len(things),
        extra=json.dumps(extra),
    )
    yield LeftOut(CROWDS, len(crowds))
    yield from left_out
