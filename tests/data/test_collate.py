"""Tests of collation: examples become the model's arguments, several texts sharing one image."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from mdetr.checkpoints.loading import load
from mdetr.data.collate import Collator
from mdetr.data.examples import Example, ExampleDataset
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidInputError
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.processing.rle import encode_masks


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
    arguments = set(inspect.signature(MdetrForObjectDetection.forward).parameters)
    assert set(batch) == arguments - {"self", "return_loss", "token_type_ids"}
    assert set(Collator(processor)(examples)) == set(batch)  # the records only where they are wanted
    assert set(batch) - set(Collator(processor, with_targets=False)(examples)) == {"targets"}
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


def test_a_record_that_cannot_be_collated_is_named(
    examples: list[Example], processor: MdetrProcessor
) -> None:
    long = replace(examples[1].records[0], text="a ball " * 300, spans=((),) * 2, phrases=None)
    with pytest.raises(
        InvalidInputError, match=r"^Record 'caption-2' of source 'clevr': The text has 6\d\d tokens"
    ):
        Collator(processor)([examples[0], replace(examples[1], records=(long,))])


def test_masks_are_left_out_where_the_model_learns_none(
    examples: list[Example], processor: MdetrProcessor
) -> None:
    height, width = examples[0].image.shape[-2:]
    masks = encode_masks(np.ones((3, height, width), np.uint8))
    masked = replace(examples[0], records=(replace(examples[0].records[0], masks=masks),))
    assert "masks" in Collator(processor)([masked])["targets"]
    batch = Collator(processor, with_masks=False)([masked, examples[1]])  # some have masks, others have none
    assert "masks" not in batch["targets"]


def test_the_trainer_of_transformers_trains_scores_and_keeps_the_best(
    examples: list[Example], tmp_path: Path
) -> None:
    """Nothing is set but what a run of any other model sets too."""
    model, processor = load("clevr-tiny")
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    data = ExampleDataset(Store.open(tmp_path / "store"), by_image=False)
    arguments = TrainingArguments(
        str(tmp_path / "run"),
        per_device_train_batch_size=3,
        max_steps=2,
        learning_rate=1e-4,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=1,
        load_best_model_at_end=True,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        data_collator=Collator(processor),
        processing_class=processor,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 2
    assert trainer.state.best_metric == min(losses)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-4)  # the best is loaded
    assert any(not torch.equal(start[name], tensor) for name, tensor in trainer.model.state_dict().items())
    trainer.save_model(str(tmp_path / "saved"))
    saved, _ = load(tmp_path / "saved")
    assert all(torch.equal(t, saved.state_dict()[n]) for n, t in trainer.model.state_dict().items())
