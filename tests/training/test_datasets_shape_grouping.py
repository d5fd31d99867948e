"""Batches of similar shapes: no example is lost, padding is small, every epoch has another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdetr.data.augmentation.pipelines import clevr_training_augmentation, published_training_augmentation
from mdetr.data.examples import ExampleDataset
from mdetr.data.record import Record
from mdetr.data.store import Store, write_store
from mdetr.processing.coordinates import Size
from mdetr.training.datasets import EpochSampler, ShapeGroupedSampler, group_by_shape

SIZES = (
    [(480, 640)] * 5
    + [(640, 480)] * 3
    + [(427, 640), (640, 427), (375, 500), (500, 333), (500, 375), (612, 612)]
)
"""Height and width, about as often as in COCO and Flickr30k."""


@pytest.mark.parametrize("number", [0, 1, 7, 64, 67])
def test_every_example_is_in_one_group_and_all_groups_but_the_last_are_full(number: int) -> None:
    shapes = np.random.default_rng(0).integers(300, 900, (number, 2))
    groups = group_by_shape(shapes, 8)
    assert sorted(place for group in groups for place in group) == list(range(number))
    assert all(len(group) == 8 for group in groups[:-1])
    assert all(0 < len(group) <= 8 for group in groups)


def test_similar_shapes_are_grouped() -> None:
    shapes = np.array([(480, 640), (640, 480)] * 8)
    for group in group_by_shape(shapes, 4):
        assert len(np.unique(shapes[group], axis=0)) == 1


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[Size]:
    """Those that 1,500 images of usual sizes have after the published augmentation; no image is there."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(1500):
        height, width = SIZES[generator.integers(len(SIZES))]
        x, y = generator.uniform(0, 0.5, 2)
        box = (x * width, y * height, (x + 0.3) * width, (y + 0.3) * height)
        records.append(
            Record(
                source="sizes",
                split="train",
                id=str(number),
                image_id=str(number),
                image=f"{number}.jpg",
                height=height,
                width=width,
                text="a thing",
                boxes=(box,),
                spans=(((2, 7),),),
            )
        )
    path = tmp_path_factory.mktemp("stores") / "sizes"
    write_store(path, records, path)
    dataset = ExampleDataset(Store.open(path), published_training_augmentation(), 1, seed=1)
    dataset.set_epoch(0)
    return [dataset.shape(index) for index in range(len(dataset))]


def _padding(shapes: list[Size], batch_size: int) -> float:
    """The share of the pixels of all batches that is no image."""
    batches = [np.array(shapes[start : start + batch_size]) for start in range(0, len(shapes), batch_size)]
    used = sum(int(batch.prod(axis=1).sum()) for batch in batches)
    return 1 - used / sum(len(batch) * int(batch.max(axis=0).prod()) for batch in batches)


@pytest.mark.parametrize("batch_size", [4, 16])
def test_padding_stays_under_a_tenth(shapes: list[Size], batch_size: int) -> None:
    base = EpochSampler(shapes, None, seed=1)
    at_random = list(base)
    base.set_epoch(0)
    order = list(ShapeGroupedSampler(base, shapes.__getitem__, batch_size, seed=1))
    assert sorted(order) == sorted(at_random) == list(range(1500))
    grouped, mixed = ([shapes[index] for index in indices] for indices in (order, at_random))
    assert _padding(grouped, batch_size) < 0.10 < 0.25 < _padding(mixed, batch_size)


def test_each_epoch_has_another_order(shapes: list[Size]) -> None:
    sampler = ShapeGroupedSampler(EpochSampler(shapes, None, 2), shapes.__getitem__, 16, seed=2)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("skipped", [0, 100, 128, 700, 1472])
def test_skipped_examples_keep_the_order_and_need_no_shapes(skipped: int, shapes: list[Size]) -> None:
    looked_up: list[int] = []

    def shape(index: int) -> Size:
        looked_up.append(index)
        return shapes[index]

    sampler = ShapeGroupedSampler(EpochSampler(shapes, None, 2), shape, batch_size=16, seed=2, window=8)
    sampler.set_epoch(3)
    whole = list(sampler)
    looked_up.clear()
    sampler.set_epoch(3)
    sampler.skip(skipped)
    assert list(sampler)[skipped:] == whole[skipped:]
    assert len(looked_up) == 1500 - skipped // 128 * 128
    sampler.set_epoch(3)
    assert list(sampler) == whole  # it skips once only


@pytest.mark.parametrize(
    "augmentation", [published_training_augmentation(), clevr_training_augmentation(), None]
)
def test_a_shape_is_known_before_the_image_is_read(shapes_store: Path, augmentation: object) -> None:
    dataset = ExampleDataset(Store.open(shapes_store), augmentation, 2, seed=4)  # type: ignore[arg-type]
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            assert dataset.shape(index) == tuple(dataset[index].image.shape[-2:])


def test_examples_are_drawn_in_proportion_to_their_weights() -> None:
    sampler = EpochSampler(range(2), [1.0, 3.0], seed=0)
    drawn = []
    for epoch in range(500):
        sampler.set_epoch(epoch)
        drawn += list(sampler)
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.05)
