"""A tiny hand-made folder in CLEVR's layout, with real images, for the tests of the data layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 96, 64
OBJECTS = {  # per image: the boxes of a red cube, a blue ball and a green ball
    0: [[10, 10, 30, 30], [50, 20, 70, 40], [72, 44, 90, 60]],
    1: [[4, 30, 20, 50], [40, 8, 56, 24], [60, 30, 80, 50]],
}
CAPTIONS = [
    (0, "a red cube and two balls", [([[0, 10]], [0]), ([[15, 24]], [1, 2])]),
    (0, "a ball right of a red cube", [([[0, 6]], [1]), ([[16, 26]], [0])]),
    (1, "two balls", [([[0, 9]], [1, 2])]),
]
REFEXPS = [
    (0, "the blue ball behind the green ball", [([[0, 13]], [1]), ([[21, 35]], [2])], 1),
    (1, "the red cube", [([[0, 12]], [0])], 0),
]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def clevr_folder(tmp_path: Path) -> Path:
    """Two images with three objects each, three captions and two referring expressions of the split "val"."""
    root = tmp_path / "clevr"
    (root / "images" / "val").mkdir(parents=True)
    scenes = []
    for index, boxes in OBJECTS.items():
        pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        for color, (x0, y0, x1, y1) in enumerate(boxes):
            pixels[y0:y1, x0:x1] = np.eye(3, dtype=np.uint8)[color] * 255
        name = f"CLEVR_val_{index:06d}.png"
        Image.fromarray(pixels).save(root / "images" / "val" / name)
        things = [{"color": "red", "3d_coords": [0.0, 1.5, 0.7], "bbox": box} for box in boxes]
        scenes.append({"image_index": index, "image_filename": name, "split": "val", "objects": things})
    write_json(
        root / "scenes" / "CLEVR_val_scenes.json", {"info": {"split": "val", "n": 2}, "scenes": scenes}
    )
    for name, rows in (("captions", CAPTIONS), ("refexps", REFEXPS)):
        entries = [_entry(*row) for row in rows]
        write_json(root / name / f"CLEVR_val_{name}.json", {"info": {"split": "val"}, name: entries})
    return root


def _entry(image: int, text: str, phrases: Any, target: int | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "image_index": image,
        "image_filename": f"CLEVR_val_{image:06d}.png",
        "text": text,
        "phrases": [{"spans": spans, "objects": objects} for spans, objects in phrases],
    }
    return entry if target is None else {**entry, "target": target}
