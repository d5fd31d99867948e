"""int8 changes the parts of a model by no more than follows from its rounding."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quantization import ACTIVATION_ERROR, WEIGHT_ERROR, measure
from mdetr.export.layout import ExportFormat
from mdetr.export.quantization import Calibration
from tests.export.conftest import Exported


@pytest.mark.parametrize("export_format", list(ExportFormat))
def test_errors_of_features_are_within_the_tolerance_of_the_rounding(
    export_format: ExportFormat, exported: Exported, images: list[Path], tmp_path: Path
) -> None:
    original, quantized = exported("onnx", "fp32"), exported(export_format.value, "int8")
    calibration = Calibration(images, ["a red ball", "two cats"])
    errors = measure(original, quantized, export_format, calibration, tmp_path)
    for part in ("image", "text"):
        assert 0 < errors.relative[part] < errors.tolerance[part] < 0.1
    same = measure(original, original, ExportFormat.ONNX, calibration, tmp_path)
    assert same.relative == dict.fromkeys(same.relative, 0.0)
    assert same.box_shift == same.probability == 0


def test_the_error_of_a_layer_is_that_of_its_steps() -> None:
    assert pytest.approx(0.0136, abs=1e-4) == ACTIVATION_ERROR  # 12 / 255 steps
    assert pytest.approx(0.0091, abs=1e-4) == WEIGHT_ERROR  # 4 / 127 steps
