"""OpenVINO: converting the graphs of a model, and running them on the CPU."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mdetr.export.compiled import compilation_cache
from mdetr.export.layout import (
    GRAPH_NAMES,
    ExportFormat,
    check_exists,
    check_inputs,
    graph_file,
    graph_files,
    import_library,
)
from mdetr.export.onnx import damaged_graph, num_threads

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"


class OpenVinoGraphs:
    """The graphs of an exported model in OpenVINO, on the CPU.

    Args:
        folder: Folder of the exported model.
        fingerprint: Checksum of the graphs, under which they are kept when they are compiled; None to compile
            them anew.

    Raises:
        MissingDependencyError: openvino is not installed.
        CheckpointError: A file is missing or damaged.
    """

    def __init__(self, folder: Path, fingerprint: str | None = None) -> None:
        openvino = import_library("openvino", "openvino")
        core = openvino.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads := num_threads():
            settings["INFERENCE_NUM_THREADS"] = threads
        files = graph_files(folder, ExportFormat.OPENVINO)
        for file in files:
            check_exists(file)
        caching: AbstractContextManager[Path | None] = nullcontext()
        if fingerprint is not None:
            caching = compilation_cache(_compilation_key(core, openvino.__version__, files, fingerprint))
        with caching as cache:
            if cache is not None:
                settings["CACHE_DIR"] = str(cache)
            self._compiled = {graph: _compile(core, folder, graph, settings) for graph in GRAPH_NAMES}
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


def _compile(core: openvino.Core, folder: Path, graph: str, settings: dict[str, Any]) -> Any:
    """Compile a graph, or load it from the cache that the settings name."""
    file = graph_file(folder, graph, ExportFormat.OPENVINO)
    try:
        compiled = core.compile_model(file, DEVICE, settings)
    except RuntimeError as error:
        raise damaged_graph(file, error) from None
    check_inputs(file, graph, [each.any_name for each in compiled.inputs])
    return compiled


def _compilation_key(core: openvino.Core, version: str, files: Sequence[Path], fingerprint: str) -> str:
    """Identify compiled graphs by what they depend on; files that were replaced have another size or date."""
    parts = [fingerprint, version, core.get_property(DEVICE, "FULL_DEVICE_NAME"), str(num_threads())]
    for file in files:
        status = file.stat()
        parts.append(f"{file.absolute()} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
