"""The released pre-processed annotations (COCO JSON with captions) in; records out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdetr.data.record import Box, Phrase, Record, Span, Spans
from mdetr.data.sources.clevr import answer_type
from mdetr.data.sources.coco import clamp_box
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.rle import encode_polygons

# Ids that a protocol or a person may need, kept in `extra` under the names of the release.
KEPT = (
    *("dataset_name", "data_source", "original_id", "original_img_id", "sentence_id"),
    *("questionId", "task_id", "coco_url"),
)
EXPRESSIONS = "refcoco"  # begins the names of data sets whose texts denote their boxes


def read_official(root: str | Path, split: str, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Read a file of the release `mdetr_annotations`, entry by entry, in the order of the file.

    Boxes of crowds and boxes without area are left out, others cut at the border of the image, as the
    published models were trained. Files of any size are read within little memory: the annotations go to a
    temporary database first.

    Args:
        root: the JSON file, or the folder that holds it. split: its name without ".json", where root is a
            folder; else the name of the part.
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.

    Raises:
        InvalidInputError: the file is missing or damaged, or an annotation names no entry of it.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    if file.is_dir():
        file = file / f"{split}.json"
        if not file.is_file():
            found = ", ".join(sorted(path.stem for path in Path(root).glob("*.json"))) or "none"
            raise InvalidInputError(f"There is no {file}; the JSON files of that folder are: {found}.")
    with EntryIndex(_annotations(file)) as annotations:
        seen: set[str] = set()

        def convert(entry: Mapping[str, Any], where: str) -> list[Record]:
            record = _to_record(entry, annotations.of(int(entry["id"])), split)
            if record.id in seen:
                raise InvalidRecordError(f"{where}: the id {record.id} is there twice.")
            seen.add(record.id)
            return [record]

        entries = enumerate(iterate_list(file, "images"))
        yield from convert_entries(
            ((f"{file}, image {place}", entry) for place, entry in entries), convert, on_bad
        )


def _annotations(file: Path) -> Iterator[tuple[int, Any]]:
    for place, entry in enumerate(iterate_list(file, "annotations")):
        try:
            yield int(entry["image_id"]), entry
        except (KeyError, TypeError, ValueError):
            raise InvalidInputError(
                f"{file}, annotation {place}: it has no image_id; get the file again."
            ) from None


def _to_record(entry: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], split: str) -> Record:
    width, height = int(entry["width"]), int(entry["height"])
    boxes: list[Box] = []
    kept: list[Mapping[str, Any]] = []
    for annotation in annotations:
        box = clamp_box(annotation["bbox"], width, height)
        if box is not None and not annotation.get("iscrowd"):
            boxes.append(box)
            kept.append(annotation)
    spans = tuple(_to_spans(annotation["tokens_positive"]) for annotation in kept)
    name = str(entry.get("dataset_name", "official"))
    answer = entry.get("answer")
    return Record(
        source=name,
        split=split,
        id=str(entry["id"]),
        image=str(entry["file_name"]),
        image_id=str(entry["file_name"]),
        width=width,
        height=height,
        text=str(entry["caption"]),
        boxes=tuple(boxes),
        spans=spans,
        is_referred=_referred(kept, name),
        masks=_masks(kept, width, height),
        phrases=_phrases(entry.get("tokens_positive_eval"), spans),
        answer=None if answer is None else str(answer),
        answer_type=None if answer is None else _answer_type(str(answer), entry.get("question_type")),
        category_ids=tuple(int(a["category_id"]) for a in kept) if "lvis" in name else None,
        extra=json.dumps({key: entry[key] for key in KEPT if key in entry}),
    )


def _to_spans(tokens: Sequence[Sequence[int]]) -> Spans:
    spans: list[Span] = [(int(start), int(end)) for start, end in tokens]
    return tuple(spans)


def _referred(annotations: Sequence[Mapping[str, Any]], name: str) -> tuple[bool, ...] | None:
    if name.startswith(EXPRESSIONS):
        return tuple(True for _ in annotations)
    if annotations and all("isfinal" in annotation for annotation in annotations):
        return tuple(bool(annotation["isfinal"]) for annotation in annotations)
    return None


def _masks(annotations: Sequence[Mapping[str, Any]], width: int, height: int) -> tuple[bytes, ...] | None:
    if not annotations or not all(annotation.get("segmentation") for annotation in annotations):
        return None
    return tuple(encode_polygons(annotation["segmentation"], height, width) for annotation in annotations)


def _phrases(
    asked: Sequence[Sequence[Sequence[int]]] | None, spans: Sequence[Spans]
) -> tuple[Phrase, ...] | None:
    """What evaluation asks about: phrases, with the boxes whose spans include theirs."""
    if asked is None:
        return None
    phrases = []
    for tokens in asked:
        wanted = _to_spans(tokens)
        phrases.append(
            Phrase(wanted, tuple(place for place, own in enumerate(spans) if set(wanted) <= set(own)))
        )
    return tuple(phrases)


def _answer_type(answer: str, question_type: str | None) -> str:
    """GQA says of what type a question is; CLEVR's answers show it."""
    if question_type in ("obj", "attr", "rel", "global", "cat"):
        return str(question_type)
    return answer_type(answer)
