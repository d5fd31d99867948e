"""`ExportedModel`: the graphs of an exported model, with the methods of the original model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from mdetr.checkpoints.abilities import read_config
from mdetr.errors import CheckpointError, first_line
from mdetr.export.layout import ANSWER_PREFIX, FINE_MAP_PREFIX, ExportFormat, ExportInfo
from mdetr.export.onnx import OnnxGraphs
from mdetr.export.openvino import OpenVinoGraphs
from mdetr.export.processor import ExportedProcessor
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.tensors import Tensor, to_array

if TYPE_CHECKING:
    from mdetr.model.config import MdetrConfig

Values = Tensor | NDArray[Any]
"""An array, or a tensor in its place."""

# Errors of transformers for a configuration that is damaged
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)


@dataclass
class ExportedOutput:
    """Output of an exported model; the fields are those of `MdetrOutput`, as arrays.

    Attributes:
        logits: (B, Q, 256) over token positions; the last position is "no object".
        pred_boxes: (B, Q, 4) float32, center x, center y, width, height, relative to each unpadded image.
        query_embeddings: (B, Q, 64), unit length.
        token_embeddings: (B, L, 64), unit length.
        referred_logits: (B, Q), whether the text as a whole refers to the box.
        answer_logits: Name of each answer head -> (B, n).
        pred_masks: (B, Q, h, w) logits.
        input_ids: (B, L) int64, the tokens as given.
    """

    logits: Float[Tensor, "batch queries positions"] | None = None
    pred_boxes: Float[Tensor, "batch queries 4"] | None = None
    query_embeddings: Float[Tensor, "batch queries aligned"] | None = None
    token_embeddings: Float[Tensor, "batch tokens aligned"] | None = None
    referred_logits: Float[Tensor, "batch queries"] | None = None
    answer_logits: dict[str, Float[Tensor, "batch _"]] | None = None
    pred_masks: Float[Tensor, "batch queries mask_height mask_width"] | None = None
    input_ids: Int[Tensor, "batch tokens"] | None = None


class GraphRunner(Protocol):
    """The library that runs the graphs."""

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a graph: name -> array of each input, to the same of each output."""
        ...


def graph_runner(folder: Path, export_format: ExportFormat, fingerprint: str | None = None) -> GraphRunner:
    """Load the graphs in a folder.

    Args:
        folder: The folder.
        export_format: Format of the graphs.
        fingerprint: Checksum of the graphs, to keep what OpenVINO compiles for the next time; None not to.

    Returns:
        The graphs, ready to run.

    Raises:
        CheckpointError: A file is missing or damaged.
        MissingDependencyError: The library that runs the graphs is not installed.
    """
    if export_format is ExportFormat.ONNX:
        return OnnxGraphs(folder)
    return OpenVinoGraphs(folder, fingerprint)


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
        self.config_fields = read_config(folder)
        self.name_or_path = str(folder)
        self._folder = folder.absolute()
        self.graphs = graph_runner(folder, self.info.format, self.info.fingerprint)

    def __reduce__(self) -> tuple[type[ExportedModel], tuple[Path]]:
        """Let a copy, also in another process, load the graphs from the same folder."""
        return type(self), (self._folder,)

    @cached_property
    def config(self) -> MdetrConfig:
        """The configuration of the model; reading it needs transformers, which running the model does not.

        Returns:
            The configuration.

        Raises:
            CheckpointError: The configuration is damaged.
        """
        from mdetr.model.config import MdetrConfig

        try:
            return MdetrConfig.from_pretrained(self.name_or_path)
        except _DAMAGED as error:
            reason = first_line(error).rstrip(".")
            raise CheckpointError(
                f"The configuration in {self.name_or_path} is damaged ({reason}); export the model again."
            ) from None

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

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> ExportedOutput:
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
        return ExportedOutput(**fields)

    def __call__(
        self,
        pixel_values: Values,
        pixel_mask: Values | None,
        input_ids: Values,
        attention_mask: Values | None = None,
        image_index: Values | None = None,
    ) -> ExportedOutput:
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


def load_exported(folder: Path) -> tuple[ExportedModel, ExportedProcessor]:
    """Load an exported model and its processor.

    Args:
        folder: Folder of the exported model.

    Returns:
        The model and its processor.

    Raises:
        CheckpointError: A file is missing or damaged.
        MissingDependencyError: The library that runs the graphs is not installed.
    """
    processor = ExportedProcessor(folder)
    return ExportedModel(folder), processor
