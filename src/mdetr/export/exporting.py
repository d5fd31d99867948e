"""`export_model`: writes the folder of an exported model."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdetr.errors import CheckpointError
from mdetr.export.agreement import Agreement, compare
from mdetr.export.graphs import make_graphs
from mdetr.export.layout import (
    ExportFormat,
    ExportInfo,
    ExportPrecision,
    check_export,
    graph_file,
    graphs_fingerprint,
)
from mdetr.export.model import graph_runner
from mdetr.export.onnx import to_onnx, with_folded_norms, with_halved_weights
from mdetr.export.openvino import save_openvino, to_openvino
from mdetr.export.quantization import (
    Calibration,
    CalibrationInputs,
    quantize,
    sensitive_nodes,
)
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.processor import MdetrProcessor

if TYPE_CHECKING:
    from onnx import ModelProto


def export_model(
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    folder: Path,
    export_format: ExportFormat,
    precision: ExportPrecision = ExportPrecision.FP32,
    calibration: Calibration | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Agreement | None:
    """Export a model: its three graphs, its configuration and processor, and a description.

    Args:
        model: The model, which is not changed.
        processor: Its processor.
        folder: Folder to create; it appears when everything is written.
        export_format: Format of the graphs.
        precision: Precision of the weights, and with int8 of the activations.
        calibration: Images and texts for int8.
        on_step: Called with the name of each step before it begins.

    Returns:
        With int8, its agreement with float32 on the images of the calibration.

    Raises:
        InvalidInputError: The folder exists and is not empty, a layer cannot be exported, or int8 lacks
            images.
        MissingDependencyError: A library for this format or precision is not installed.
        CheckpointError: The folder cannot be written.
    """
    images = None if calibration is None else calibration.images
    check_export(folder, export_format, precision, images)
    traced = trace(model, on_step)
    return write_export(traced, model, processor, folder, export_format, precision, calibration, on_step)


def trace(
    model: MdetrForObjectDetection, on_step: Callable[[str], None] = lambda step: None
) -> dict[str, ModelProto]:
    """Convert the three graphs of a model to ONNX, from which all exports are made.

    Args:
        model: The model, which is not changed.
        on_step: Called with the name of each step before it begins.

    Returns:
        Name of each graph -> the graph in float32.

    Raises:
        InvalidInputError: A layer cannot be exported.
    """
    traced: dict[str, ModelProto] = {}
    for graph in make_graphs(model):
        on_step(f"exporting the {graph.name} graph")
        traced[graph.name] = to_onnx(graph)
    return traced


def write_export(
    traced: Mapping[str, ModelProto],
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    folder: Path,
    export_format: ExportFormat,
    precision: ExportPrecision,
    calibration: Calibration | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Agreement | None:
    """Write the folder of an exported model.

    Args:
        traced: Name of each graph -> the graph in float32; see `trace`.
        model: The model that was traced.
        processor: Its processor.
        folder: Folder to create; it appears when everything is written.
        export_format: Format of the graphs.
        precision: Precision of the weights, and with int8 of the activations.
        calibration: Images and texts for int8.
        on_step: Called with the name of each step before it begins.

    Returns:
        With int8, its agreement with float32 on the images of the calibration.

    Raises:
        CheckpointError: The folder cannot be written.
    """
    folder = folder.expanduser().absolute()
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        agreement = _write_graphs(
            traced, processor, temporary, export_format, precision, calibration, on_step
        )

        # Write what describes the graphs last
        model.config.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        checksum = graphs_fingerprint(temporary, export_format)
        info = ExportInfo(export_format, precision, model.num_parameters(), version("mdetr"), checksum)
        info.write(temporary)
        (temporary / "README.md").write_text(_readme(info, model, folder.name, agreement), encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        os.replace(temporary, folder)
        return agreement
    except OSError as error:
        raise CheckpointError(
            f"The model could not be written to {folder} ({error}); make room, or choose another folder."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_graphs(
    traced: Mapping[str, ModelProto],
    processor: MdetrProcessor,
    folder: Path,
    export_format: ExportFormat,
    precision: ExportPrecision,
    calibration: Calibration | None,
    on_step: Callable[[str], None],
) -> Agreement | None:
    """Convert, quantize and write the graphs of a model; with int8, compare them with those in float32."""
    import onnx

    # Write them in float32, for OpenVINO to read and for the calibration to run
    work = folder / "float32"
    work.mkdir()
    for name, proto in traced.items():
        onnx.save(proto, graph_file(work, name, ExportFormat.ONNX))
    inputs = runner = agreement = None
    if precision is ExportPrecision.INT8:
        assert calibration is not None
        runner = graph_runner(work, ExportFormat.ONNX)
        inputs = CalibrationInputs(calibration, processor, runner)

    # Make those of the format and the precision
    halve = precision is not ExportPrecision.FP32  # with int8, the weights that stay floats
    for name, proto in traced.items():
        file = graph_file(folder, name, export_format)
        converted: Any = proto
        if export_format is ExportFormat.OPENVINO:
            on_step(f"converting the {name} graph")
            converted = to_openvino(graph_file(work, name, ExportFormat.ONNX))
        elif inputs is not None and name == "image":
            converted = with_folded_norms(graph_file(work, name, ExportFormat.ONNX))
        if inputs is not None:
            on_step(f"calibrating the {name} graph")
            converted = quantize(converted, name, inputs, sensitive_nodes(proto))
        if export_format is ExportFormat.OPENVINO:
            save_openvino(converted, file, halve)
        else:
            onnx.save(with_halved_weights(converted) if halve else converted, file)
        del converted  # OpenVINO's keeps its file open
    if calibration is not None and runner is not None:
        on_step("comparing the boxes of int8 and fp32")
        agreement = compare(calibration, processor, runner, graph_runner(folder, export_format))
    shutil.rmtree(work)
    return agreement


def _readme(info: ExportInfo, model: MdetrForObjectDetection, name: str, agreement: Agreement | None) -> str:
    """Describe an exported model to those who receive its folder."""
    compared = "" if agreement is None else f" {agreement}"
    origin = Path(model.name_or_path or "").name or "an MDETR model"
    return f"""# {name}

{origin}, exported by mdetr {info.version} for {info.format.runtime} in {info.precision.value}.{compared}

```python
from mdetr import Mdetr

model = Mdetr.from_pretrained("{name}")  # this folder
result = model.ground("photo.jpg", "a black cat next to a white dog")
```

The package for running it: `pip install 'mdetr[{info.format.value}]'`. On the command line:
`mdetr ground photo.jpg "a black cat" --model {name}`.

| file | contents |
| --- | --- |
| `{graph_file(Path(), "image", info.format)}` | pixels to image features |
| `{graph_file(Path(), "text", info.format)}` | tokens to text features |
| `{graph_file(Path(), "fusion", info.format)}` | the features of pairs of image and text to predictions |
| `export.json` | format, precision and files |
| `config.json`, `processor_config.json`, `tokenizer.json` | configuration of model and processor |
"""
