"""A small folder of made-up photos, in the layout that docs/photo-tiny.md describes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

WIDTH, HEIGHT = 96, 64
RGB = {
    "black": (12, 12, 12),
    "white": (245, 245, 245),
    "red": (215, 25, 25),
    "blue": (30, 60, 215),
    "green": (20, 150, 40),
}
VOC, COCO, CAPTIONS = "voc12(rodm)", "coco train2017", "flickr8k-small+nanodet"
# Held out for validation, by the hash of their names; the others are for training.
VALIDATION = tuple(f"images/{number}.png" for number in ("03", "28", "31", "34"))
TRAINING = tuple(f"images/{number}.png" for number in ("00", "01", "02", "04", "05", "06"))


def painted(width: int, height: int, patches: Iterable[tuple[str, tuple[int, int, int, int]]]) -> Tensor:
    """A gray image (3, H, W) uint8 with rectangles x0, y0, x1, y1 of colors of `RGB`."""
    image = torch.full((3, height, width), 128, dtype=torch.uint8)
    for color, (x0, y0, x1, y1) in patches:
        image[:, y0:y1, x0:x1] = torch.tensor(RGB[color], dtype=torch.uint8)[:, None, None]
    return image


def line(image: str, source: str, things: Mapping[str, list[list[float]]], **changes: Any) -> dict[str, Any]:
    """A line of records.jsonl: the names of things with their boxes, as a list of names."""
    text = ". ".join(things) + "."
    labels = [name for name, boxes in things.items() for _ in boxes]
    starts = {name: text.index(name) for name in things}
    return {
        "image": image,
        "source": source,
        "text": text,
        "boxes": [box for boxes in things.values() for box in boxes],
        "spans": [[starts[name], starts[name] + len(name)] for name in labels],
        "labels": labels,
        "width": WIDTH,
        "height": HEIGHT,
    } | changes


def found(image: str, things: Iterable[tuple[str, float, list[float]]]) -> dict[str, Any]:
    """A line of teacher.jsonl: names, scores and boxes."""
    labels, scores, boxes = zip(*things, strict=True) if (things := list(things)) else ((), (), ())
    content = {"image": image, "labels": list(labels), "scores": list(scores), "boxes": list(boxes)}
    return content | {"width": WIDTH, "height": HEIGHT}


def write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON object on each line."""
    file.write_text("".join(json.dumps(content) + "\n" for content in lines), encoding="utf-8")


def write_photos(folder: Path) -> Path:
    """Ten photos with a red car, a black dog and a white one; six are for training, four for validation."""
    (folder / "images").mkdir(parents=True)
    dogs, car = ([4, 30, 24, 60], [60, 34, 92, 62]), [34, 4, 62, 24]
    places = [*zip(("black", "white"), dogs, strict=True), ("red", car)]
    pixels = painted(WIDTH, HEIGHT, [(color, (x0, y0, x1, y1)) for color, (x0, y0, x1, y1) in places])
    records, teacher = [], []
    for image in (*TRAINING, *VALIDATION):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / image)
        records.append(line(image, COCO, {"dog": [*dogs], "car": [car]}))
        teacher.append(found(image, [("dog", 0.9, [5, 30, 24, 60])]))
    write_lines(folder / "records.jsonl", records)
    write_lines(folder / "teacher.jsonl", teacher)
    return folder
