"""Collation of examples into one batch of the model's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mdetr.data.examples import Example
from mdetr.data.record import Record
from mdetr.errors import InvalidInputError
from mdetr.processing.processor import Batch, MdetrProcessor
from mdetr.processing.targets import TargetInput


class Collator:
    """Turns a list of examples into a batch; texts of one image share it.

    Its batches are what `MdetrForObjectDetection` takes, so it is also a `data_collator` for
    `transformers.Trainer`.

    Args:
        processor: The model's own.
        do_resize: Whether images are resized; false where augmentation has chosen their sizes already.
        with_targets: Whether the batch holds what the losses need.
        with_masks: Whether the targets hold the masks of those records that have some.
        with_records: Whether the batch holds the records too, which the model does not take.
    """

    def __init__(
        self,
        processor: MdetrProcessor,
        do_resize: bool = True,
        with_targets: bool = True,
        with_masks: bool = True,
        with_records: bool = False,
    ) -> None:
        self.processor = processor
        self.do_resize = do_resize
        self.with_targets = with_targets
        self.with_masks = with_masks
        self.with_records = with_records

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Collate I examples with B records.

        Returns:
            The arguments of `MdetrForObjectDetection.forward`, in which `image_index` (B,) says which of the
            I images each record is about; and "records", a list of B, if wanted.

        Raises:
            InvalidInputError: A record cannot be used; it is named.
        """
        batch = dict(self.prepare(examples).inputs)
        return {**batch, "records": records_of(examples)} if self.with_records else batch

    def prepare(self, examples: Sequence[Example]) -> Batch:
        """The same, with what post-processing needs to know, and without the records."""
        records = records_of(examples)
        index = [image for image, example in enumerate(examples) for _ in example.records]
        try:
            return self.processor.prepare(
                images=[example.image for example in examples],
                text=[record.text for record in records],
                targets=[self._target(record) for record in records] if self.with_targets else None,
                do_resize=self.do_resize,
                image_index=torch.tensor(index),
            )
        except InvalidInputError:
            for example in examples:
                self.check(example)  # names the record that is to blame
            raise

    def check(self, example: Example) -> None:
        """See that an example's texts and answers can be collated.

        Raises:
            InvalidInputError: One cannot; its record is named.
        """
        for record in example.records:
            try:
                self.processor.tokenize([record.text])
                if self.with_targets and record.answer is not None and self.processor.answers.vocabulary:
                    self.processor.answers.encode(record.answer, record.answer_type)
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"Record {record.id!r} of source {record.source!r}: {error}"
                ) from None

    def _target(self, record: Record) -> TargetInput:
        target = to_target(record)
        if not self.with_masks:
            target.pop("masks", None)
        return target


def records_of(examples: Sequence[Example]) -> list[Record]:
    """The records of all examples, in order."""
    return [record for example in examples for record in example.records]


def to_target(record: Record) -> TargetInput:
    """What the processor needs to know of a record."""
    target: TargetInput = {"boxes": record.boxes, "spans": record.spans}
    for name in ("is_referred", "masks", "answer", "answer_type"):
        value = getattr(record, name)
        if value is not None:
            target[name] = value  # type: ignore[literal-required]
    return target
