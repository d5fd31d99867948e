"""RefCOCO, RefCOCO+ and RefCOCOg (refs(...).p and COCO's instances) in; a record for each sentence out."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdetr.data.record import Record
from mdetr.data.root_phrase import root_spans
from mdetr.data.sources.converting import convert_entries
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError

SPLITS_BY = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}


@dataclass(frozen=True)
class _Image:
    file_name: str
    width: int
    height: int


def read_refcoco(
    root: str | Path, split: str, on_bad: OnBad | None = None, dataset: str = "refcoco"
) -> Iterator[Record]:
    """Read the sentences of one split.

    A sentence's record has the one box that it denotes, with the words of its root noun phrase.

    Args:
        root: a folder that holds DATASET/refs(unc).p (refs(umd).p for RefCOCOg) and instances.json beside it,
            or COCO's coco/annotations/instances_train2014.json.
        split: train, val, testA, testB; or test.
        on_bad: called with the error of each entry that breaks a rule, which is then left out; None to stop.
        dataset: refcoco, refcoco+ or refcocog.

    Raises:
        InvalidInputError: a file is missing or damaged, or there is no such split.
        InvalidRecordError: an entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.2.
    """
    if dataset not in SPLITS_BY:
        raise InvalidInputError(f"dataset must be one of {', '.join(SPLITS_BY)}; found {dataset!r}.")
    folder = Path(root)
    refs_file = folder / dataset / f"refs({SPLITS_BY[dataset]}).p"
    refs = _read_refs(refs_file)
    wanted = [ref for ref in refs if ref.get("split") == split]
    if not wanted:
        known = ", ".join(sorted({str(ref.get("split")) for ref in refs})) or "none"
        raise InvalidInputError(f"{refs_file} has no split {split!r}; its splits are: {known}.")
    instances = _find_instances(folder, dataset)
    images, boxes = _read_instances(instances, {ref.get("ann_id") for ref in wanted})

    def convert(expression: tuple[Mapping[str, Any], Mapping[str, Any]], where: str) -> list[Record]:
        return [_to_record(*expression, images, boxes, dataset)]

    expressions = (
        (f"{refs_file}, reference {ref.get('ref_id')}, sentence {sentence.get('sent_id')}", (ref, sentence))
        for ref in wanted
        for sentence in ref.get("sentences", ())
    )
    return convert_entries(expressions, convert, on_bad)


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, texts and numbers, and refuses everything that would have to be imported."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _read_refs(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise InvalidInputError(f"There is no {file}; give the folder that holds the data set's folder.")
    try:
        refs = _PlainUnpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InvalidInputError(
            f"{file} is not opened, since a file of references holds only texts and numbers: {error}."
        ) from None
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise InvalidInputError(f"{file} holds no list of references; get it again.")
    return refs


def _find_instances(folder: Path, dataset: str) -> Path:
    places = [
        folder / dataset / "instances.json",
        folder / "coco" / "annotations" / "instances_train2014.json",
        folder / "annotations" / "instances_train2014.json",
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InvalidInputError(
            f"There is none of {', '.join(map(str, places))}; the boxes are in one of these."
        )
    return found


def _read_instances(file: Path, wanted: set[Any]) -> tuple[dict[int, _Image], dict[int, list[float]]]:
    """The sizes of all images, and the boxes of the wanted annotations."""
    try:
        images = {
            int(entry["id"]): _Image(str(entry["file_name"]), int(entry["width"]), int(entry["height"]))
            for entry in iterate_list(file, "images")
        }
        boxes = {
            int(entry["id"]): [float(value) for value in entry["bbox"]]
            for entry in iterate_list(file, "annotations")
            if entry["id"] in wanted
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{file} is damaged ({error!r}); get it again.") from None
    return images, boxes


def _to_record(
    ref: Mapping[str, Any],
    sentence: Mapping[str, Any],
    images: Mapping[int, _Image],
    boxes: Mapping[int, list[float]],
    dataset: str,
) -> Record:
    image, (x, y, width, height) = images[ref["image_id"]], boxes[ref["ann_id"]]
    text, number = str(sentence["sent"]), str(sentence["sent_id"])
    box = (x, y, min(x + width, float(image.width)), min(y + height, float(image.height)))
    return Record(
        source=dataset,
        split=str(ref["split"]),
        id=number,
        image=image.file_name,
        image_id=str(ref["image_id"]),
        width=image.width,
        height=image.height,
        text=text,
        boxes=(box,),
        spans=(root_spans(text),),
        is_referred=(True,),
        extra=json.dumps({"ref_id": ref.get("ref_id"), "ann_id": ref["ann_id"]}),
    )
