"""`ExportedModel`: the graphs of an exported model, with the methods of the original model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mdetr.errors import CheckpointError, first_line
from mdetr.export.layout import ANSWER_PREFIX, FINE_MAP_PREFIX, ExportFormat, ExportInfo
from mdetr.export.onnx import OnnxGraphs
from mdetr.export.openvino import OpenVinoGraphs
from mdetr.model.config import MdetrConfig
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.interface import MdetrOutput
from mdetr.model.tensors import Tensor, to_array
from mdetr.processing.processor import MdetrProcessor

Values = Tensor | NDArray[Any]
"""An array, or a tensor in its place."""

# Errors of transformers and tokenizers for files that are damaged
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)


class GraphRunner(Protocol):
    """The library that runs the graphs."""

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a graph: name -> array of each input, to the same of each output."""
        ...


def graph_runner(folder: Path, export_format: ExportFormat) -> GraphRunner:
    """Load the graphs in a folder.

    Args:
        folder: The folder.
        export_format: Format of the graphs.

    Returns:
        The graphs, ready to run.

    Raises:
        CheckpointError: A file is missing or damaged.
        MissingDependencyError: The library that runs the graphs is not installed.
    """
    return OnnxGraphs(folder) if export_format is ExportFormat.ONNX else OpenVinoGraphs(folder)


class ExportedModel:
    """An exported model, which encodes images and texts and fuses them like the model it was made from.

    It takes arrays of numpy, or tensors of torch, and gives arrays.

    Args:
        folder: Folder of the exported model.

    Raises:
        CheckpointError: A file is missing or damaged.
        MissingDependencyError: The library that runs the graphs is not installed.
    """

    device = "cpu"

    def __init__(self, folder: Path) -> None:
        self.info = ExportInfo.read(folder)
        try:
            self.config = MdetrConfig.from_pretrained(folder)
        except _DAMAGED as error:
            reason = first_line(error).rstrip(".")
            raise CheckpointError(
                f"The configuration in {folder} is damaged ({reason}); export the model again."
            ) from None
        self.name_or_path = str(folder)
        self.graphs = graph_runner(folder, self.info.format)

    @property
    def description(self) -> str:
        """The library and the precision that the model runs with."""
        return f"{self.info.format.runtime} {self.info.precision.value}"

    def num_parameters(self) -> int:
        """Number of parameters of the model that was exported."""
        return self.info.num_parameters

    def encode_image(self, pixel_values: Values, pixel_mask: Values | None = None) -> ImageFeatures:
        """Encode images; see `MdetrPreTrainedModel.encode_image`.

        Args:
            pixel_values: (I, 3, H, W) float32, normalized.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if omitted.

        Returns:
            Features of the images.
        """
        pixels = to_array(pixel_values).astype(np.float32, copy=False)
        mask = np.ones_like(pixels[:, 0]) if pixel_mask is None else to_array(pixel_mask)
        outputs = self._run("image", {"pixel_values": pixels, "pixel_mask": mask.astype(np.int64)})
        fine_maps = [array for name, array in outputs.items() if name.startswith(FINE_MAP_PREFIX)]
        return ImageFeatures(
            _in_a_row(outputs["image_features"]),
            _in_a_row(outputs["image_positions"]),
            outputs["map_padding"],
            tuple(fine_maps),
        )

    def encode_text(self, input_ids: Values, attention_mask: Values | None = None) -> TextFeatures:
        """Encode texts; see `MdetrPreTrainedModel.encode_text`.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if omitted.

        Returns:
            Features of the texts.
        """
        ids = to_array(input_ids).astype(np.int64)
        mask = np.ones_like(ids) if attention_mask is None else to_array(attention_mask).astype(np.int64)
        features = self._run("text", {"input_ids": ids, "attention_mask": mask})["text_features"]
        padding: Any = mask == 0
        return TextFeatures(features, padding)

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> MdetrOutput:
        """Predict for B pairs of image and text; see `MdetrForObjectDetection.fuse`.

        Args:
            images: Features of the image of each pair.
            texts: Features of the text of each pair.

        Returns:
            The predictions of the last decoder layer.
        """
        map_shape = (*images.map_padding.shape, -1)
        inputs: dict[str, Any] = {
            "image_features": images.sequence.reshape(map_shape),
            "image_positions": images.positions.reshape(map_shape),
            "map_padding": images.map_padding,
            "text_features": texts.sequence,
            "text_padding": texts.padding,
        }
        for index, fine_map in enumerate(images.fine_maps):
            inputs[f"{FINE_MAP_PREFIX}{index}"] = fine_map
        outputs = self._run("fusion", inputs)

        # Each answer head is an output of its own
        answers: dict[str, Any] = {}
        for name in [name for name in outputs if name.startswith(ANSWER_PREFIX)]:
            answers[name.removeprefix(ANSWER_PREFIX)] = outputs.pop(name)
        fields: dict[str, Any] = {**outputs, "answer_logits": answers or None}
        return MdetrOutput(**fields)

    def __call__(
        self,
        pixel_values: Values,
        pixel_mask: Values | None,
        input_ids: Values,
        attention_mask: Values | None = None,
        image_index: Values | None = None,
    ) -> MdetrOutput:
        """Detect in each text's image what the text mentions; see `MdetrForObjectDetection.forward`.

        Args:
            pixel_values: (I, 3, H, W) float32, normalized.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if None.
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if omitted.
            image_index: (B,) int64, the image of each text; image b for text b if omitted.

        Returns:
            The predictions of the last decoder layer.
        """
        images = self.encode_image(pixel_values, pixel_mask)
        if image_index is not None:
            images = images.select(to_array(image_index).tolist())
        output = self.fuse(images, self.encode_text(input_ids, attention_mask))
        output.input_ids = cast(Any, to_array(input_ids))
        return output

    def _run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.graphs.run(graph, {name: np.ascontiguousarray(inputs[name]) for name in inputs}))


def _in_a_row(feature_map: NDArray[np.float32]) -> Any:
    """Put the positions of maps (I, h, w, C) in one row, (I, h * w, C)."""
    images, _, _, channels = feature_map.shape
    return feature_map.reshape(images, -1, channels)


def load_exported(folder: Path) -> tuple[ExportedModel, MdetrProcessor]:
    """Load an exported model and its processor.

    Args:
        folder: Folder of the exported model.

    Returns:
        The model and its processor.

    Raises:
        CheckpointError: A file is missing or damaged.
        MissingDependencyError: The library that runs the graphs is not installed.
    """
    try:
        processor = MdetrProcessor.from_pretrained(folder)
    except _DAMAGED as error:
        reason = first_line(error).rstrip(".")
        raise CheckpointError(
            f"The processor in {folder} is damaged ({reason}); export the model again."
        ) from None
    return ExportedModel(folder), processor
