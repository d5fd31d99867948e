"""Reader of folders in CLEVR's layout, with questions, captions or referring expressions."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mdetr.data.record import Phrase, Record
from mdetr.data.sources.annotations import NO_AREA
from mdetr.data.sources.clevr_programs import find_mentions, function_of, run_program
from mdetr.data.sources.clevr_scenes import ClevrScene, ClevrScenes
from mdetr.data.sources.converting import LeftOut, convert_entries, numbered
from mdetr.data.sources.fields import Fields, to_list, to_span, to_whole
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box, Span, Spans

SOURCE = "clevr"
NOT_MEDIUM = "questions that name an object more than once, or have no program"
_KINDS = {"caption": "captions", "refexp": "refexps", "question": "questions"}
Entry = tuple[int, str, int, Any]
"""(image index, kind, number in its file, content)."""


def read_clevr(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    kinds: Sequence[str] = tuple(_KINDS),
    medium: bool = False,
    images: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read the texts of one split, image after image: questions, captions and referring expressions.

    A question's record has its answer, and a box for each object that its program refers to, with its noun
    phrase. A caption's has a box for each object that it mentions, in the order of mention. A referring
    expression's has the object that it singles out and those it uses to do so; `is_referred` is true for the
    first only. Images are relative to `root`. Boxes come from the scenes ("bbox"); for the released scenes,
    which have none, they are projected.

    Args:
        root: The folder with images/SPLIT, scenes, and questions, captions or refexps: CLEVR's, CLEVR-
            CoGenT's, or one of `mdetr data synthesize`.
        split: "train", "val" or "test"; for CLEVR-CoGenT "trainA", "valA", "valB", "testA" or "testB".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        kinds: Which of "caption", "refexp" and "question" are read.
        medium: Only questions that name each object at most once (and none without a program).
        images: The folder that holds images/SPLIT; `root` if left out.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: A file is missing or damaged, or there are no texts.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix D.
    """
    folder = Path(root)
    files: dict[str, Path] = {}
    for kind in ("question",) if medium else kinds:
        files[kind] = folder / _KINDS[kind] / f"CLEVR_{split}_{_KINDS[kind]}.json"
    scenes_file = folder / "scenes" / f"CLEVR_{split}_scenes.json"
    _check_layout(folder, split, scenes_file, files)
    image_folder = (images or folder) / "images" / split
    size_of = ImageSizes(image_folder)
    scenes = ClevrScenes(scenes_file, image_folder, on_bad) if scenes_file.is_file() else nullcontext()
    with scenes as opened:

        def convert(entry: Entry, where: str) -> list[Record | LeftOut]:
            _, kind, number, content = entry
            fields = Fields(content)
            image, image_index = fields.text("image_filename"), fields.whole("image_index")
            if opened is None:
                scene = ClevrScene(image, *size_of(image, where))
            else:
                scene = opened.of(image_index, where)
            if image != scene.image:
                raise InvalidRecordError(
                    f"{where}: its image is {image}, but that of its scene is {scene.image}."
                )
            to_record = _to_question if kind == "question" else _to_sentence
            record, outside = to_record(fields, kind, number, split, scene)
            if medium and not _names_each_once(fields, record):
                return [LeftOut(NOT_MEDIUM)]
            return [record, LeftOut(NO_AREA, outside)]

        yield from convert_entries(_merge_files(files), convert, on_bad, left_out)


def read_clevr_humans(
    root: str | Path, split: str, on_bad: OnBad | None = None, images: Path | None = None
) -> Iterator[Record]:
    """Read CLEVR-Humans: questions with answers, without boxes, about CLEVR's images.

    Args:
        root: CLEVR's folder, in which CLEVR-Humans-SPLIT.json lies beside images/.
        split: "train", "val" or "test".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder that holds images/SPLIT; `root` if left out.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: The file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix D.
    """
    file = Path(root) / f"CLEVR-Humans-{split}.json"
    size_of = ImageSizes((images or Path(root)) / "images" / split)

    def convert(entry: tuple[int, Any], where: str) -> list[Record]:
        number, fields = entry[0], Fields(entry[1])
        image = fields.text("image_filename")
        scene = ClevrScene(image, *size_of(image, where))
        record, _ = _to_question(fields, "human", number, split, scene)
        return [record]

    entries = enumerate(numbered(iterate_list(file, "questions"), f"{file}, entry"))
    questions = ((where, (number, entry)) for number, (where, entry) in entries)
    yield from convert_entries(questions, convert, on_bad)


def _check_layout(folder: Path, split: str, scenes_file: Path, files: Mapping[str, Path]) -> None:
    if not folder.is_dir():
        raise InvalidInputError(
            f"There is no folder {folder}; give the folder that holds images, scenes and questions."
        )
    if not scenes_file.is_file() and not ("question" in files and files["question"].is_file()):
        splits = sorted(path.name.split("_")[1] for path in (folder / "scenes").glob("CLEVR_*_scenes.json"))
        raise InvalidInputError(
            f"There is no {scenes_file}; the splits found in {folder} are: {', '.join(splits) or 'none'}."
        )
    if not any(file.is_file() for file in files.values()):
        raise InvalidInputError(
            f"{folder} has no texts of the split {split!r} "
            f"(expected {' or '.join(str(file) for file in files.values())}); "
            "`mdetr data synthesize clevr` makes a folder that has some."
        )


def _merge_files(files: Mapping[str, Path]) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of all files, image after image, each with its place for messages."""
    sources = [_entries(file, kind) for kind, file in files.items() if file.exists()]
    for entry in heapq.merge(*sources, key=lambda entry: entry[0]):
        _, kind, number, _ = entry
        yield f"{files[kind]}, entry {number}", entry


def _entries(file: Path, kind: str) -> Iterator[Entry]:
    for number, entry in enumerate(iterate_list(file, _KINDS[kind])):
        try:
            yield Fields(entry).whole("image_index"), kind, number, entry
        except InvalidInputError:  # sorted first, and refused when it is converted
            yield -1, kind, number, entry


def _to_sentence(entry: Fields, kind: str, number: int, split: str, scene: ClevrScene) -> tuple[Record, int]:
    """Convert a caption or expression to its record, and count the boxes outside the image."""
    phrases = [_to_phrase(Fields(phrase)) for phrase in entry.items("phrases")]
    target = entry.whole("target") if kind == "refexp" else None

    # Collect the spans of each object, the target first
    object_spans: dict[int, list[Span]] = {} if target is None else {target: []}
    for spans, objects in phrases:
        for thing in objects:
            object_spans.setdefault(thing, []).extend(spans)

    # Refer to the objects of a phrase by the indices of their boxes
    box_indices = {thing: index for index, thing in enumerate(object_spans)}
    indexed_phrases = []
    for spans, objects in phrases:
        indexed_phrases.append(Phrase(spans, tuple(map(box_indices.__getitem__, objects))))
    return _make_record(
        entry,
        kind,
        number,
        split,
        scene,
        object_spans,
        text=entry.text("text"),
        is_referred=None if target is None else tuple(thing == target for thing in object_spans),
        phrases=tuple(indexed_phrases),
        extra={"objects": list(object_spans)},
    )


def _to_phrase(phrase: Fields) -> tuple[Spans, list[int]]:
    spans = tuple(to_span(span, '"spans"') for span in phrase.items("spans"))
    return spans, [to_whole(thing, '"objects"') for thing in phrase.items("objects")]


def _to_question(entry: Fields, kind: str, number: int, split: str, scene: ClevrScene) -> tuple[Record, int]:
    """Convert a question to its record, and count the boxes outside the image."""
    text, answer = entry.text("question"), entry.label("answer")
    program = to_list(entry.value("program", None) or [], '"program"')
    question_index = entry.whole("question_index") if "question_index" in entry else number

    # Collect the spans of each object, from the phrases of a synthetic question or else from the program
    object_spans: dict[int, list[Span]] = {}
    if "phrases" in entry:
        for spans, objects in map(_to_phrase, map(Fields, entry.items("phrases"))):
            for thing in objects:
                object_spans.setdefault(thing, []).extend(spans)
    elif program and scene.objects:
        outputs = run_program(program, scene.objects, scene.relationships)
        for mention in find_mentions(program, outputs, text):
            if mention.span is not None:
                for thing in mention.objects:
                    object_spans.setdefault(thing, []).append(mention.span)
    return _make_record(
        entry,
        kind,
        question_index,
        split,
        scene,
        object_spans,
        text=text,
        answer=answer,
        answer_type=None if answer is None else answer_type(answer),
        extra={
            "question_index": question_index,
            "question_type": question_type(program) if program else None,
            "question_family_index": entry.value("question_family_index", None),
        },
    )


def _make_record(
    entry: Fields,
    kind: str,
    number: int,
    split: str,
    scene: ClevrScene,
    object_spans: Mapping[int, list[Span]],
    extra: Mapping[str, Any],
    **fields: Any,
) -> tuple[Record, int]:
    """Make a record of the objects in the image, and count those outside it."""
    boxes: list[Box] = []
    spans: list[Spans] = []
    for thing, thing_spans in object_spans.items():
        if not 0 <= thing < len(scene.boxes):
            raise InvalidInputError(f"object {thing} is not among the {len(scene.boxes)} of its scene")
        box = scene.boxes[thing]
        if box is not None:
            boxes.append(box)
            spans.append(tuple(sorted(set(thing_spans))))
    image_index = entry.whole("image_index")
    record = Record(
        source=SOURCE,
        split=split,
        id=f"{kind}-{number}",
        image=f"images/{split}/{scene.image}",
        image_id=str(image_index),
        width=scene.width,
        height=scene.height,
        boxes=tuple(boxes),
        spans=tuple(spans),
        extra=json.dumps({"kind": kind, "image_index": image_index, **extra}),
        **fields,
    )
    return record, len(object_spans) - len(boxes)


def answer_type(answer: str) -> str:
    """Return the answer head of the released models for an answer: yes and no, a number, or an attribute."""
    if answer in ("yes", "no"):
        return "binary"
    return "reg" if answer.isdigit() else "attr"


def question_type(program: list[Mapping[str, Any]]) -> str:
    """Return the family under which the paper reports a question, by the last step of its program."""
    last = function_of(program[-1])
    if last in ("equal_integer", "less_than", "greater_than"):
        return "compare number"
    kind = last.split("_")[0]
    return {"equal": "compare attribute", "query": "query attribute"}.get(kind, kind)


def _names_each_once(entry: Fields, record: Record) -> bool:
    return bool(entry.value("program", None)) and all(len(spans) == 1 for spans in record.spans)
