"""A folder in CLEVR's layout, with questions, captions or referring expressions, in; records out."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mdetr.data.record import Box, Phrase, Record, Span, Spans
from mdetr.data.sources.clevr_programs import find_mentions, function_of, run_program
from mdetr.data.sources.clevr_scenes import ClevrScene, ClevrScenes
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.image_sizes import ImageSizes
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError

SOURCE = "clevr"
_KINDS = {"caption": "captions", "refexp": "refexps", "question": "questions"}
Entry = tuple[int, str, int, Any]
"""(image index, kind, number in its file, what the file says)."""


def read_clevr(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    kinds: Sequence[str] = tuple(_KINDS),
    medium: bool = False,
    images: Path | None = None,
) -> Iterator[Record]:
    """Read the texts of one split, image after image: whatever there is of questions, captions, expressions.

    A question's record has its answer, and a box for each object that its program speaks of, with its noun
    phrase. A caption's has a box for each object that it mentions, in the order of mention. A referring
    expression's has the object that it singles out and those it uses to do so; `is_referred` is true for the
    first only. Images are relative to `root`. Scenes say the boxes ("bbox"); for the published ones, which do
    not, they are projected.

    Args:
        root: the folder with images/SPLIT, scenes, and questions, captions or refexps: CLEVR's,
            CLEVR-CoGenT's, or one of `mdetr data synthesize`.
        split: train, val, test; trainA, valA, valB, testA, testB.
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.
        kinds: which of "caption", "refexp" and "question" are read.
        medium: only questions that name each object at most once (and none without a program).
        images: The folder that holds images/SPLIT; `root` if left out.

    Raises:
        InvalidInputError: a file is missing or damaged, or there are no texts.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix D.
    """
    folder = Path(root)
    files = {
        kind: folder / _KINDS[kind] / f"CLEVR_{split}_{_KINDS[kind]}.json"
        for kind in (("question",) if medium else kinds)
    }
    scenes_file = folder / "scenes" / f"CLEVR_{split}_scenes.json"
    _check_layout(folder, split, scenes_file, files)
    entries = heapq.merge(
        *(_entries(file, kind) for kind, file in files.items() if file.exists()), key=lambda entry: entry[0]
    )
    image_folder = (images or folder) / "images" / split
    size_of = ImageSizes(image_folder)
    scenes = ClevrScenes(scenes_file, image_folder) if scenes_file.is_file() else nullcontext()
    with scenes as opened:

        def convert(entry: Entry, where: str) -> list[Record]:
            image_index, kind, number, fields = entry
            image = str(fields["image_filename"])
            if opened is None:
                scene = ClevrScene(image, *size_of(image, where))
            else:
                scene = opened.of(image_index, where)
            if image != scene.image:
                raise InvalidRecordError(
                    f"{where}: its image is {image}, but that of its scene is {scene.image}."
                )
            to_record = _to_question if kind == "question" else _to_sentence
            record = to_record(fields, kind, number, split, scene, where)
            return [record] if not medium or _names_each_once(fields, record) else []

        named = (
            (f"{files[kind]}, entry {number}", (index, kind, number, fields))
            for index, kind, number, fields in entries
        )
        yield from convert_entries(named, convert, on_bad)


def read_clevr_humans(
    root: str | Path, split: str, on_bad: OnBad | None = None, images: Path | None = None
) -> Iterator[Record]:
    """Read CLEVR-Humans: questions with answers, without boxes, about CLEVR's images.

    Args:
        root: CLEVR's folder, in which CLEVR-Humans-SPLIT.json lies beside images/. split: train, val or test.
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.
        images: The folder that holds images/SPLIT; `root` if left out.

    Raises:
        InvalidInputError: the file is missing or damaged.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix D.
    """
    file = Path(root) / f"CLEVR-Humans-{split}.json"
    size_of = ImageSizes((images or Path(root)) / "images" / split)

    def convert(entry: tuple[int, Mapping[str, Any]], where: str) -> list[Record]:
        number, fields = entry
        image = str(fields["image_filename"])
        scene = ClevrScene(image, *size_of(image, where))
        return [_to_question(fields, "human", number, split, scene, where)]

    entries = enumerate(iterate_list(file, "questions"))
    yield from convert_entries(((f"{file}, entry {entry[0]}", entry) for entry in entries), convert, on_bad)


def _check_layout(folder: Path, split: str, scenes_file: Path, files: Mapping[str, Path]) -> None:
    if not folder.is_dir():
        raise InvalidInputError(
            f"There is no folder {folder}; give the folder that holds images, scenes and questions."
        )
    if not scenes_file.is_file() and not ("question" in files and files["question"].is_file()):
        found = sorted(path.name.split("_")[1] for path in (folder / "scenes").glob("CLEVR_*_scenes.json"))
        raise InvalidInputError(
            f"There is no {scenes_file}; the splits found in {folder} are: {', '.join(found) or 'none'}."
        )
    if not any(file.is_file() for file in files.values()):
        raise InvalidInputError(
            f"{folder} has no texts of the split {split!r} "
            f"(expected {' or '.join(str(file) for file in files.values())}); "
            "`mdetr data synthesize clevr` makes a folder that has some."
        )


def _entries(file: Path, kind: str) -> Iterator[Entry]:
    for number, entry in enumerate(iterate_list(file, _KINDS[kind])):
        try:
            yield int(entry["image_index"]), kind, number, entry
        except (KeyError, TypeError, ValueError):
            yield -1, kind, number, entry


def _to_sentence(
    entry: Mapping[str, Any], kind: str, number: int, split: str, scene: ClevrScene, where: str
) -> Record:
    phrases = [
        (tuple((int(start), int(end)) for start, end in phrase["spans"]), [int(i) for i in phrase["objects"]])
        for phrase in entry["phrases"]
    ]
    target = int(entry["target"]) if kind == "refexp" else None
    spans_of: dict[int, list[Span]] = {} if target is None else {target: []}
    for spans, objects in phrases:
        for thing in objects:
            spans_of.setdefault(thing, []).extend(spans)
    place = {thing: box for box, thing in enumerate(spans_of)}
    return _make_record(
        entry,
        kind,
        number,
        split,
        scene,
        spans_of,
        where,
        text=str(entry["text"]),
        is_referred=None if target is None else tuple(thing == target for thing in spans_of),
        phrases=tuple(Phrase(spans, tuple(place[thing] for thing in objects)) for spans, objects in phrases),
        extra={"kind": kind, "image_index": entry["image_index"], "objects": list(spans_of)},
    )


def _to_question(
    entry: Mapping[str, Any], kind: str, number: int, split: str, scene: ClevrScene, where: str
) -> Record:
    text, answer, program = str(entry["question"]), entry.get("answer"), entry.get("program") or ()
    spans_of: dict[int, list[Span]] = {}
    if program and scene.objects:
        try:
            outputs = run_program(program, scene.objects, scene.relationships)
        except InvalidRecordError as error:
            raise InvalidRecordError(f"{where}: {error}.") from None
        for mention in find_mentions(program, outputs, text):
            if mention.span is not None:
                for thing in mention.objects:
                    spans_of.setdefault(thing, []).append(mention.span)
    return _make_record(
        entry,
        kind,
        int(entry.get("question_index", number)),
        split,
        scene,
        spans_of,
        where,
        text=text,
        answer=None if answer is None else str(answer),
        answer_type=None if answer is None else answer_type(str(answer)),
        extra={
            "kind": kind,
            "image_index": entry["image_index"],
            "question_index": entry.get("question_index", number),
            "question_type": question_type(program) if program else None,
            "question_family_index": entry.get("question_family_index"),
        },
    )


def _make_record(
    entry: Mapping[str, Any],
    kind: str,
    number: int,
    split: str,
    scene: ClevrScene,
    spans_of: Mapping[int, list[Span]],
    where: str,
    extra: Mapping[str, Any],
    **fields: Any,
) -> Record:
    boxes: list[Box] = []
    spans: list[Spans] = []
    for thing, own in spans_of.items():
        if not 0 <= thing < len(scene.boxes):
            raise InvalidRecordError(
                f"{where}: object {thing} is not among the {len(scene.boxes)} of its scene."
            )
        box = scene.boxes[thing]
        if box is not None:
            boxes.append(box)
            spans.append(tuple(sorted(set(own))))
    return Record(
        source=SOURCE,
        split=split,
        id=f"{kind}-{number}",
        image=f"images/{split}/{scene.image}",
        image_id=str(entry["image_index"]),
        width=scene.width,
        height=scene.height,
        boxes=tuple(boxes),
        spans=tuple(spans),
        extra=json.dumps(extra),
        **fields,
    )


def answer_type(answer: str) -> str:
    """Which of the published answer heads says an answer: yes and no, a number, or an attribute."""
    if answer in ("yes", "no"):
        return "binary"
    return "reg" if answer.isdigit() else "attr"


def question_type(program: list[Mapping[str, Any]]) -> str:
    """The family under which the paper reports a question: what its program does last."""
    last = function_of(program[-1])
    if last in ("equal_integer", "less_than", "greater_than"):
        return "compare number"
    kind = last.split("_")[0]
    return {"equal": "compare attribute", "query": "query attribute"}.get(kind, kind)


def _names_each_once(entry: Mapping[str, Any], record: Record) -> bool:
    return bool(entry.get("program")) and all(len(spans) == 1 for spans in record.spans)
