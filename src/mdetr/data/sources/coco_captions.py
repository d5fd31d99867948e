"""Reader of COCO captions with instances: class names in a caption are tied to their boxes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.prompts import class_prompt
from mdetr.data.record import Record
from mdetr.data.sources.annotations import Annotation, masks_of, name_of, read_annotations
from mdetr.data.sources.converting import LeftOut, attempt, convert_entries, numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, inside
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Span

SOURCE = "coco-captions"
UNNAMED = "captions that name no class of their image"
# Plurals that no rule gives.
_IRREGULAR = {
    "person": ("people", "persons"),
    "man": ("men",),
    "woman": ("women",),
    "child": ("children",),
    "mouse": ("mice",),
    "goose": ("geese",),
    "foot": ("feet",),
    "tooth": ("teeth",),
    "knife": ("knives",),
    "leaf": ("leaves",),
    "loaf": ("loaves",),
    "shelf": ("shelves",),
    "scarf": ("scarves", "scarfs"),
    "wolf": ("wolves",),
}


class ClassNames:
    """Finds the names of classes in a text."""

    def __init__(self, names: Mapping[int, str]) -> None:
        """Take the names.

        Args:
            names: Number -> name of each class, in English. Of two classes of one name the first counts.
        """
        self._classes: dict[str, int] = {}
        for number, name in names.items():
            for form in name_forms(_plain(name)):
                self._classes.setdefault(form, number)
        forms = sorted((form for form in self._classes if form), key=len, reverse=True)
        # A longer name comes first: "hot dog" names no dog.
        alternatives = "|".join(re.escape(form).replace(r"\ ", r"[\s_-]+") for form in forms)
        self._pattern = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE) if forms else None

    def find(self, text: str) -> dict[int, tuple[Span, ...]]:
        """Return the number of each class that a text names, with all spans of its names."""
        if self._pattern is None:
            return {}
        spans: dict[int, tuple[Span, ...]] = {}
        for match in self._pattern.finditer(text):
            number = self._classes[_plain(match[0])]
            spans[number] = (*spans.get(number, ()), match.span())
        return spans


def name_forms(name: str) -> tuple[str, ...]:
    """Return the singular and plurals of a name: "knife", "knives"; of several words, the last changes."""
    first, space, last = name.rpartition(" ")
    if last in _IRREGULAR:
        plurals = _IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        plurals = (f"{last}es",)
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        plurals = (f"{last[:-1]}ies",)
    else:
        plurals = (f"{last}s",)
    return tuple(f"{first}{space}{word}" for word in (last, *plurals))


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


@dataclass(frozen=True, slots=True)
class _Caption:
    """A caption with the entries of its image and of its objects."""

    fields: Fields
    image: Any
    annotations: list[Any]


def read_coco_captions(
    root: str | Path, split: str, on_bad: OnBad | None = None, left_out: Counter[str] | None = None
) -> Iterator[Record]:
    """Read the captions of one split, image after image.

    Where a caption has the name of a class that its image shows, in the singular or the plural, these words
    belong to all boxes of that class: captions do not say which of several is meant. Names are whole words,
    whatever their case; of names within each other the longest counts ("hot dog" is no dog). Other boxes are
    not in the record, and captions that name no class of their image are left out, as are crowds.

    Args:
        root: A folder with annotations/captions_SPLIT.json and instances_SPLIT.json, and images in SPLIT/.
        split: Name of the split, such as "train2017" or "val2017".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: A file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    captions_file, instances_file = (_find_file(folder, kind, split) for kind in ("captions", "instances"))
    categories = numbered(iterate_list(instances_file, "categories"), f"{instances_file}, category")
    names = dict(read_entries(categories, _read_category, on_bad))
    finder = ClassNames(names)
    waiting: dict[str, None] = {}  # images that have captions, and whose entry has not come yet
    with (
        EntryIndex(_by_image(captions_file, on_bad, waiting)) as captions,
        EntryIndex(_by_image(instances_file, on_bad)) as instances,
    ):

        def convert(caption: _Caption, where: str) -> list[Record | LeftOut]:
            return _to_records(caption, names, finder, split)

        def entries() -> Iterator[tuple[str, _Caption]]:
            for where, image in numbered(iterate_list(instances_file, "images"), f"{instances_file}, image"):
                number = attempt(lambda image: Fields(image).identifier("id"), image, where, on_bad)
                if number is None:
                    continue
                waiting.pop(number, None)
                annotations = instances.of(number)
                for caption in captions.of(number):
                    where = f"{captions_file}, {name_of(caption)}"
                    yield where, _Caption(Fields(caption), image, annotations)

        yield from convert_entries(entries(), convert, on_bad, left_out)
    if waiting:
        problem = InvalidRecordError(
            f"{captions_file}: {len(waiting)} images have captions but no entry in {instances_file.name}, "
            f"such as image {next(iter(waiting))}."
        )
        if on_bad is None:
            raise problem
        on_bad(problem)


def _find_file(folder: Path, kind: str, split: str) -> Path:
    """Find the file of a kind in the folder annotations, or beside the images."""
    name = f"{kind}_{split}.json"
    for parent in (folder / "annotations", folder):
        if (parent / name).is_file():
            return parent / name
    file = folder / "annotations" / name
    others = ", ".join(sorted(path.stem for path in file.parent.glob(f"{kind}_*.json")))
    raise InvalidInputError(f"There is no file {file}; its folder has {others or 'none of this kind'}.")


def _read_category(entry: Any) -> tuple[int, str]:
    fields = Fields(entry)
    return fields.whole("id"), class_prompt(fields.text("name"))


def _by_image(
    file: Path, on_bad: OnBad | None, seen: dict[str, None] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield the annotations of a file with the id of their image, which is also added to `seen`."""
    entries = numbered(iterate_list(file, "annotations"), f"{file}, annotation")
    for image, entry in read_entries(
        entries, lambda entry: (Fields(entry).identifier("image_id"), entry), on_bad
    ):
        if seen is not None:
            seen[image] = None
        yield image, entry


def _to_records(
    caption: _Caption, names: Mapping[int, str], finder: ClassNames, split: str
) -> list[Record | LeftOut]:
    """Convert a caption to a record with the boxes of the classes that it names."""
    text, caption_id = caption.fields.text("caption").strip(), caption.fields.identifier("id")
    if not text:
        raise InvalidInputError('its "caption" is empty')
    with inside("its image"):
        image = Fields(caption.image)
        (width, height), file_name, image_id = image.size(), image.text("file_name"), image.identifier("id")

    # Keep the annotations of the classes that the caption names
    spans_by_category = finder.find(text)
    kept: list[Annotation] = []
    categories: list[int] = []
    for annotation in read_annotations(caption.annotations, width, height)[0]:
        category = _read_category_id(annotation, names)
        if category in spans_by_category:
            kept.append(annotation)
            categories.append(category)
    if not kept:
        return [LeftOut(UNNAMED)]

    record = Record(
        source=SOURCE,
        split=split,
        id=caption_id,
        image=f"{split}/{file_name}",
        image_id=image_id,
        width=width,
        height=height,
        text=text,
        boxes=tuple(annotation.box for annotation in kept),
        spans=tuple(spans_by_category[category] for category in categories),
        masks=masks_of(kept),
        category_ids=tuple(categories),
        extra=json.dumps({"annotation_ids": _annotation_ids(kept)}),
    )
    return [record]


def _read_category_id(annotation: Annotation, names: Mapping[int, str]) -> int:
    category = annotation.fields.whole("category_id")
    if category not in names:
        raise InvalidInputError(f"category {category} is not in the file")
    return category


def _annotation_ids(annotations: Iterable[Annotation]) -> list[Any]:
    return [annotation.fields.value("id", None) for annotation in annotations]
