"""Reader of the released pre-processed annotations (COCO JSON with captions)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mdetr.data.record import Phrase, Record
from mdetr.data.sources.annotations import CROWDS, Annotation, masks_of, read_annotations
from mdetr.data.sources.clevr import answer_type
from mdetr.data.sources.converting import LeftOut, convert_entries, numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, to_list, to_span
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box, Spans

# Ids that a protocol or a person may need, kept in `extra` under the names of the release.
KEPT = (
    *("dataset_name", "data_source", "original_id", "original_img_id", "sentence_id"),
    *("questionId", "task_id", "coco_url"),
)
EXPRESSIONS = "refcoco"  # begins the names of data sets whose texts denote their boxes


def read_official(
    root: str | Path, split: str, on_bad: OnBad | None = None, left_out: Counter[str] | None = None
) -> Iterator[Record]:
    """Read a file of the release `mdetr_annotations`, entry by entry, in the order of the file.

    Boxes of crowds and boxes without area are left out, others cut at the border of the image, as the
    released models were trained. Ids of images may be texts. Files of any size are read within little
    memory: the annotations go to a temporary database first.

    Args:
        root: The JSON file, or the folder that holds it.
        split: Name of the split; where root is a folder, the name of the file in it without ".json".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: The file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    if file.is_dir():
        file = file / f"{split}.json"
        if not file.is_file():
            names = sorted(path.stem for path in Path(root).glob("*.json"))
            raise InvalidInputError(
                f"There is no {file}; the JSON files of that folder are: {', '.join(names) or 'none'}."
            )
    with EntryIndex(_annotations(file, on_bad)) as annotations:
        seen: set[str] = set()

        def convert(entry: Any, where: str) -> list[Record | LeftOut]:
            fields = Fields(entry)
            number = fields.identifier("id")
            if number in seen:
                raise InvalidRecordError(f"{where}: the id {number} is a duplicate.")
            converted = _to_records(fields, annotations.of(number), split)
            seen.add(number)
            return converted

        entries = numbered(iterate_list(file, "images"), f"{file}, image")
        yield from convert_entries(entries, convert, on_bad, left_out)


def _annotations(file: Path, on_bad: OnBad | None) -> Iterator[tuple[str, Any]]:
    """Read the annotations, each with the id of its image."""
    entries = numbered(iterate_list(file, "annotations"), f"{file}, annotation")
    return read_entries(entries, lambda entry: (Fields(entry).identifier("image_id"), entry), on_bad)


def _to_records(entry: Fields, annotations: Sequence[Any], split: str) -> list[Record | LeftOut]:
    """Convert an entry to its record, and count what is left out of it."""
    width, height = entry.size()
    kept, crowds, left_out = read_annotations(annotations, width, height)
    boxes: list[Box] = []
    spans: list[Spans] = []
    for annotation in kept:
        boxes.append(annotation.box)
        spans.append(_to_spans(annotation.fields.value("tokens_positive"), "tokens_positive"))

    name = entry.optional_text("dataset_name") or "official"
    answer = entry.label("answer")
    record = Record(
        source=name,
        split=split,
        id=entry.identifier("id"),
        image=entry.text("file_name"),
        image_id=entry.text("file_name"),
        width=width,
        height=height,
        text=entry.text("caption"),
        boxes=tuple(boxes),
        spans=tuple(spans),
        is_referred=_referred(kept, name),
        masks=masks_of(kept),
        phrases=_read_phrases(entry.value("tokens_positive_eval", None), spans),
        answer=answer,
        answer_type=None if answer is None else _answer_type(answer, entry.optional_text("question_type")),
        category_ids=_category_ids(kept) if "lvis" in name else None,
        extra=json.dumps({key: entry.value(key) for key in KEPT if key in entry}),
    )
    return [record, LeftOut(CROWDS, len(crowds)), *left_out]


def _category_ids(annotations: Sequence[Annotation]) -> tuple[int, ...]:
    return tuple(annotation.fields.whole("category_id") for annotation in annotations)


def _to_spans(tokens: Any, name: str) -> Spans:
    return tuple(to_span(span, f'"{name}"') for span in to_list(tokens, f'"{name}"'))


def _referred(annotations: Sequence[Annotation], name: str) -> tuple[bool, ...] | None:
    """Tell for each box whether the text refers to it; None if the file does not say for all."""
    if name.startswith(EXPRESSIONS):
        return (True,) * len(annotations)
    if annotations and all("isfinal" in annotation.fields for annotation in annotations):
        return tuple(annotation.fields.flag("isfinal") for annotation in annotations)
    return None


def _read_phrases(value: Any, spans: Sequence[Spans]) -> tuple[Phrase, ...] | None:
    """Read the phrases to evaluate, each with the boxes whose spans include those of the phrase."""
    if value is None:
        return None
    phrases = []
    for tokens in to_list(value, '"tokens_positive_eval"'):
        phrase_spans = _to_spans(tokens, "tokens_positive_eval")
        boxes = tuple(index for index, box_spans in enumerate(spans) if set(phrase_spans) <= set(box_spans))
        phrases.append(Phrase(phrase_spans, boxes))
    return tuple(phrases)


def _answer_type(answer: str, question_type: str | None) -> str:
    """Return the type of an answer: GQA names that of the question, for CLEVR it follows from the answer."""
    if question_type in ("obj", "attr", "rel", "global", "cat"):
        return str(question_type)
    return answer_type(answer)
