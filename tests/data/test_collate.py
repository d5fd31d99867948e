"""Tests of collation: examples become the model's arguments, several texts sharing one image."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from mdetr.data.collate import Collator
from mdetr.data.examples import Example, ExampleDataset
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import write_store
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrImageProcessor, MdetrProcessor, roberta_tokenizer


@pytest.fixture
def examples(clevr_folder: Path, tmp_path: Path) -> list[Example]:
    store = write_store(tmp_path / "store", read_clevr(clevr_folder, "val"), clevr_folder)
    return list(map(ExampleDataset(store).__getitem__, range(2)))


@pytest.fixture
def processor() -> MdetrProcessor:
    size = {"shortest_edge": 128, "longest_edge": 192}
    return MdetrProcessor(MdetrImageProcessor(size=size), roberta_tokenizer())


def test_a_batch_has_exactly_the_arguments_of_the_model(
    examples: list[Example], processor: MdetrProcessor
) -> None:
    batch = Collator(processor, with_records=True)(examples)
    records = batch.pop("records")
    assert [record.id for record in records] == [
        "caption-0",
        "caption-1",
        "refexp-0",
        "caption-2",
        "refexp-1",
    ]
    assert set(batch) == set(inspect.signature(MdetrModel.forward).parameters) - {"self"}
    assert batch["pixel_values"].shape == (2, 3, 128, 192)
    assert batch["image_index"].tolist() == [0, 0, 0, 1, 1]
    assert batch["input_ids"].shape[0] == 5
    targets = batch["targets"]
    assert targets["box_mask"].sum(1).tolist() == [3, 2, 2, 2, 1]
    assert targets["referred_mask"].tolist() == [False, False, True, False, True]
    assert targets["boxes"][0, 0].tolist() == pytest.approx([20 / 96, 20 / 64, 20 / 96, 20 / 64])
    for record, ids, positive in zip(records, batch["input_ids"], targets["positive_map"], strict=True):
        for box, ((start, end), *_) in enumerate(record.spans):
            tokens = positive[box, : len(ids)].nonzero()[:, 0]
            assert processor.tokenizer.decode(ids[tokens]).strip() == record.text[start:end]


def test_sizes_that_augmentation_chose_can_be_kept(
    examples: list[Example], processor: MdetrProcessor
) -> None:
    batch = Collator(processor, do_resize=False)(examples)
    assert batch["pixel_values"].shape == (2, 3, 64, 96)
    assert torch.equal(batch["targets"]["boxes"], Collator(processor)(examples)["targets"]["boxes"])
