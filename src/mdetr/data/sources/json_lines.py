"""The user's own data, a JSON object on each line, in; records out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdetr.data.record import Box, Record, Span, Spans, validate_record
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError

FIELDS = frozenset({"id", "image", "text", "boxes", "phrases", "is_referred", "answer", "answer_type"})


def read_json_lines(
    root: str | Path, split: str, on_bad: OnBad | None = None, images: Path | None = None
) -> Iterator[Record]:
    """Read a file with a JSON object on each line.

    Such as
        {"image": "a.jpg", "text": "a cat on a mat", "boxes": [[9, 7, 80, 60]], "phrases": ["a cat"]}

    `boxes` are x0, y0, x1, y1 in pixels. `phrases` say, for each box, which words it belongs to: the words
    themselves, whose first occurrence in the text is meant, or spans [[start, end], ...] of characters.
    Optional: id (the line's number if left out), is_referred (a list of true and false), answer, answer_type.

    Args:
        root: the file, or a folder that holds SPLIT.jsonl. split: the name of the part.
        on_bad: called with the error of each line that breaks a rule, which is then left out; None to stop.
        images: The folder that images are relative to; the file's own if left out.

    Raises:
        InvalidInputError: there is no such file.
        InvalidRecordError: a line breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    file = file / f"{split}.jsonl" if file.is_dir() else file
    if not file.is_file():
        raise InvalidInputError(f"There is no file {file}; give a file with a JSON object on each line.")
    size_of = ImageSizes(images or file.parent)
    seen: set[str] = set()
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                record = _to_record(_parse(line, where), number, split, file.stem, size_of, where)
                if record.id in seen:
                    raise InvalidRecordError(f"{where}: the id {record.id!r} is there twice.")
                validate_record(record, where)
                seen.add(record.id)
            except InvalidRecordError as error:
                if on_bad is None:
                    raise
                on_bad(error)
            else:
                yield record


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InvalidRecordError(f"{where}: it is not JSON ({error}).") from None
    if not isinstance(entry, dict) or not {"image", "text"} <= entry.keys():
        raise InvalidRecordError(f'{where}: expected an object with at least "image" and "text".')
    unknown = sorted(entry.keys() - FIELDS)
    if unknown:
        raise InvalidRecordError(
            f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(sorted(FIELDS))}."
        )
    return entry


def _to_record(
    entry: Mapping[str, Any], number: int, split: str, source: str, size_of: ImageSizes, where: str
) -> Record:
    text = str(entry["text"])
    image, width, height = size_of.locate(str(entry["image"]), where)
    try:
        boxes = tuple(_to_box(box) for box in entry.get("boxes") or ())
        phrases = entry.get("phrases") or [[] for _ in boxes]
        referred = entry.get("is_referred")
        spans = tuple(_to_spans(phrase, text, where) for phrase in phrases)
        is_referred = None if referred is None else tuple(bool(value) for value in referred)
    except (TypeError, ValueError) as error:
        raise InvalidRecordError(f"{where}: a field is of the wrong kind ({error}).") from None
    return Record(
        source=source,
        split=split,
        id=str(entry.get("id", number)),
        image=image,
        image_id=image,
        width=width,
        height=height,
        text=text,
        boxes=boxes,
        spans=spans,
        is_referred=is_referred,
        answer=None if entry.get("answer") is None else str(entry["answer"]),
        answer_type=entry.get("answer_type"),
    )


def _to_box(values: Sequence[float]) -> Box:
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def _to_spans(phrase: str | Sequence[Sequence[int]], text: str, where: str) -> Spans:
    if not isinstance(phrase, str):
        return tuple((int(start), int(end)) for start, end in phrase)
    return (find_phrase(phrase, text, where),)


def find_phrase(phrase: str, text: str, where: str) -> Span:
    """The characters of the first occurrence of some words in a text, whatever their case.

    Raises:
        InvalidRecordError: the text, which is that of the entry `where`, does not have them.
    """
    found = re.search(rf"(?<!\w){re.escape(phrase.strip())}(?!\w)", text, re.IGNORECASE)
    if found is None or not phrase.strip():
        raise InvalidRecordError(f"{where}: the phrase {phrase!r} is not in the text {text[:60]!r}.")
    return found.span()
