"""GQA (questions and scene graphs) in; a record for each question, with its answer and boxes, out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.record import Box, Record, Span
from mdetr.data.sources.annotations import clamp_box
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lists import iterate_items
from mdetr.data.spans import consolidate_spans
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError

SOURCE = "gqa"
QUESTION_WORDS = ("What", "what", "Who", "who", "Where", "where")  # in this order
_OBJECTS = re.compile(r"\(([\d,]+)\)")


@dataclass(frozen=True, slots=True)
class _Graph:
    """An image's size, and its objects: id -> name, box."""

    width: int
    height: int
    objects: Mapping[str, tuple[str, tuple[float, float, float, float]]]


def read_gqa(
    root: str | Path, split: str, on_bad: OnBad | None = None, images: Path | None = None
) -> Iterator[Record]:
    """Read the questions of one part, in the order of their files.

    A question's record has its answer, the answer's type, and a box for each object that it names, that its
    program starts from, or that is its answer. Objects come from the scene graphs; where a part has none, as
    testdev, there are no boxes and sizes come from the images. Of parts to evaluate on, `extra`
    keeps what GQA's own scores need.

    Args:
        root: the folder with SPLIT_questions.json, or a folder SPLIT_questions of shards; the scene graphs
            (train_sceneGraphs.json, val_sceneGraphs.json); the images in images/ where sizes are needed; and,
            for validity and plausibility, val_choices.json or testdev_choices.json.
        split: train_balanced, val_balanced, train_all, testdev_balanced, ...
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.
        images: The folder that holds the images, or images/; `root` if left out.

    Raises:
        InvalidInputError: the questions are missing, or a file is damaged.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix B.
    """
    folder = Path(root)
    shards = _shards(folder, split)
    graphs = _read_graphs(folder / f"{split.split('_')[0]}_sceneGraphs.json")
    image_root = images or folder
    prefix = "images/" if images is None or (images / "images").is_dir() else ""
    size_of = ImageSizes(image_root)

    part = split.split("_")[0]
    choices_file = folder / f"{part}_choices.json"
    is_scored = part != "train"  # the many training questions need no lists of what follows from them
    has_choices = is_scored and choices_file.is_file()
    with EntryIndex(iterate_items(choices_file) if has_choices else ()) as choices:

        def convert(question: tuple[str, Mapping[str, Any]], where: str) -> list[Record]:
            number, fields = question
            facts = {"questionId": number}
            if is_scored:
                facts |= _facts(fields) | next(iter(choices.of(number)), {})
            return [_to_record(number, fields, facts, split, graphs, size_of, prefix, where)]

        questions = (
            (f"{shard}, question {number}", (number, question))
            for shard in shards
            for number, question in iterate_items(shard)
        )
        yield from convert_entries(questions, convert, on_bad)


def _shards(folder: Path, split: str) -> list[Path]:
    whole = folder / f"{split}_questions.json"
    shards = [whole] if whole.is_file() else sorted((folder / f"{split}_questions").glob("*.json"))
    if not shards:
        found = sorted(path.name for path in folder.glob("*_questions*"))
        raise InvalidInputError(
            f"There is neither {whole} nor a folder of that name with shards; found "
            f"{', '.join(found) or 'none'}."
        )
    return shards


def _read_graphs(file: Path) -> dict[str, _Graph]:
    if not file.is_file():
        return {}
    graphs: dict[str, _Graph] = {}
    for image, graph in iterate_items(file):
        try:
            objects = {
                key: (str(thing["name"]), (thing["x"], thing["y"], thing["w"], thing["h"]))
                for key, thing in graph["objects"].items()
            }
            graphs[image] = _Graph(int(graph["width"]), int(graph["height"]), objects)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(f"{file}, image {image}: it is damaged ({error!r}).") from None
    return graphs


def _to_record(
    number: str,
    question: Mapping[str, Any],
    facts: Mapping[str, Any],
    split: str,
    graphs: Mapping[str, _Graph],
    size_of: ImageSizes,
    prefix: str,
    where: str,
) -> Record:
    image_id, text = str(question["imageId"]), str(question["question"])
    file_name = f"{prefix}{image_id}.jpg"
    graph = graphs.get(image_id)
    if graph is None:
        graph = _Graph(*size_of(file_name, where), {})
    spans = _spans_of_objects(question, graph) if graph.objects else {}
    answer = question.get("answer")
    kind = question.get("types", {}).get("semantic")
    placed: list[tuple[Box, list[Span]]] = []
    for thing, own in spans.items():
        box = clamp_box(graph.objects[thing][1], graph.width, graph.height)
        if box is not None:
            placed.append((box, own))
    return Record(
        source=SOURCE,
        split=split,
        id=number,
        image=file_name,
        image_id=image_id,
        width=graph.width,
        height=graph.height,
        text=text,
        boxes=tuple(box for box, _ in placed),
        spans=tuple(consolidate_spans(own, text) for _, own in placed),
        answer=None if answer is None else str(answer),
        answer_type=None if answer is None else kind,
        extra=json.dumps(facts),
    )


def _facts(question: Mapping[str, Any]) -> dict[str, Any]:
    """What GQA's scores need to know of a question beside its answer."""
    facts = {
        "structural": question.get("types", {}).get("structural"),
        "group": question.get("groups", {}).get("global"),
        "entailed": question.get("entailed"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _spans_of_objects(question: Mapping[str, Any], graph: _Graph) -> dict[str, list[Span]]:
    """The objects that a question speaks of, those of its image, and the characters of each."""
    text = str(question["question"])
    annotations = question.get("annotations") or {}
    spans: dict[str, list[Span]] = {}
    for place, thing in (annotations.get("question") or {}).items():
        spans.setdefault(str(thing), []).append(_span_of_words(str(place), text))
    for step in question.get("semantic") or ():
        named = _OBJECTS.search(str(step["argument"])) if step["operation"] == "select" else None
        for thing in named[1].split(",") if named else ():
            if thing not in spans and thing in graph.objects:
                name = graph.objects[thing][0]
                start = text.find(name)
                spans[thing] = [(start, start + len(name))]
    for thing in map(str, (annotations.get("answer") or {}).values()):
        if thing not in spans:
            word = next((word for word in QUESTION_WORDS if word in text), None)
            spans[thing] = [] if word is None else [(text.index(word), text.index(word) + len(word))]
    return {thing: own for thing, own in spans.items() if thing in graph.objects}


def _span_of_words(place: str, text: str) -> Span:
    """Words "i" or "i:j" (j exclusive) of a text split at spaces -> characters."""
    first, _, last = place.partition(":")
    words = text.split(" ")
    begin, end = int(first), int(last) if last else int(first) + 1
    start = sum(len(word) + 1 for word in words[:begin])
    return start, start + len(" ".join(words[begin:end]))
