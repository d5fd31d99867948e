"""Report on labels: counts, unsure boxes, failed images and contact sheets, for a person to look at."""

from __future__ import annotations

import csv
import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdetr.files import atomic_write
from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.results import ImageLabels
from mdetr.processing.coordinates import Box

if TYPE_CHECKING:
    from PIL import Image

_CROPS_PER_ROW = 8
_CROPS_PER_KIND = 24
_CROP_SIZE = 160  # of a crop in a sheet, in pixels
_NAME_LENGTH = 15  # characters beside the score
_UNSAFE_CHARACTERS = re.compile(r"[^\w.()-]+")


@dataclass
class LabelReport:
    """Counts of a finished run.

    Attributes:
        num_images: Number of images that could be used.
        num_boxes: Class or phrase -> number of its boxes that are labels.
        num_images_with: Class or phrase -> number of images with such a box.
        num_unsure: Number of boxes near their threshold, listed in `unsure.csv`.
        failures: The first images that could not be used, each with the reason.
        num_failed: Number of images that could not be used, listed in `failed.csv`.
        sheets: Names of the contact sheets.
    """

    num_images: int = 0
    num_boxes: Counter[str] = field(default_factory=Counter)
    num_images_with: Counter[str] = field(default_factory=Counter)
    num_unsure: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    num_failed: int = 0
    sheets: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class _Crop:
    """A box to show in a contact sheet; crops are ordered by their rank."""

    rank: float
    image: str
    box: Box
    score: float


class _Samples:
    """The crops of highest rank among many."""

    def __init__(self) -> None:
        self._crops: list[_Crop] = []

    def add(self, crop: _Crop) -> None:
        if len(self._crops) < _CROPS_PER_KIND:
            heapq.heappush(self._crops, crop)
        else:
            heapq.heappushpop(self._crops, crop)

    def best_first(self) -> list[_Crop]:
        return sorted(self._crops, reverse=True)


def write_report(data: LabeledData, listed_failures: int = 10) -> LabelReport:
    """Write `unsure.csv`, `failed.csv`, and for each class a contact sheet in `sheets/`.

    A sheet shows the boxes with the highest scores, and below them the unsure ones.

    Args:
        data: The labels.
        listed_failures: Maximum number of failures in the report.

    Returns:
        The counts.
    """
    report = LabelReport()
    best: dict[str, _Samples] = {name: _Samples() for name in data.class_names}
    unsure: dict[str, _Samples] = {name: _Samples() for name in data.class_names}
    with ExitStack() as files:
        unsure_table = _open_table(
            files, data.folder / "unsure.csv", ["image", "name", "score", "threshold", "is_label", *_CORNERS]
        )
        failed_table = _open_table(files, data.folder / "failed.csv", ["image", "error"])
        images: set[str] = set()
        for labels in data:
            if labels.error is not None:
                report.num_failed += 1
                if len(report.failures) < listed_failures:
                    report.failures.append((labels.image, labels.error))
                failed_table.writerow([labels.image, labels.error])
                continue

            # Several captions of an image follow each other
            if labels.image not in images:
                images = {labels.image}
                report.num_images += 1
            _count(report, labels)
            for row in _unsure_rows(labels, data.margin):
                report.num_unsure += 1
                unsure_table.writerow(row)
            if labels.text is None:
                _sample(labels, data.margin, best, unsure)

    # Draw the sheets
    for name in data.class_names:
        file = _draw_sheet(data, name, best[name].best_first(), unsure[name].best_first())
        if file is not None:
            report.sheets.append(file)
    return report


_CORNERS = ("x0", "y0", "x1", "y1")


def _open_table(files: ExitStack, path: Path, columns: Sequence[str]) -> Any:
    """Open a CSV file that appears when it is complete, and write its header."""
    temporary = files.enter_context(atomic_write(path))
    table = csv.writer(files.enter_context(temporary.open("w", encoding="utf-8", newline="")))
    table.writerow(columns)
    return table


def _count(report: LabelReport, labels: ImageLabels) -> None:
    counts = Counter(row.name for row in labels.accepted)
    report.num_boxes.update(counts)
    report.num_images_with.update(counts.keys())


def _unsure_rows(labels: ImageLabels, margin: float) -> Iterator[list[Any]]:
    is_unsure, is_accepted = labels.is_unsure(margin), labels.is_accepted
    for index, row in enumerate(labels.detections):
        if is_unsure[index]:
            corners = [f"{value:.1f}" for value in row.box]
            threshold = f"{labels.thresholds[index]:.3g}"
            is_label = "yes" if is_accepted[index] else "no"
            yield [labels.image, row.name, f"{row.score:.4f}", threshold, is_label, *corners]


def _sample(
    labels: ImageLabels, margin: float, best: dict[str, _Samples], unsure: dict[str, _Samples]
) -> None:
    """Consider the boxes of an image for the contact sheets of their classes."""
    is_unsure = labels.is_unsure(margin)
    for index, row in enumerate(labels.detections):
        if is_unsure[index]:
            distance = abs(row.score - float(labels.thresholds[index]))
            unsure[row.name].add(_Crop(-distance, labels.image, row.box, row.score))
        else:
            best[row.name].add(_Crop(row.score, labels.image, row.box, row.score))


def _draw_sheet(data: LabeledData, name: str, best: Sequence[_Crop], unsure: Sequence[_Crop]) -> str | None:
    """Draw the contact sheet of a class.

    Args:
        data: The labels.
        name: The class.
        best: Boxes with high scores.
        unsure: Boxes near their threshold.

    Returns:
        Name of the file; None if there is no box.
    """
    from mdetr.visualization.picture_files import save_picture
    from mdetr.visualization.plot import contact_sheet, with_heading

    sections = []
    for title, crops in ((f"{name}: highest scores", best), (f"{name}: unsure, nearest first", unsure)):
        if crops:
            tiles = [_draw_crop(data.plan.image_file(crop.image), crop) for crop in crops]
            sections.append(with_heading(title, contact_sheet(_pad(tiles), _CROPS_PER_ROW)))
    if not sections:
        return None

    # Write them below each other
    number = data.class_names.index(name) + 1
    safe_name = _UNSAFE_CHARACTERS.sub("_", name)
    file = data.folder / "sheets" / f"{number:03d}-{safe_name}.jpg"
    file.parent.mkdir(exist_ok=True)
    save_picture(contact_sheet(sections, columns=1), file)
    return f"sheets/{file.name}"


def _pad(tiles: list[Image.Image]) -> list[Image.Image]:
    """Add white tiles to fill the first row, which makes all sheets equally wide."""
    from PIL import Image

    missing = max(0, _CROPS_PER_ROW - len(tiles))
    return tiles + [Image.new("RGB", tiles[0].size, "white")] * missing


def _draw_crop(file: Path, crop: _Crop) -> Image.Image:
    """Draw a box of an image, with its score and the end of the image's name."""
    from PIL import Image

    from mdetr.processing.images import load_image
    from mdetr.visualization.crops import draw_crop

    return draw_crop(
        Image.fromarray(load_image(file)), crop.box, crop_caption(crop.score, crop.image), _CROP_SIZE
    )


def crop_caption(score: float, image: str) -> str:
    """Write the caption of a crop: the score, and the end of the image's name, as far as it fits."""
    name = image if len(image) <= _NAME_LENGTH else f"\u2026{image[1 - _NAME_LENGTH :]}"
    return f"{score:.2f} {name}"
