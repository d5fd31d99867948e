"""ONNX: writing the graphs of a model, and running them in ONNX Runtime."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdetr.errors import CheckpointError, InvalidInputError, first_line
from mdetr.export.layout import (
    FINE_MAP_PREFIX,
    GRAPH_NAMES,
    ExportFormat,
    check_exists,
    check_inputs,
    graph_file,
    import_library,
)
from mdetr.files import temporary_path
from mdetr.logs import quiet_loggers

if TYPE_CHECKING:
    from onnx import ModelProto

    from mdetr.export.graphs import Graph

MIN_HALVED = 256  # elements; smaller tensors stay in float32 when the weights are halved


class OnnxGraphs:
    """The graphs of an exported model in ONNX Runtime, on the CPU.

    Args:
        folder: Folder of the exported model.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        CheckpointError: A file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        onnxruntime = import_library("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads()
        options.log_severity_level = 3  # errors only; they are raised, too
        # Each graph has threads of its own; those of one must not wait actively while the next one runs
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._sessions: dict[str, Any] = {}
        for graph in GRAPH_NAMES:
            file = graph_file(folder, graph, ExportFormat.ONNX)
            check_exists(file)
            try:
                self._sessions[graph] = onnxruntime.InferenceSession(
                    file, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the classes of its errors have no common base
                raise damaged_graph(file, error) from None
            check_inputs(file, graph, [each.name for each in self._sessions[graph].get_inputs()])

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a graph; threads may do so at the same time.

        Args:
            graph: One of `GRAPH_NAMES`.
            inputs: Name -> array of each input.

        Returns:
            Name -> array of each output.
        """
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def num_threads() -> int:
    """Number of threads to run graphs with: `OMP_NUM_THREADS`, as in torch; 0 for the default."""
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(value) if value.isdigit() else 0


def damaged_graph(file: Path, error: Exception) -> CheckpointError:
    """Make the error of a graph that cannot be read.

    Args:
        file: File of the graph.
        error: Error of the library.

    Returns:
        The error to raise.
    """
    reason = first_line(error).rstrip(".")
    return CheckpointError(f"{file} is damaged ({reason}); export the model again.")


def to_onnx(graph: Graph) -> ModelProto:
    """Convert a graph to ONNX.

    Args:
        graph: The graph.

    Returns:
        The ONNX model in float32.

    Raises:
        InvalidInputError: A layer of the model cannot be exported.
    """
    import torch

    # The exporter warns of names of axes that coincide, and logs its steps
    try:
        with quiet_loggers("torch.onnx", "onnxscript", "onnx_ir"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.module,
                tuple(graph.inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=_dynamic_shapes(graph),
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"The {graph.name} part of this model cannot be exported ({first_line(error)}); choose a model "
            "with another backbone or text encoder."
        ) from error
    assert program is not None
    model: ModelProto = program.model_proto
    _restore_same_padding(model, graph.same_convolutions)
    return model


def _dynamic_shapes(graph: Graph) -> tuple[Any, ...]:
    """The dynamic axes in the form of the arguments: those of `*fine_maps` are a tuple within."""
    fine_maps = tuple(dict(axes) for name, axes in graph.dynamic.items() if name.startswith(FINE_MAP_PREFIX))
    others = [dict(axes) for name, axes in graph.dynamic.items() if not name.startswith(FINE_MAP_PREFIX)]
    return (*others, fine_maps) if fine_maps else tuple(others)


def _restore_same_padding(model: ModelProto, convolutions: frozenset[str]) -> None:
    """Give convolutions the padding of TensorFlow; see `replace_same_padding`."""
    from onnx import helper

    restored = set()
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in convolutions:
            continue
        kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", "auto_pad")]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("auto_pad", "SAME_UPPER")])
        restored.add(node.input[1])
    if restored != convolutions:
        raise InvalidInputError(
            f"The padding of {sorted(convolutions - restored)[0]} cannot be exported; choose a model with "
            "another backbone."
        )


def with_folded_norms(file: Path) -> ModelProto:
    """Fold the norms of convolutions into their weights, as quantization needs it.

    Args:
        file: File of the graph in float32.

    Returns:
        The graph with fewer nodes; some have other names.
    """
    import onnx

    onnxruntime = import_library("onnxruntime", "onnx")
    folded = temporary_path(file)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    try:
        return onnx.load(folded)
    finally:
        folded.unlink()


def with_halved_weights(model: ModelProto) -> ModelProto:
    """Store the weights in float16, half the size; they are converted to float32 when the model is loaded.

    Args:
        model: The model in float32.

    Returns:
        A copy with weights in float16.

    Raises:
        InvalidInputError: A weight is too large for float16.
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    model = ModelProto.FromString(model.SerializeToString())
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        # Only matrices and filters; vectors may be the scales of weights in int8
        if tensor.data_type != TensorProto.FLOAT or values.size < MIN_HALVED or values.ndim < 2:
            continue
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        if not np.isfinite(halved).all():
            raise InvalidInputError(f"{tensor.name} has values too large for fp16; export with fp32 or int8.")
        name, stored = tensor.name, f"{tensor.name}_fp16"
        tensor.CopyFrom(numpy_helper.from_array(halved, stored))
        casts.append(helper.make_node("Cast", [stored], [name], f"{name}_to_fp32", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
