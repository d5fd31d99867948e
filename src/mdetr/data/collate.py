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
    """Collates examples into a batch in which the texts of one image share the image.

    The batches hold the arguments of `MdetrForObjectDetection`, so a collator also serves as `data_collator`
    of `transformers.Trainer`.

    Args:
        processor: Processor of the model.
        do_resize: Whether to resize images; false if augmentation has already chosen their sizes.
        with_targets: Whether to add the targets of the losses.
        with_masks: Whether to add the masks of the records to the targets.
        with_records: Whether to add the records, which the model does not take.
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
        """Collate I examples with B records in total.

        Args:
            examples: One image with its records each.

        Returns:
            The arguments of `MdetrForObjectDetection.forward`, where `image_index` (B,) maps each record to
            one of the I images, and the list "records" of length B if `with_records`.

        Raises:
            InvalidInputError: A record cannot be collated; the message names it.
        """
        batch = dict(self.prepare(examples).inputs)
        if self.with_records:
            batch["records"] = records_of(examples)
        return batch

    def prepare(self, examples: Sequence[Example]) -> Batch:
        """Collate examples into a `Batch`, which also holds the data for post-processing but no records."""
        records = records_of(examples)

        # Map each record to its image
        index: list[int] = []
        for image, example in enumerate(examples):
            index.extend([image] * len(example.records))

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
                self.check(example)  # raises an error that names the record
            raise

    def check(self, example: Example) -> None:
        """Check that the texts and answers of an example can be collated.

        Args:
            example: One image with its records.

        Raises:
            InvalidInputError: One of them cannot be collated; the message names its record.
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
    """List the records of all examples, in order."""
    records: list[Record] = []
    for example in examples:
        records.extend(example.records)
    return records


def to_target(record: Record) -> TargetInput:
    """Convert a record to the targets that the processor takes."""
    target: TargetInput = {"boxes": record.boxes, "spans": record.spans}
    for name in ("is_referred", "masks", "answer", "answer_type"):
        value = getattr(record, name)
        if value is not None:
            target[name] = value  # type: ignore[literal-required]
    return target
