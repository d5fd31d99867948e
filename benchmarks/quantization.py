"""What int8 changes in each part of a model, against the tolerance that follows from its rounding.

    python benchmarks/quantization.py [--model pretrain_r101 | NAME] [--images FOLDER] [--format openvino]

"pretrain_r101" is the released ResNet-101 at 800 pixels with the weights of a formula (tests/fixtures), any
other name one of `mdetr models`. The images calibrate, and their mirror images are measured. Each part gets
the inputs of float32, and "together" is the chain of all three. Errors are root mean squares, in standard
deviations of the float32 values; below them stand the largest shift of a side of a box, in pixels of the
resized image, and the largest change of a probability.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mdetr.export.exporting import trace, write_export
from mdetr.export.layout import GRAPH_NAMES, ExportFormat, ExportPrecision, graph_file
from mdetr.export.model import graph_runner
from mdetr.export.quantization import Calibration, CalibrationInputs, sensitive_nodes
from mdetr.model.tensors import softmax
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer

ROOT = Path(__file__).parents[1]
DEMO = Path(str(resources.files("mdetr") / "assets" / "demo"))
RELEASED = "pretrain_r101"
UNUSED = 1e4
PARTS = ("image", "text", "fusion", "together")

# Rounding to steps of one size adds an error with a standard deviation of 1 / sqrt(12) steps. Activations
# have 255 steps over a range that is taken as 12 of their standard deviations; weights have 127 steps up to
# the largest of an output channel, which is taken as 4.
ACTIVATION_ERROR = 12 / 255 / math.sqrt(12)
WEIGHT_ERROR = 4 / 127 / math.sqrt(12)


@dataclass
class Errors:
    """Errors of int8 over some images.

    Attributes:
        relative: Part -> root mean square, in standard deviations of the float32 values.
        tolerance: Part -> what follows from rounding.
        box_shift: Largest shift of a side of a box, in pixels of the resized image.
        probability: Largest change of the probability of a token position.
    """

    relative: dict[str, float]
    tolerance: dict[str, float]
    box_shift: float
    probability: float


def tolerances(folder: Path) -> dict[str, float]:
    """Derive the tolerance of each part: errors of layers are independent, so their squares add up.

    Args:
        folder: Folder of the model exported for ONNX in float32.

    Returns:
        Part -> root mean square, in standard deviations.
    """
    import onnx

    both = math.hypot(ACTIVATION_ERROR, WEIGHT_ERROR)
    found = {}
    for name in GRAPH_NAMES:
        proto = onnx.load(graph_file(folder, name, ExportFormat.ONNX))
        floats = set(sensitive_nodes(proto))
        layers = [
            node
            for node in proto.graph.node
            if node.op_type in ("Conv", "MatMul", "Gemm") and node.name not in floats
        ]
        found[name] = (WEIGHT_ERROR if name == "text" else both) * math.sqrt(len(layers))
    return found | {"together": math.hypot(*found.values())}


def measure(
    original: Path, quantized: Path, export_format: ExportFormat, calibration: Calibration, folder: Path
) -> Errors:
    """Measure the errors of a quantized model on the mirror images of those that calibrated it.

    Args:
        original: Folder of the model exported for ONNX in float32.
        quantized: Folder of the model exported in int8.
        export_format: Format of the latter.
        calibration: Its images and texts.
        folder: Folder for the mirror images.

    Returns:
        The errors.
    """
    mirrored = replace(calibration, images=[_mirror(image, folder) for image in calibration.images])
    floats = graph_runner(original, ExportFormat.ONNX)
    integers = graph_runner(quantized, export_format)
    processor = MdetrProcessor.from_pretrained(original)
    inputs = CalibrationInputs(mirrored, processor, floats)
    inputs_of_integers = CalibrationInputs(mirrored, processor, integers)

    squares: dict[str, list[float]] = {part: [] for part in PARTS}
    shift = change = 0.0
    for index in range(len(inputs)):
        # Each part by itself
        expected: Mapping[str, Any] = {}
        for name in GRAPH_NAMES:
            given = getattr(inputs, name)(index)
            expected = floats.run(name, given)
            got = _matched(integers.run(name, given), expected)
            squares[name].append(_square(got, expected))

        # All three in a chain
        got = _matched(integers.run("fusion", inputs_of_integers.fusion(index)), expected)
        squares["together"].append(_square(got, expected))
        side = max(inputs.image(index)["pixel_values"].shape[-2:])
        shift = max(shift, side * float(np.abs(got["pred_boxes"] - expected["pred_boxes"]).max()))
        change = max(change, float(np.abs(softmax(got["logits"]) - softmax(expected["logits"])).max()))
    relative = {part: math.sqrt(sum(values) / len(values)) for part, values in squares.items()}
    return Errors(relative, tolerances(original), shift, change)


def _mirror(image: Path, folder: Path) -> Path:
    """Write the mirror image of an image file to a folder."""
    file = folder / f"{image.stem}.png"
    ImageOps.mirror(Image.open(image).convert("RGB")).save(file)
    return file


def _matched(got: dict[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """Put the queries in the order of those with the nearest boxes, since proposals may come in another."""
    if "pred_boxes" in got:
        distances = np.abs(expected["pred_boxes"][:, :, None] - got["pred_boxes"][:, None]).max(-1)
        nearest = distances.argmin(-1)[..., None]  # (B, Q, 1)
        got = {name: np.take_along_axis(got[name], nearest, 1) for name in ("pred_boxes", "logits")}
    return got


def _square(got: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """Mean square of the error of the main output of a graph, in variances of its float32 values."""
    name = next(name for name in ("image_features", "text_features", "logits") if name in expected)
    used = np.abs(expected[name]) < UNUSED  # logits of positions without a token are huge
    return float(np.square(got[name] - expected[name])[used].mean() / expected[name][used].var())


def load(name: str) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """Load a model by name, or make the released one with the weights of the formula."""
    if name != RELEASED:
        from mdetr.checkpoints import loading

        return loading.load(name)
    sys.path.insert(0, str(ROOT))
    from mdetr import MdetrImageProcessor
    from tests.model.reference import reference_model

    return reference_model(name), MdetrProcessor(MdetrImageProcessor(), roberta_tokenizer())


def main() -> None:
    """Measure a model and print its errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=RELEASED)
    parser.add_argument("--images", type=Path, default=DEMO, help="folder of the images")
    parser.add_argument("--format", default="openvino", choices=[each.value for each in ExportFormat])
    arguments = parser.parse_args()
    images = [file for file in sorted(arguments.images.iterdir()) if file.suffix in (".png", ".jpg")]
    model, processor = load(arguments.model)
    calibration = Calibration(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        original, quantized, export_format = folder / "fp32", folder / "int8", ExportFormat(arguments.format)
        traced = trace(model)
        write_export(traced, model, processor, original, ExportFormat.ONNX, ExportPrecision.FP32)
        write_export(traced, model, processor, quantized, export_format, ExportPrecision.INT8, calibration)
        errors = measure(original, quantized, export_format, calibration, folder)
    print(f"{arguments.model} for {arguments.format}, {len(images)} images")
    print(f"{'part':<10}{'error':>8}{'tolerance':>11}   in standard deviations")
    for part in PARTS:
        print(f"{part:<10}{errors.relative[part]:>8.3f}{errors.tolerance[part]:>11.3f}")
    print(f"largest shift of a box {errors.box_shift:.1f} pixels")
    print(f"largest change of a probability {errors.probability:.3f}")


if __name__ == "__main__":
    main()
