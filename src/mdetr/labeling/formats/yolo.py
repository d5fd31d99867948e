"""YOLO format."""

from __future__ import annotations

from pathlib import PurePosixPath

import yaml

from mdetr.files import atomic_write
from mdetr.labeling.labeled_data import LabeledData


def write_yolo(data: LabeledData) -> str:
    """Write `data.yaml`, and `labels/` with a file for each image.

    A line is a class number and x, y (of the center), width and height as fractions of the image. Both splits
    of `data.yaml` are all images.

    Args:
        data: The labels.

    Returns:
        Name of the file with the settings.
    """
    numbers = {name: number for number, name in enumerate(data.class_names)}
    for labels in data.usable_images():
        lines: list[str] = []
        for row in labels.accepted:
            x0, y0, x1, y1 = row.box
            x, y = (x0 + x1) / 2 / labels.width, (y0 + y1) / 2 / labels.height
            width, height = (x1 - x0) / labels.width, (y1 - y0) / labels.height
            lines.append(f"{numbers[row.name]} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n")
        file = data.folder / "labels" / PurePosixPath(labels.image).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")

    # Without "path", readers look beside the file, wherever they are started
    settings = {"train": "images", "val": "images", "names": dict(enumerate(data.class_names))}
    with atomic_write(data.folder / "data.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return "data.yaml"
