"""Tests of the examples: grouping by image, drawing texts, and what randomness depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from mdetr.data.augmentation.pipelines import fixed_size_training_augmentation
from mdetr.data.examples import Example, ExampleDataset
from mdetr.data.record import Record
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidInputError


@pytest.fixture
def store(clevr_folder: Path, tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", read_clevr(clevr_folder, "val"), clevr_folder)


def _ids(example: Example) -> list[str]:
    return [record.id for record in example.records]


def test_one_example_per_image_with_all_its_texts(store: Store) -> None:
    dataset = ExampleDataset(store)
    assert [_ids(dataset[index]) for index in range(len(dataset))] == [
        ["caption-0", "caption-1", "refexp-0"],
        ["caption-2", "refexp-1"],
    ]
    assert dataset[1].image.shape == (3, 64, 96)


def test_rows_of_one_image_need_not_follow_each_other(
    store: Store, clevr_folder: Path, tmp_path: Path
) -> None:
    rows = list(store)
    other = [replace(record, source="other") for record in rows]
    mixed = [rows[4], other[0], rows[0], rows[3], other[3], rows[2], rows[1], other[1]]
    dataset = ExampleDataset(write_store(tmp_path / "mixed", mixed, clevr_folder))
    assert [[(record.source, record.id) for record in dataset[index].records] for index in range(4)] == [
        [("clevr", "refexp-1"), ("clevr", "caption-2")],
        [("other", "caption-0"), ("other", "caption-1")],  # the same image id, but of another source
        [("clevr", "caption-0"), ("clevr", "refexp-0"), ("clevr", "caption-1")],
        [("other", "caption-2")],
    ]


def test_texts_are_drawn_anew_every_epoch_and_the_same_in_the_same_epoch(store: Store) -> None:
    dataset = ExampleDataset(store, texts_per_image=1, seed=3)
    drawn: list[tuple[str, ...]] = []
    for epoch in range(20):
        dataset.set_epoch(epoch)
        drawn.append(tuple(_ids(dataset[0])))
        assert tuple(_ids(dataset[0])) == drawn[-1]
    assert set(drawn) == {("caption-0",), ("caption-1",), ("refexp-0",)}


def test_texts_are_drawn_without_repetition(store: Store) -> None:
    dataset = ExampleDataset(store, texts_per_image=2)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        assert len(set(_ids(dataset[0]))) == 2


def test_without_an_epoch_draws_follow_torchs_random_state(store: Store) -> None:
    dataset = ExampleDataset(store, texts_per_image=1)
    torch.manual_seed(0)
    first = [_ids(dataset[0]) for _ in range(20)]
    torch.manual_seed(0)
    assert [_ids(dataset[0]) for _ in range(20)] == first
    assert len({tuple(ids) for ids in first}) > 1


def _load(dataset: ExampleDataset, workers: int) -> list[Example]:
    persistent = workers > 0
    loader = DataLoader(
        dataset, batch_size=1, num_workers=workers, collate_fn=list, persistent_workers=persistent
    )
    examples: list[Example] = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        examples += [example for batch in loader for example in batch]
    return examples


def test_augmented_examples_do_not_depend_on_the_number_of_workers(store: Store) -> None:
    dataset = ExampleDataset(store, fixed_size_training_augmentation(32, 48), texts_per_image=2, seed=1)
    here, in_workers = _load(dataset, 0), _load(dataset, 2)
    assert [example.records for example in here] == [example.records for example in in_workers]
    assert all(torch.equal(a.image, b.image) for a, b in zip(here, in_workers, strict=True))
    assert not torch.equal(here[0].image, here[2].image)  # another epoch


def test_augmentation_moves_image_and_all_records_of_an_example(store: Store) -> None:
    dataset = ExampleDataset(store, fixed_size_training_augmentation(32, 48))
    for index in range(2):
        image, records = dataset[index].image, dataset[index].records
        assert image.shape == (3, 32, 48)
        assert all((record.height, record.width) == (32, 48) for record in records)


def test_an_example_beyond_the_end_is_an_index_error(store: Store) -> None:
    with pytest.raises(IndexError, match="There are 2 images"):
        ExampleDataset(store)[2]


def test_at_least_one_text_is_drawn(store: Store) -> None:
    with pytest.raises(InvalidInputError, match="Expected texts_per_image of at least 1"):
        ExampleDataset(store, texts_per_image=0)


def test_an_empty_store_has_no_examples(tmp_path: Path) -> None:
    empty: list[Record] = []
    assert len(ExampleDataset(write_store(tmp_path / "store", empty, tmp_path))) == 0
