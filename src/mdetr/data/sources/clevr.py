"""A folder in CLEVR's layout, with captions and referring expressions, in; records out."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdetr.data.record import Box, Phrase, Record, Span, Spans, validate_record
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError

SOURCE = "clevr"
_KINDS = {"caption": "captions", "refexp": "refexps"}
Entry = tuple[int, str, int, Any]
"""(image index, kind, number in its file, what the file says)."""


def read_clevr(root: str | Path, split: str, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Read the captions and referring expressions of one split, image after image.

    A caption's record has a box for each object that it mentions, in the order of mention. A referring
    expression's record has the object that it singles out and those it uses to do so; `is_referred` is true
    for the first only. Images are relative to `root`.

    Args:
        root: the folder with images/SPLIT, scenes, captions and refexps; scenes need a "bbox" per object.
        split: train, val, ...
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.

    Raises:
        InvalidInputError: a file is missing or damaged, or has no captions and no referring expressions.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    scenes_file = folder / "scenes" / f"CLEVR_{split}_scenes.json"
    files = {kind: folder / name / f"CLEVR_{split}_{name}.json" for kind, name in _KINDS.items()}
    _check_layout(folder, split, scenes_file, files)
    boxes_by_image = {
        int(scene["image_index"]): [_to_box(thing["bbox"]) for thing in scene["objects"]]
        for scene in _checked_scenes(scenes_file)
    }
    entries = heapq.merge(
        *(_entries(file, kind) for kind, file in files.items() if file.exists()), key=lambda entry: entry[0]
    )
    size_of = ImageSizes(folder)
    for image_index, kind, number, entry in entries:
        where = f"{files[kind]}, entry {number}"
        try:
            if image_index not in boxes_by_image:
                raise InvalidRecordError(
                    f"{where}: {scenes_file} has no scene with image_index {image_index}."
                )
            record = _to_record(entry, kind, number, split, boxes_by_image[image_index], size_of, where)
            validate_record(record, where)
        except InvalidRecordError as error:
            if on_bad is None:
                raise
            on_bad(error)
        else:
            yield record


def _check_layout(folder: Path, split: str, scenes_file: Path, files: Mapping[str, Path]) -> None:
    if not folder.is_dir():
        raise InvalidInputError(
            f"There is no folder {folder}; give the folder that holds images, scenes and captions."
        )
    if not scenes_file.is_file():
        found = sorted(path.name.split("_")[1] for path in (folder / "scenes").glob("CLEVR_*_scenes.json"))
        raise InvalidInputError(
            f"There is no {scenes_file}; the splits found in {folder} are: {', '.join(found) or 'none'}."
        )
    if not any(file.is_file() for file in files.values()):
        raise InvalidInputError(
            f"{folder} has neither captions nor referring expressions of the split {split!r} "
            f"(expected {' or '.join(str(file) for file in files.values())}); "
            "`mdetr data synthesize clevr` makes a folder that has both."
        )


def _checked_scenes(scenes_file: Path) -> Iterator[dict[str, Any]]:
    for number, scene in enumerate(iterate_list(scenes_file, "scenes")):
        try:
            complete = isinstance(scene["image_index"], int) and all(
                len(thing["bbox"]) == 4 for thing in scene["objects"]
            )
        except (KeyError, TypeError):
            complete = False
        if not complete:
            raise InvalidInputError(
                f"{scenes_file}, entry {number}: a scene needs an image_index, and objects that each have "
                'a "bbox" of x0, y0, x1, y1 in pixels.'
            )
        yield scene


def _entries(file: Path, kind: str) -> Iterator[Entry]:
    for number, entry in enumerate(iterate_list(file, _KINDS[kind])):
        try:
            yield int(entry["image_index"]), kind, number, entry
        except (KeyError, TypeError, ValueError):
            yield -1, kind, number, entry


def _to_record(
    entry: dict[str, Any],
    kind: str,
    number: int,
    split: str,
    scene_boxes: list[Box],
    size_of: ImageSizes,
    where: str,
) -> Record:
    try:
        image = f"images/{split}/{entry['image_filename']}"
        image_index, text = entry["image_index"], str(entry["text"])
        phrases = [
            (
                tuple((int(start), int(end)) for start, end in phrase["spans"]),
                [int(i) for i in phrase["objects"]],
            )
            for phrase in entry["phrases"]
        ]
        target = int(entry["target"]) if kind == "refexp" else None
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRecordError(f"{where}: a field is missing or of the wrong kind ({error!r}).") from None
    spans_of: dict[int, list[Span]] = {} if target is None else {target: []}
    for spans, objects in phrases:
        for thing in objects:
            spans_of.setdefault(thing, []).extend(spans)
    for thing in spans_of:
        if not 0 <= thing < len(scene_boxes):
            raise InvalidRecordError(
                f"{where}: object {thing} is not among the {len(scene_boxes)} of its scene."
            )
    place = {thing: box for box, thing in enumerate(spans_of)}
    width, height = size_of(image, where)
    extra: dict[str, Any] = {"kind": kind, "image_index": image_index, "objects": list(spans_of)}
    return Record(
        source=SOURCE,
        split=split,
        id=f"{kind}-{number}",
        image=image,
        image_id=str(image_index),
        width=width,
        height=height,
        text=text,
        boxes=tuple(scene_boxes[thing] for thing in spans_of),
        spans=tuple(_sorted_spans(spans) for spans in spans_of.values()),
        is_referred=None if target is None else tuple(thing == target for thing in spans_of),
        phrases=tuple(Phrase(spans, tuple(place[thing] for thing in objects)) for spans, objects in phrases),
        extra=json.dumps(extra),
    )


def _to_box(values: Sequence[float]) -> Box:
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def _sorted_spans(spans: list[Span]) -> Spans:
    return tuple(sorted(set(spans)))
