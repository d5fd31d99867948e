"""Reader of GQA: one record for each question, with its answer and boxes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.record import Record
from mdetr.data.sources.annotations import NO_AREA, clamp_box
from mdetr.data.sources.converting import LeftOut, attempt, convert_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, inside, to_identifier, to_whole
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lists import iterate_items
from mdetr.data.spans import consolidate_spans
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.processing.coordinates import Box, Span, Spans

SOURCE = "gqa"
QUESTION_WORDS = ("What", "what", "Who", "who", "Where", "where")  # in this order
_OBJECTS = re.compile(r"\(([\d,]+)\)")


@dataclass(frozen=True, slots=True)
class _Graph:
    """The size of an image, and its objects: id -> name and box (None if it is outside the image)."""

    width: int
    height: int
    objects: Mapping[str, tuple[str, Box | None]]


def read_gqa(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    images: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read the questions of one split, in the order of their files.

    A question's record has its answer, the answer's type, and a box for each object that it names, that its
    program starts from, or that is its answer. Objects come from the scene graphs; where a part has none, as
    testdev, there are no boxes and sizes come from the images. Of parts to evaluate on, `extra`
    keeps what GQA's own scores need.

    Args:
        root: The folder with SPLIT_questions.json, or a folder SPLIT_questions of shards; the scene graphs
            (train_sceneGraphs.json, val_sceneGraphs.json); the images in images/ where sizes are needed; and,
            for validity and plausibility, val_choices.json or testdev_choices.json.
        split: Name of the split, such as "train_balanced", "val_all" or "testdev_balanced".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder that holds the images, or images/; `root` if left out.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: The questions are missing, or a file is damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix B.
    """
    folder = Path(root)
    shards = _shards(folder, split)
    graphs = _read_graphs(folder / f"{split.split('_')[0]}_sceneGraphs.json", on_bad)
    image_root = images or folder
    prefix = "images/" if image_root == folder or (image_root / "images").is_dir() else ""
    size_of = ImageSizes(image_root)

    part = split.split("_")[0]
    choices_file = folder / f"{part}_choices.json"
    is_scored = part != "train"  # the many training questions need no lists of what follows from them
    has_choices = is_scored and choices_file.is_file()
    with EntryIndex(iterate_items(choices_file) if has_choices else ()) as choices:

        def convert(question: tuple[str, Any], where: str) -> list[Record | LeftOut]:
            number, fields = question[0], Fields(question[1])
            image_id = fields.identifier("imageId")
            image = f"{prefix}{image_id}.jpg"
            if image_id in graphs:
                graph = graphs[image_id]
            else:
                image, width, height = size_of.locate(image, where)
                graph = _Graph(width, height, {})
            if graph is None:
                raise InvalidInputError(f"the scene graph of its image {image_id} breaks a rule")
            extra = {"questionId": number}
            if is_scored:
                extra |= _score_fields(fields) | next(iter(choices.of(number)), {})
            record, without_area = _to_record(number, fields, extra, split, graph, image)
            return [record, LeftOut(NO_AREA, without_area)]

        yield from convert_entries(_questions(shards), convert, on_bad, left_out)


def _questions(shards: Iterable[Path]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Yield the id and entry of each question with its place for messages."""
    for shard in shards:
        for number, question in iterate_items(shard):
            yield f"{shard}, question {number}", (number, question)


def _shards(folder: Path, split: str) -> list[Path]:
    whole = folder / f"{split}_questions.json"
    shards = [whole] if whole.is_file() else sorted((folder / f"{split}_questions").glob("*.json"))
    if not shards:
        names = sorted(path.name for path in folder.glob("*_questions*"))
        raise InvalidInputError(
            f"There is neither {whole} nor a folder of that name with shards; the folder has "
            f"{', '.join(names) or 'none'}."
        )
    return shards


def _read_graphs(file: Path, on_bad: OnBad | None) -> dict[str, _Graph | None]:
    """Read the scene graphs by the id of their image; None for an invalid graph."""
    graphs: dict[str, _Graph | None] = {}
    if file.is_file():
        for image, graph in iterate_items(file):
            graphs[image] = attempt(_read_graph, graph, f"{file}, image {image}", on_bad)
    return graphs


def _read_graph(entry: Any) -> _Graph:
    graph = Fields(entry)
    width, height = graph.size()
    things = graph.value("objects")
    if not isinstance(things, Mapping):
        raise InvalidInputError('its "objects" must be an object with fields')
    objects: dict[str, tuple[str, Box | None]] = {}
    for key, thing in things.items():
        with inside(f"object {key}"):
            fields = Fields(thing)
            bbox = [fields.value(name) for name in ("x", "y", "w", "h")]
            objects[str(key)] = fields.text("name"), clamp_box(bbox, width, height)
    return _Graph(width, height, objects)


def _to_record(
    number: str, question: Fields, extra: Mapping[str, Any], split: str, graph: _Graph, image: str
) -> tuple[Record, int]:
    """Convert a question to its record, and count its objects without area in the image."""
    text, answer = question.text("question"), question.label("answer")
    kind = _object_or_empty(question, "types").optional_text("semantic")
    spans = _spans_of_objects(question, text, graph) if graph.objects else {}

    # Keep the objects that have an area in the image
    boxes: list[Box] = []
    box_spans: list[Spans] = []
    for thing, object_spans in spans.items():
        box = graph.objects[thing][1]
        if box is not None:
            boxes.append(box)
            box_spans.append(consolidate_spans(object_spans, text))

    record = Record(
        source=SOURCE,
        split=split,
        id=number,
        image=image,
        image_id=question.identifier("imageId"),
        width=graph.width,
        height=graph.height,
        text=text,
        boxes=tuple(boxes),
        spans=tuple(box_spans),
        answer=answer,
        answer_type=None if answer is None else kind,
        extra=json.dumps(extra),
    )
    return record, len(spans) - len(boxes)


def _object_or_empty(fields: Fields, name: str) -> Fields:
    """Return a field that is an object; an empty object where the field is missing or null."""
    return Fields({}) if fields.value(name, None) is None else fields.object(name)


def _score_fields(question: Fields) -> dict[str, Any]:
    """Return the fields that GQA's scores require beside the answer."""
    values = {
        "structural": _object_or_empty(question, "types").value("structural", None),
        "group": _object_or_empty(question, "groups").value("global", None),
        "entailed": question.value("entailed", None),
    }
    return {name: value for name, value in values.items() if value is not None}


def _spans_of_objects(question: Fields, text: str, graph: _Graph) -> dict[str, list[Span]]:
    """Return the spans of each object in the image that a question refers to."""
    annotations = _object_or_empty(question, "annotations")
    spans: dict[str, list[Span]] = {}

    # Objects that words of the question name
    for words, thing in (annotations.value("question", None) or {}).items():
        spans.setdefault(to_identifier(thing, "object"), []).append(_span_of_words(words, text))

    # Objects that the program of the question starts from
    for step in map(Fields, question.value("semantic", None) or ()):
        is_start = step.text("operation") == "select"
        match = _OBJECTS.search(step.text("argument")) if is_start else None
        for thing in match[1].split(",") if match else ():
            if thing not in spans and thing in graph.objects:
                name = graph.objects[thing][0]
                start = text.find(name)
                spans[thing] = [(start, start + len(name))]

    # Objects of the answer, which the question word stands for
    for value in (annotations.value("answer", None) or {}).values():
        thing = to_identifier(value, "object")
        if thing not in spans:
            word = next((word for word in QUESTION_WORDS if word in text), None)
            spans[thing] = [] if word is None else [(text.index(word), text.index(word) + len(word))]
    return {thing: object_spans for thing, object_spans in spans.items() if thing in graph.objects}


def _span_of_words(indices: str, text: str) -> Span:
    """Return the characters of words "i" or "i:j" (j exclusive) of a text split at spaces."""
    first, _, last = indices.partition(":")
    words = text.split(" ")
    begin = to_whole(first, "place of a word")
    end = to_whole(last, "place of a word") if last else begin + 1
    start = sum(len(word) + 1 for word in words[:begin])
    return start, start + len(" ".join(words[begin:end]))
