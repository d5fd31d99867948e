"""Reader of CLEVR-Ref+."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdetr.data.record import Record
from mdetr.data.sources.annotations import clamp_box
from mdetr.data.sources.clevr_programs import find_mentions, run_program
from mdetr.data.sources.converting import convert_entries, numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, inside, to_whole
from mdetr.data.sources.json_lists import iterate_list
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box, Span
from mdetr.processing.rle import encode_masks

SOURCE = "clevr-ref+"
SIZES = {480 * 320: (480, 320), 320 * 240: (320, 240)}  # pixels of a mask -> width, height


def read_clevr_ref(root: str | Path, split: str, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Read the referring expressions of one split.

    A record has the boxes and masks of all objects that the expression's program refers to; `is_referred` is
    true for those that the expression as a whole denotes, one or several. Images are relative to `root`.

    Args:
        root: The folder with scenes/clevr_ref+_SPLIT_scenes.json, refexps/clevr_ref+_SPLIT_refexps.json and
            images/SPLIT.
        split: "train" or "val".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: A file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix D.
    """
    folder = Path(root)
    scenes_file = folder / "scenes" / f"clevr_ref+_{split}_scenes.json"
    file = folder / "refexps" / f"clevr_ref+_{split}_refexps.json"
    entries = numbered(iterate_list(scenes_file, "scenes"), f"{scenes_file}, entry")
    numbered_scenes = read_entries(entries, lambda scene: (Fields(scene).whole("image_index"), scene), on_bad)
    with EntryIndex(numbered_scenes) as scenes:

        @lru_cache(maxsize=16)
        def scene_of(image_index: int) -> Mapping[str, Any] | None:
            return next(iter(scenes.of(image_index)), None)

        def convert(entry: tuple[int, Any], where: str) -> list[Record]:
            number, expression = entry[0], Fields(entry[1])
            scene = scene_of(expression.whole("image_index"))
            if scene is None:
                raise InvalidRecordError(f"{where}: {scenes_file} has no scene of its image.")
            return [_to_record(expression, number, scene, split)]

        expressions = enumerate(numbered(iterate_list(file, "refexps"), f"{file}, entry"))
        numbered_expressions = ((where, (number, entry)) for number, (where, entry) in expressions)
        yield from convert_entries(numbered_expressions, convert, on_bad)


def _to_record(entry: Fields, number: int, scene: Mapping[str, Any], split: str) -> Record:
    """Convert a referring expression to its record."""
    # Run the program; the objects of its last step are those that the expression denotes
    text, program = entry.text("refexp"), entry.items("program")
    fields = Fields(scene)
    outputs = run_program(program, fields.items("objects"), fields.value("relationships", {}))
    last = outputs[-1]
    denoted = list(map(int, last if isinstance(last, list) else [last]))

    # Collect the spans of each object, those that are denoted first
    object_spans: dict[int, set[Span]] = {thing: set() for thing in denoted}
    for mention in find_mentions(program, outputs, text):
        if mention.span is not None:
            for thing in mention.objects:
                object_spans.setdefault(thing, set()).add(mention.span)

    # Read the boxes and masks
    boxes: dict[int, Box] = {}
    masks: list[Tensor] = []
    width = height = 0
    for thing in object_spans:
        with inside(f"object {thing}"):
            mask = _decode_mask(fields.object("obj_mask").text(str(thing + 1)))
            width, height = SIZES[mask.numel()]
            masks.append(mask.reshape(height, width))
            box = clamp_box(fields.object("obj_bbox").value(str(thing + 1)), width, height)
            if box is None:
                raise InvalidInputError("its box is outside its image, or empty")
            boxes[thing] = box
    if len({mask.shape for mask in masks}) != 1:
        raise InvalidInputError("its objects have no masks, or masks of different sizes")

    image = entry.whole("image_index")
    return Record(
        source=SOURCE,
        split=split,
        id=entry.identifier("refexp_index") if "refexp_index" in entry else str(number),
        image=f"images/{split}/{entry.text('image_filename')}",
        image_id=str(image),
        width=width,
        height=height,
        text=text,
        boxes=tuple(boxes.values()),
        spans=tuple(tuple(sorted(spans)) for spans in object_spans.values()),
        is_referred=tuple(thing in denoted for thing in object_spans),
        masks=encode_masks(torch.stack(masks).numpy()),
        extra=json.dumps({"image_index": image, "objects": list(object_spans)}),
    )


def _decode_mask(runs: str) -> Tensor:
    """Decode the lengths of alternating runs of zeros and ones along the rows into (pixels,) uint8."""
    lengths = [to_whole(length, "mask's run lengths") for length in runs.strip().split(",")]
    if min(lengths) < 0 or sum(lengths) not in SIZES:
        sizes = " or ".join(f"{width} x {height}" for width, height in SIZES.values())
        raise InvalidInputError(f"expected a mask of {sizes} pixels, got {sum(lengths)} pixels")
    return torch.repeat_interleave(torch.arange(len(lengths)) % 2, torch.tensor(lengths)).to(torch.uint8)
