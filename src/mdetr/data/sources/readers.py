"""Registry of the readers, each imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdetr.data.record import Record
    from mdetr.data.store import OnBad

    Reader = Callable[[Path, str, OnBad | None], Iterator[Record]]

# Name -> the module here, its function, and the options that make it read this data set.
_READERS: MappingProxyType[str, tuple[str, str, dict[str, Any]]] = MappingProxyType(
    {
        "clevr": ("clevr", "read_clevr", {}),
        "clevr-captions": ("clevr", "read_clevr", {"kinds": ("caption",)}),
        "clevr-expressions": ("clevr", "read_clevr", {"kinds": ("refexp",)}),
        "clevr-questions": ("clevr", "read_clevr", {"kinds": ("question",)}),
        "clevr-medium": ("clevr", "read_clevr", {"medium": True}),
        "clevr-humans": ("clevr", "read_clevr_humans", {}),
        "clevr-ref+": ("clevr_ref", "read_clevr_ref", {}),
        "coco": ("coco", "read_coco", {}),
        "coco-captions": ("coco_captions", "read_coco_captions", {}),
        "csv": ("csv_boxes", "read_csv", {}),
        "flickr30k": ("flickr30k", "read_flickr30k", {}),
        "flickr30k-merged": ("flickr30k", "read_flickr30k", {"merged_boxes": True}),
        "gqa": ("gqa", "read_gqa", {}),
        "jsonl": ("json_lines", "read_json_lines", {}),
        "label-studio": ("label_studio", "read_label_studio", {}),
        "lvis": ("lvis", "read_lvis", {}),
        "lvis10": ("lvis", "read_lvis", {"fraction": 0.1}),
        "lvis1": ("lvis", "read_lvis", {"fraction": 0.01}),
        "official": ("official", "read_official", {}),
        "photos": ("photos", "read_photos", {}),
        "photos-composed": ("photos", "read_photos", {"composed": True}),
        "phrasecut": ("phrasecut", "read_phrasecut", {}),
        "visual-genome": ("visual_genome", "read_visual_genome", {}),
        "refcoco": ("refcoco", "read_refcoco", {"dataset": "refcoco"}),
        "refcoco+": ("refcoco", "read_refcoco", {"dataset": "refcoco+"}),
        "refcocog": ("refcoco", "read_refcoco", {"dataset": "refcocog"}),
        "voc": ("pascal_voc", "read_voc", {}),
        "yolo": ("yolo", "read_yolo", {}),
    }
)
SOURCES = tuple(_READERS)


def reader_of(source: str) -> Reader:
    """Return the reader of a data set.

    Args:
        source: One of `SOURCES`.

    Returns:
        A function from folder or file, split and `on_bad` to records.
    """
    module, function, options = _READERS[source]
    return partial(getattr(import_module(f"mdetr.data.sources.{module}"), function), **options)
