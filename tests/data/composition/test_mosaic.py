"""Mosaics of four images with class names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator
from torchvision.io import write_png

from mdetr.data.composition.mosaic import Mosaic
from mdetr.data.composition.scene import scene_of
from mdetr.data.examples import ExampleDataset, Records
from mdetr.data.protocol_fields import protocol_fields
from mdetr.data.record import Record, validate_record
from mdetr.data.store import Store, write_store
from mdetr.training.datasets import DataSettings, training_data
from tests.photos import painted

PARTS = (
    ("red", "dog", ["cat", "bus", "boat"], (96, 64)),
    ("blue", "cat", ["dog", "bus", "boat"], (60, 90)),
    ("green", "cup", ["dog", "bus", "boat", "cat"], (200, 40)),
    ("white", "dog", ["cat", "bus"], (33, 77)),
)


def photo(color: str, name: str, absent: list[str], size: tuple[int, int]) -> tuple[torch.Tensor, Records]:
    """A gray photo with one colored patch, which is the thing of that name."""
    width, height = size
    box = (width // 4, height // 4, width // 2 + 1, height // 2 + 1)
    record = Record(
        source="voc12",
        split="train",
        id=color,
        image=f"{color}.png",
        image_id=color,
        width=width,
        height=height,
        text=f"{name}.",
        boxes=(tuple(map(float, box)),),
        spans=(((0, len(name)),),),
        extra=json.dumps({"absent": absent}),
    )
    return painted(width, height, [(color, box)]), (record,)


def stored(folder: Path) -> Store:
    """A store of all four photos."""
    photos = [photo(*part) for part in PARTS]
    for image, (record,) in photos:
        write_png(image, str(folder / record.image))
    return write_store(folder / "store", (record for _, (record,) in photos), folder)


def mosaic(probability: float = 1.0, parts: tuple = PARTS) -> tuple[torch.Tensor, Records]:
    first, *others = (photo(*part) for part in parts)
    drawn = iter(others)
    return Mosaic(probability, lambda _: next(drawn))(*first, Generator().manual_seed(0))


def test_each_image_fills_a_quarter_and_its_box_goes_with_it():
    image, (record,) = mosaic()
    assert image.shape == (3, 64, 96)
    assert (record.width, record.height) == (96, 64)
    validate_record(record)
    scene = scene_of(record, image)
    assert [(thing.name, thing.color) for thing in scene.things if thing.name == "dog"] == [
        ("dog", None),  # dogs are never red
        ("dog", "white"),
    ]
    assert [thing.name for thing in scene.things] == ["dog", "cat", "cup", "dog"]
    for (x0, y0, x1, y1), (color, *_), (left, top) in zip(
        record.boxes, PARTS, ((0, 0), (48, 0), (0, 32), (48, 32)), strict=True
    ):
        assert left <= x0 < x1 <= left + 48
        assert top <= y0 < y1 <= top + 32
        inside = image[:, round((y0 + y1) / 2), round((x0 + x1) / 2)]
        assert (inside.float() - painted(1, 1, [(color, (0, 0, 1, 1))])[:, 0, 0]).abs().max() <= 30


def test_only_what_no_image_shows_is_absent():
    _, (record,) = mosaic()
    assert protocol_fields(record).absent == ("bus",)


def test_boxes_keep_their_shape():
    (_, (first,)), (_, (record,)) = photo(*PARTS[2]), mosaic()
    (x0, y0, x1, y1), (left, top, right, bottom) = first.boxes[0], record.boxes[2]
    scale = 48 / 200  # the widest image fits by its width
    assert right - left == pytest.approx((x1 - x0) * scale, abs=1e-3)
    assert bottom - top == pytest.approx((y1 - y0) * scale, rel=0.05)


def test_probability_zero_and_images_without_class_names_stay():
    image, records = mosaic(probability=0.0)
    assert torch.equal(image, photo(*PARTS[0])[0])
    assert records == photo(*PARTS[0])[1]

    caption = tuple(replace(record, extra=None) for record in photo(*PARTS[1])[1])
    step = Mosaic(1.0, lambda _: (photo(*PARTS[1])[0], caption))
    assert step(*photo(*PARTS[0]), Generator())[1] == photo(*PARTS[0])[1]


def test_training_composes_texts_about_all_four_images_the_same_after_a_resume(tmp_path: Path):
    settings = DataSettings(
        train=[{"store": stored(tmp_path).path}], compose_texts=True, mosaic=1.0, augmentation="none"
    )
    runs = [training_data(settings, seed=3) for _ in range(2)]
    for run in runs:
        run.set_epoch(5)
    boxes = 0
    for index in range(4):
        first, second = (run[index] for run in runs)
        assert torch.equal(first.image, second.image)
        assert first.records == second.records
        assert first.image.shape[-2:] == runs[0].shape(index)
        boxes += max(len(record.boxes) for record in first.records)
    assert boxes > 4  # of four images with one thing each


def test_a_dataset_draws_its_images_at_random(tmp_path: Path):
    examples = ExampleDataset(stored(tmp_path))
    generator = Generator().manual_seed(1)
    drawn = [examples.draw(generator)[1][0].image_id for _ in range(40)]
    assert set(drawn) == {color for color, *_ in PARTS}
