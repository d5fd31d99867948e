"""Examples in; one batch of the model's arguments, and the records it was made from, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mdetr.data.examples import Example
from mdetr.data.record import Record
from mdetr.processor import MdetrProcessor
from mdetr.targets import TargetInput


class Collator:
    """Turns a list of examples into a batch; texts of one image share it."""

    def __init__(self, processor: MdetrProcessor, do_resize: bool = True) -> None:
        """Keep the processor; `do_resize` is false where augmentation has chosen the sizes already."""
        self.processor = processor
        self.do_resize = do_resize

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """I examples with B records -> the arguments of `MdetrModel.forward`, and "records", a list of B.

        `image_index` (B,) says which of the I images each record speaks of.
        """
        records = [record for example in examples for record in example.records]
        index = [image for image, example in enumerate(examples) for _ in example.records]
        batch = self.processor(
            images=[example.image for example in examples],
            text=[record.text for record in records],
            targets=[to_target(record) for record in records],
            do_resize=self.do_resize,
            image_index=torch.tensor(index),
        )
        return {**batch, "records": records}


def to_target(record: Record) -> TargetInput:
    """What the processor needs to know of a record."""
    target: TargetInput = {"boxes": record.boxes, "spans": record.spans}
    for name in ("is_referred", "masks", "answer", "answer_type"):
        value = getattr(record, name)
        if value is not None:
            target[name] = value  # type: ignore[literal-required]
    return target
