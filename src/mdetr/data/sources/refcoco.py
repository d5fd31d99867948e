"""Reader of RefCOCO, RefCOCO+ and RefCOCOg: one record for each sentence."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.record import Record
from mdetr.data.root_phrase import root_spans
from mdetr.data.sources.annotations import clamp_box
from mdetr.data.sources.converting import attempt, convert_entries, numbered, read_entries
from mdetr.data.sources.fields import Fields
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError

SPLITS_BY = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}


@dataclass(frozen=True, slots=True)
class _Image:
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Ref:
    """A referred object: its image, its annotation, and its ids and sentences as in the file."""

    image_id: str
    annotation_id: str
    extra: dict[str, Any]
    sentences: list[Any]


def read_refcoco(
    root: str | Path, split: str, on_bad: OnBad | None = None, dataset: str = "refcoco"
) -> Iterator[Record]:
    """Read the sentences of one split.

    A sentence's record has the one box that it denotes, with the words of its root noun phrase.

    Args:
        root: A folder that holds DATASET/refs(unc).p (refs(umd).p for RefCOCOg) and instances.json beside it,
            or COCO's coco/annotations/instances_train2014.json.
        split: "train", "val", "testA" or "testB"; for RefCOCOg "train", "val" or "test".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        dataset: "refcoco", "refcoco+" or "refcocog".

    Returns:
        An iterator over valid records.

    Raises:
        InvalidInputError: A file is missing or damaged, or there is no such split.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.2.
    """
    if dataset not in SPLITS_BY:
        raise InvalidInputError(f"Expected as data set one of {', '.join(SPLITS_BY)}, got {dataset!r}.")
    folder = Path(root)
    refs_file = folder / dataset / f"refs({SPLITS_BY[dataset]}).p"
    refs = _read_refs(refs_file)

    # Read the references of the split
    has_split = False
    split_refs: list[tuple[str, _Ref]] = []
    for where, entry in numbered(refs, f"{refs_file}, reference"):
        if entry.get("split") == split:
            has_split = True
            ref = attempt(_read_ref, entry, where, on_bad)
            if ref is not None:
                split_refs.append((where, ref))
    if not has_split:
        known = ", ".join(sorted({str(ref.get("split")) for ref in refs})) or "none"
        raise InvalidInputError(f"{refs_file} has no split {split!r}; its splits are: {known}.")

    # Read the images and boxes that they refer to
    instances = _find_instances(folder, dataset)
    images = _read_images(instances, on_bad)
    boxes = _read_boxes(instances, {ref.annotation_id for _, ref in split_refs}, on_bad)

    def convert(expression: tuple[_Ref, Any], where: str) -> list[Record]:
        return [_to_record(*expression, images, boxes, dataset, split)]

    return convert_entries(_expressions(split_refs), convert, on_bad)


def _expressions(refs: Iterable[tuple[str, _Ref]]) -> Iterator[tuple[str, tuple[_Ref, Any]]]:
    """Yield each sentence with its reference and its place for messages."""
    for where, ref in refs:
        for place, sentence in numbered(ref.sentences, f"{where}, sentence"):
            yield place, (ref, sentence)


def _read_ref(entry: Any) -> _Ref:
    fields = Fields(entry)
    extra = {"ref_id": fields.value("ref_id", None), "ann_id": fields.value("ann_id")}
    return _Ref(fields.identifier("image_id"), fields.identifier("ann_id"), extra, fields.items("sentences"))


class _PlainUnpickler(pickle._Unpickler):
    """Reads containers, texts and numbers, and refuses everything that would have to be imported.

    It is the one in Python, because the one in C takes gigabytes for a few bytes that name a place far away.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it imports {module}.{name}")


def _read_refs(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise InvalidInputError(f"There is no {file}; give the folder that holds the data set's folder.")
    try:
        refs = _PlainUnpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        reason = str(error).removesuffix(".") or "it is damaged"
        raise InvalidInputError(
            f"{file} is not opened, since a file of references holds only texts and numbers: {reason}."
        ) from None
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise InvalidInputError(f"{file} holds no list of references; download it again.")
    return refs


def _find_instances(folder: Path, dataset: str) -> Path:
    candidates = [
        folder / dataset / "instances.json",
        folder / "coco" / "annotations" / "instances_train2014.json",
        folder / "annotations" / "instances_train2014.json",
    ]
    for file in candidates:
        if file.is_file():
            return file
    raise InvalidInputError(
        f"There is none of {', '.join(map(str, candidates))}; the boxes are in one of these."
    )


def _read_images(file: Path, on_bad: OnBad | None) -> dict[str, _Image]:
    def read(entry: Any) -> tuple[str, _Image]:
        fields = Fields(entry)
        return fields.identifier("id"), _Image(fields.text("file_name"), *fields.size())

    return dict(read_entries(numbered(iterate_list(file, "images"), f"{file}, image"), read, on_bad))


def _read_boxes(file: Path, annotation_ids: Collection[str], on_bad: OnBad | None) -> dict[str, Any]:
    """Read the boxes of some annotations: x, y, width, height, as in the file."""

    def read(entry: Any) -> tuple[str, Any]:
        fields = Fields(entry)
        number = fields.identifier("id")
        return number, fields.value("bbox") if number in annotation_ids else None

    entries = numbered(iterate_list(file, "annotations"), f"{file}, annotation")
    boxes = {}
    for number, bbox in read_entries(entries, read, on_bad):
        if number in annotation_ids:
            boxes[number] = bbox
    return boxes


def _to_record(
    ref: _Ref,
    sentence: Any,
    images: Mapping[str, _Image],
    boxes: Mapping[str, Any],
    dataset: str,
    split: str,
) -> Record:
    fields = Fields(sentence)
    text = fields.text("sent")
    if ref.image_id not in images:
        raise InvalidInputError(f"its image {ref.image_id} is not in the file of instances")
    if ref.annotation_id not in boxes:
        raise InvalidInputError(f"its annotation {ref.annotation_id} is not in the file of instances")
    image = images[ref.image_id]
    box = clamp_box(boxes[ref.annotation_id], image.width, image.height)
    if box is None:
        raise InvalidInputError(f"the box of annotation {ref.annotation_id} is outside its image, or empty")
    return Record(
        source=dataset,
        split=split,
        id=fields.identifier("sent_id"),
        image=image.file_name,
        image_id=ref.image_id,
        width=image.width,
        height=image.height,
        text=text,
        boxes=(box,),
        spans=(root_spans(text),),
        is_referred=(True,),
        extra=json.dumps(ref.extra),
    )
