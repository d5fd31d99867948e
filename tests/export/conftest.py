"""A small model with every head, and its exports; each is made once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mdetr.export.exporting import trace, write_export
from mdetr.export.layout import ExportFormat, ExportPrecision
from mdetr.export.quantization import Calibration
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor
from tests.model.models import OPTIONS, small_model

Exported = Callable[[str, str], Path]


@dataclass(frozen=True)
class Original:
    """The model that is exported."""

    model: MdetrForObjectDetection
    processor: MdetrProcessor


@pytest.fixture(scope="session")
def original(tokenizer: PreTrainedTokenizerFast) -> Original:
    processor = MdetrProcessor(
        MdetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}),
        tokenizer,
        answer_types=OPTIONS["answer_types"],
        answer_vocabulary=OPTIONS["answer_vocabulary"],
    )
    # Few layers, because tracing takes long
    return Original(small_model(**OPTIONS, encoder_layers=1, decoder_layers=2), processor)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of noise, in two shapes."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for index, shape in enumerate([(120, 160, 3), (160, 120, 3)]):
        Image.fromarray(noise.integers(0, 256, shape, np.uint8)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, original: Original, images: list[Path]) -> Exported:
    """Format and precision -> folder of the exported model; do not write to it."""
    # Tracing takes long, so the processes of pytest-xdist share what one of them has exported
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported"
    traced = cache(lambda: trace(original.model))

    def export(export_format: str, precision: str) -> Path:
        target = folder / f"{export_format}-{precision}"
        with FileLock(folder.with_suffix(".lock")):
            if not target.is_dir():
                calibration = Calibration(images, ["a red ball", "two cats"]) if precision == "int8" else None
                write_export(
                    *(traced(), original.model, original.processor, target),
                    *(ExportFormat(export_format), ExportPrecision(precision), calibration),
                )
        return target

    return export
