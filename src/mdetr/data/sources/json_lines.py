"""Reader of JSON Lines, the format for your own data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdetr.data.phrase_search import locate_phrase
from mdetr.data.record import Record
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.fields import Fields, describe, inside, to_finite, to_list, to_whole
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.text_files import open_text
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box, Spans

FIELDS = frozenset(
    {"id", "image", "text", "boxes", "phrases", "is_referred", "answer", "answer_type", "scores"}
)


def read_json_lines(
    root: str | Path, split: str, on_bad: OnBad | None = None, images: Path | None = None
) -> Iterator[Record]:
    """Read a file with a JSON object on each line.

    Such as
        {"image": "a.jpg", "text": "a cat on a mat", "boxes": [[9, 7, 80, 60]], "phrases": ["a cat"]}

    `boxes` are x0, y0, x1, y1 in pixels. `phrases` say, for each box, which words it belongs to: the words
    themselves, whose first occurrence in the text is meant, or spans [[start, end], ...] of characters.
    Optional: id (the line's number if left out), is_referred (a list of true and false), answer, answer_type,
    and scores (of a model that made the boxes, kept in `extra`).

    Args:
        root: The file, or a folder that holds SPLIT.jsonl. split: the name of the part.
        split: Name of the split.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder that images are relative to; the file's own if left out.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: There is no such file, or it is not UTF-8.
        InvalidRecordError: A line breaks a rule, and `on_bad` is None.
    """
    file = Path(root)
    file = file / f"{split}.jsonl" if file.is_dir() else file
    if not file.is_file():
        raise InvalidInputError(f"There is no file {file}; give a file with a JSON object on each line.")
    sizes = ImageSizes(images or file.parent)
    seen: set[str] = set()

    def convert(line: tuple[int, str], where: str) -> list[Record]:
        record = _to_record(_parse(line[1]), line[0], split, file.stem, sizes, where)
        if record.id in seen:
            raise InvalidInputError(f"the id {record.id!r} is a duplicate")
        return [record]

    for record in convert_entries(iterate_lines(file), convert, on_bad):
        seen.add(record.id)
        yield record


def iterate_lines(file: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    """Read the lines of a file that are not blank; bytes that are not UTF-8 become surrogates.

    Args:
        file: A JSON Lines file, plain or compressed with gzip.

    Yields:
        Position for messages, and the number and text of the line.

    Raises:
        InvalidInputError: The file looks like UTF-16.
    """
    with open_text(file, errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{file}, line {number}", (number, line)


def parse_line(line: str) -> Any:
    """Parse a line of JSON.

    Args:
        line: A line of JSON.

    Returns:
        The parsed value.

    Raises:
        InvalidInputError: The line is not UTF-8, or not JSON.
    """
    if any("\udc80" <= character <= "\udcff" for character in line):
        raise InvalidInputError("it is not UTF-8 text; save the file in UTF-8")
    try:
        return json.loads(line.strip())
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"it is not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise InvalidInputError("it is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise InvalidInputError(f"it is not JSON ({error})") from None


def to_box(values: Any, name: str) -> Box:
    """Check that a value is a box: four finite numbers x0, y0, x1, y1.

    Args:
        values: Value as parsed.
        name: Name of the field, for messages.

    Returns:
        x0, y0, x1, y1.

    Raises:
        InvalidInputError: It is something else.
    """
    numbers = to_list(values, name)
    if len(numbers) != 4:
        raise InvalidInputError(f"its {name} must be four numbers x0, y0, x1, y1, got {len(numbers)}")
    x0, y0, x1, y1 = (to_finite(number, name) for number in numbers)
    return x0, y0, x1, y1


def _parse(line: str) -> Fields:
    entry = parse_line(line)
    if not isinstance(entry, dict) or not {"image", "text"} <= entry.keys():
        raise InvalidInputError('expected an object with at least "image" and "text"')
    unknown = sorted(entry.keys() - FIELDS)
    if unknown:
        raise InvalidInputError(f"unknown field {unknown[0]!r}; the fields are {', '.join(sorted(FIELDS))}")
    return Fields(entry)


def _to_record(entry: Fields, number: int, split: str, source: str, sizes: ImageSizes, where: str) -> Record:
    text, answer, answer_type = entry.text("text"), entry.label("answer"), entry.optional_text("answer_type")

    # Read the boxes and the words of each
    boxes = tuple(to_box(box, f"box {index}") for index, box in enumerate(_items(entry, "boxes")))
    spans = tuple(_to_spans(phrase, text, index) for index, phrase in enumerate(_items(entry, "phrases")))
    if spans and len(spans) != len(boxes):
        raise InvalidInputError(
            f'it has {len(spans)} "phrases" and {len(boxes)} "boxes"; give the words of each box, [] for none'
        )
    referred = None if entry.value("is_referred", None) is None else entry.items("is_referred")
    image, width, height = sizes.locate(entry.text("image"), where)
    return Record(
        source=source,
        split=split,
        id=entry.identifier("id") if "id" in entry else str(number),
        image=image,
        image_id=image,
        width=width,
        height=height,
        text=text,
        boxes=boxes,
        spans=spans or ((),) * len(boxes),
        is_referred=None if referred is None else tuple(map(_to_flag, referred)),
        answer=answer,
        answer_type=answer_type,
        extra=_read_scores(entry, len(boxes)),
    )


def _read_scores(entry: Fields, num_boxes: int) -> str | None:
    """Read the scores of the boxes, as JSON for `Record.extra`."""
    if entry.value("scores", None) is None:
        return None
    scores = [to_finite(score, f"score {index}") for index, score in enumerate(entry.items("scores"))]
    if len(scores) != num_boxes:
        raise InvalidInputError(f'it has {len(scores)} "scores" and {num_boxes} "boxes"; give one for each')
    return json.dumps({"scores": scores})


def _items(entry: Fields, name: str) -> list[Any]:
    """Return a list; an empty one if the field is missing or null."""
    return [] if entry.value(name, None) is None else entry.items(name)


def _to_spans(phrase: Any, text: str, index: int) -> Spans:
    """Read the spans of a phrase, which is words of the text or a list of spans."""
    if isinstance(phrase, str):
        return (locate_phrase(phrase, text),)
    name = f"phrase {index}"
    if not isinstance(phrase, list) or not all(isinstance(span, list) and len(span) == 2 for span in phrase):
        raise InvalidInputError(
            f"its {name} must be words of its text, or spans [[start, end], ...], got {describe(phrase)}"
        )
    with inside(f"its {name}"):
        return tuple((to_whole(start, "start"), to_whole(end, "end")) for start, end in phrase)


def _to_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f'its "is_referred" must hold true and false only, got {describe(value)}')
    return value
