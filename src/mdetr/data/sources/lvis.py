"""LVIS (v1 or v0.5) in; a record for each image and class, present or known to be absent, out."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdetr.data.prompts import class_prompt
from mdetr.data.record import Record
from mdetr.data.sources.coco import clamp_box
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.rle import encode_polygons

SOURCE = "lvis"
MINIVAL = "minival"  # the 5,000 images of val that are no training images of COCO 2017
_SEED = 42
_NEGATIVE_EVERY = 10  # of the choice of a subset: one pick in ten is for a class that is absent


@dataclass(frozen=True, slots=True)
class _Image:
    """What the file says of an image; categories: the classes that it shows, in the order of the file."""

    entry: Mapping[str, Any]
    categories: dict[int, None] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Relative to COCO's folder: train2017/000000000009.jpg."""
        if "coco_url" in self.entry:
            return "/".join(str(self.entry["coco_url"]).split("/")[-2:])
        name = str(self.entry["file_name"])  # v0.5: COCO_train2014_000000000009.jpg; its images are 2017's
        return f"{'val' if 'val' in name else 'train'}2017/{name.rsplit('_', 1)[-1]}"


def read_lvis(
    root: str | Path, split: str, on_bad: OnBad | None = None, fraction: float = 1.0
) -> Iterator[Record]:
    """Read LVIS as texts: every class that an image shows, with all its boxes, and every one it lacks.

    A text is the class's name (`class_prompt`). `extra` says which class is asked for, its name and frequency
    (r, c, f), and whether the image's boxes of it are all there, which the federated rule needs.

    Args:
        root: the folder with lvis_v1_SPLIT.json or lvis_v0.5_SPLIT.json, or such a file.
        split: train, val, or minival: the images of val that are not in COCO's train2017.
        on_bad: called with the error of each image that breaks a rule, which is then left out; None to stop.
        fraction: of the images to take, balanced over the classes as the published 1 % and 10 % are.

    Raises:
        InvalidInputError: the file is missing or damaged, or too small for the fraction.
        InvalidRecordError: an image breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.4 and appendix.
    """
    file = _find(Path(root), "val" if split == MINIVAL else split)
    categories, images = _read(file)
    with EntryIndex(_annotations(file, categories, images)) as annotations:
        if split == MINIVAL:
            images = {number: image for number, image in images.items() if "val2017" in image.file_name}
        chosen = choose_subset(images, categories, fraction) if fraction < 1 else images.keys()

        def convert(image: _Image, where: str) -> Iterator[Record]:
            things = annotations.of(int(image.entry["id"]))
            for category in image.categories:
                own = [thing for thing in things if thing["category_id"] == category]
                yield _to_record(image, categories[category], own, split)
            for category in image.entry["neg_category_ids"]:
                yield _to_record(image, categories[category], (), split)

        entries = ((f"{file}, image {number}", images[number]) for number in images if number in chosen)
        yield from convert_entries(entries, convert, on_bad)


def choose_subset(
    images: Mapping[int, _Image], categories: Mapping[int, Mapping[str, Any]], fraction: float
) -> set[int]:
    """The images of a small share of the data in which every class is present, and absent, somewhere.

    Image by image the class that is covered least is looked for, and one of the images that show it is drawn
    (every tenth time, one that is known to lack it). Classes covered equally come in the order of their
    number of images. An image does not count for a class of which not all is annotated in it, unless there is
    no other.

    Raises:
        InvalidInputError: there are too few images to cover every class.
    """
    shown: dict[int, set[int]] = defaultdict(set)  # class -> images
    incomplete: dict[int, set[int]] = defaultdict(set)
    absent: dict[int, set[int]] = defaultdict(set)
    for number, image in images.items():
        partly = set(image.entry.get("not_exhaustive_category_ids", ()))
        for category in image.categories:
            (incomplete if category in partly else shown)[category].add(number)
        for category in image.entry["neg_category_ids"]:
            absent[category].add(number)
    for category in incomplete.keys() - shown.keys():
        shown[category] = incomplete[category]
    order = sorted(categories, key=lambda number: (categories[number]["image_count"], number))
    present, lacking = _Coverage(shown, order), _Coverage(absent, order)
    draw = random.Random(_SEED)
    chosen: set[int] = set()
    for place in range(int(len(images) * fraction)):
        wanted = lacking if place % _NEGATIVE_EVERY == 0 else present
        number = draw.choice(sorted(wanted.candidates(chosen)))
        chosen.add(number)
        present.count(number)
        lacking.count(number)
    missing = [number for number in order if not present.counts[number]]
    if missing:
        raise InvalidInputError(
            f"{len(chosen)} images do not cover all classes ({len(missing)} are missing, such as "
            f"{categories[missing[0]]['name']!r}); take a larger fraction."
        )
    return chosen


class _Coverage:
    """How many chosen images there are of each class."""

    def __init__(self, images_of: Mapping[int, Collection[int]], order: Sequence[int]) -> None:
        self.counts = Counter[int](dict.fromkeys(order, 0))
        self._images_of = images_of
        self._rank = {category: place for place, category in enumerate(order)}
        self._left = set(order)
        self._classes_of: dict[int, list[int]] = defaultdict(list)
        for category, numbers in images_of.items():
            for number in numbers:
                self._classes_of[number].append(category)

    def candidates(self, chosen: Collection[int]) -> set[int]:
        """The images, not yet chosen, of the class that is covered least and has any left."""
        while self._left:
            category = min(self._left, key=lambda number: (self.counts[number], self._rank[number]))
            found = set(self._images_of.get(category, ())).difference(chosen)
            if found:
                return found
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
    raise InvalidInputError(f"There is neither {files[0]} nor {files[1].name}; get LVIS's annotations.")


def _read(file: Path) -> tuple[dict[int, Mapping[str, Any]], dict[int, _Image]]:
    try:
        categories = {int(entry["id"]): entry for entry in iterate_list(file, "categories")}
        images = {int(entry["id"]): _Image(entry) for entry in iterate_list(file, "images")}
        for image in images.values():
            _ = image.file_name, image.entry["neg_category_ids"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{file} is damaged, or not LVIS's ({error!r}); get it again.") from None
    return categories, images


def _annotations(
    file: Path, categories: Mapping[int, Any], images: Mapping[int, _Image]
) -> Iterator[tuple[int, Any]]:
    """Annotations with the number of their image, which learns its classes in the order of the file."""
    for number, entry in enumerate(iterate_list(file, "annotations")):
        try:
            image, category = int(entry["image_id"]), int(entry["category_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{file} is damaged, or not LVIS's ({error!r}); get it again.") from None
        if category not in categories or image not in images:
            raise InvalidInputError(
                f"{file}, annotation {number}: it names an unknown image or category; get the file again."
            )
        images[image].categories[category] = None
        yield image, entry


def _to_record(
    image: _Image, category: Mapping[str, Any], things: Iterable[Mapping[str, Any]], split: str
) -> Record:
    width, height = int(image.entry["width"]), int(image.entry["height"])
    text, number = class_prompt(category["name"]), int(category["id"])
    clamped = [(clamp_box(thing["bbox"], width, height), thing) for thing in things]
    kept = [(box, thing) for box, thing in clamped if box is not None]
    polygons = [thing.get("segmentation") for _, thing in kept]
    extra = {
        "original_id": image.entry["id"],
        "category_id": number,
        "name": category["name"],
        "frequency": category.get("frequency"),
        "areas": [thing.get("area", 0.0) for _, thing in kept],
        "exhaustive": number not in image.entry.get("not_exhaustive_category_ids", ()),
    }
    return Record(
        source=SOURCE,
        split=split,
        id=f"{image.entry['id']}-{number}",
        image=image.file_name,
        image_id=str(image.entry["id"]),
        width=width,
        height=height,
        text=text,
        boxes=tuple(box for box, _ in kept),
        spans=tuple(((0, len(text)),) for _ in kept),
        masks=tuple(encode_polygons(own, height, width) for own in polygons if own)
        if polygons and all(polygons)
        else None,
        category_ids=tuple(number for _ in kept),
        extra=json.dumps(extra),
    )
