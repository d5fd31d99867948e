"""Quantization of graphs to int8, calibrated on one's own images and texts."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdetr.data.class_names import SYNONYMS
from mdetr.export.layout import import_library
from mdetr.export.model import GraphRunner
from mdetr.logs import quiet_loggers
from mdetr.processing.processor import MdetrProcessor

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_IMAGES = 100  # of a calibration; more take longer and change little
TEXTS_PER_IMAGE = 4

Arrays = dict[str, NDArray[Any]]

# What stays floats, because int8 changes the predictions most there and saves little time: the decoder, its
# queries and heads, the first layers of the backbone, and the products of activations in attention
_SENSITIVE = re.compile(
    r"model\.(box_head|token_head|referred_head|answers|proposal_head|queries|query_alignment|token_alignment"
    r"|mask_attention|decoder|backbone\.body\.(conv_stem|conv1|bn1|blocks\.[01]))\b"
    r"|scaled_dot_product_attention"
)
_SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the modules of a node


@dataclass(frozen=True)
class Calibration:
    """Images and texts like those that the model will see.

    Attributes:
        images: Image files.
        texts: Texts; by default the names of everyday objects.
    """

    images: Sequence[Path]
    texts: Sequence[str] = tuple(SYNONYMS)


class CalibrationInputs:
    """Inputs of the three graphs for the images and texts of a calibration.

    Args:
        calibration: The images and texts.
        processor: Processor of the model.
        runner: The graphs in float32; the features of images and texts are the inputs of the fusion.
    """

    def __init__(self, calibration: Calibration, processor: MdetrProcessor, runner: GraphRunner) -> None:
        self._images = _evenly(calibration.images, MAX_IMAGES)
        self._texts = list(calibration.texts)
        self.processor = processor
        self._runner = runner

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Arrays:
        """Inputs of the image graph: one image."""
        inputs = self.processor.image_processor.preprocess(self._images[index], return_tensors="np")
        return {name: inputs[name] for name in ("pixel_values", "pixel_mask")}

    def texts(self, index: int) -> list[str]:
        """The texts of an image."""
        start = index * TEXTS_PER_IMAGE
        return [self._texts[(start + offset) % len(self._texts)] for offset in range(TEXTS_PER_IMAGE)]

    def text(self, index: int) -> Arrays:
        """Inputs of the text graph: the texts of an image."""
        encoding = self.processor.tokenize(self.texts(index), "np")
        return {name: encoding[name] for name in ("input_ids", "attention_mask")}

    def fusion(self, index: int) -> Arrays:
        """Inputs of the fusion graph: one image, once with each of the texts."""
        texts = self.text(index)
        features = self._runner.run("image", self.image(index))
        inputs = {name: np.repeat(array, TEXTS_PER_IMAGE, axis=0) for name, array in features.items()}
        inputs |= self._runner.run("text", texts)
        inputs["text_padding"] = texts["attention_mask"] == 0
        return inputs


def quantize(model: Any, graph: str, inputs: CalibrationInputs, sensitive: Sequence[str]) -> Any:
    """Quantize a graph to int8: weights and activations, but of the text graph only the weights.

    The text graph takes little of the time, and its activations depend on the texts of the calibration.

    Args:
        model: The graph in float32, of ONNX or OpenVINO.
        graph: Name of the graph.
        inputs: Inputs of the graphs.
        sensitive: Names of nodes that stay in float32; see `sensitive_nodes`.

    Returns:
        The quantized graph, of the same library.

    Raises:
        MissingDependencyError: nncf is not installed.
    """
    with _quietly():
        nncf = import_library("nncf", "export")
    # OpenVINO makes several operations of some nodes, and adds to their names
    patterns = [f"^{re.escape(name)}(/.*)?$" for name in sensitive]
    with _quietly():
        if graph == "text":
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        return nncf.quantize(
            model,
            nncf.Dataset(range(len(inputs)), inputs.image if graph == "image" else inputs.fusion),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=None if graph == "image" else nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(patterns=patterns, validate=False),
        )


def sensitive_nodes(model: ModelProto) -> list[str]:
    """Find the nodes of modules that stay in float32.

    Args:
        model: A graph from the exporter, which notes the module of each node.

    Returns:
        Names of the nodes.
    """
    names: list[str] = []
    for node in model.graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES, "")
        if _SENSITIVE.search(scopes):
            names.append(node.name)
    return names


def _evenly(values: Sequence[Path], count: int) -> list[Path]:
    """Choose `count` values evenly from a sequence; all if there are fewer."""
    if len(values) <= count:
        return list(values)
    return [values[index * len(values) // count] for index in range(count)]


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the logs and the progress bars of NNCF."""
    with quiet_loggers("nncf", "torch.utils.cpp_extension"), redirect_stdout(io.StringIO()):
        yield
