"""OpenVINO: converting the graphs of a model, and running them on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mdetr.export.layout import GRAPH_NAMES, ExportFormat, check_inputs, graph_file, import_library
from mdetr.export.onnx import damaged_graph, num_threads

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"


class OpenVinoGraphs:
    """The graphs of an exported model in OpenVINO, on the CPU.

    Args:
        folder: Folder of the exported model.

    Raises:
        MissingDependencyError: openvino is not installed.
        CheckpointError: A file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        core = import_library("openvino", "openvino").Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads := num_threads():
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[str, Any] = {}
        for graph in GRAPH_NAMES:
            file = graph_file(folder, graph, ExportFormat.OPENVINO)
            try:
                self._compiled[graph] = core.compile_model(file, DEVICE, settings)
            except RuntimeError as error:
                raise damaged_graph(file, error) from None
            check_inputs(file, graph, [each.any_name for each in self._compiled[graph].inputs])
        self._of_thread = threading.local()

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a graph; threads may do so at the same time.

        Args:
            graph: One of `GRAPH_NAMES`.
            inputs: Name -> array of each input.

        Returns:
            Name -> array of each output.
        """
        # A request serves one thread at a time
        requests = self._of_thread.__dict__
        if graph not in requests:
            requests[graph] = self._compiled[graph].create_infer_request()
        results = requests[graph].infer(dict(inputs), share_inputs=True)
        return {output.any_name: results[output] for output in self._compiled[graph].outputs}


def to_openvino(onnx_file: Path) -> openvino.Model:
    """Convert a graph from ONNX to OpenVINO.

    Args:
        onnx_file: File of the graph.

    Returns:
        The model in float32.
    """
    model: openvino.Model = import_library("openvino", "openvino").convert_model(onnx_file)
    return model


def save_openvino(model: openvino.Model, file: Path, halve: bool) -> None:
    """Write a graph.

    Args:
        model: The graph.
        file: The .xml file; the weights go to a .bin file beside it.
        halve: Whether to store the weights in float16, which are converted to float32 when they are loaded.
    """
    import_library("openvino", "openvino").save_model(model, file, compress_to_fp16=halve)
