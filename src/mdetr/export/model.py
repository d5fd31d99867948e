"""`ExportedModel`: the graphs of an exported model, with the methods of the original model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from mdetr.errors import CheckpointError, first_line
from mdetr.export.layout import ANSWER_PREFIX, FINE_MAP_PREFIX, ExportFormat, ExportInfo
from mdetr.export.onnx import OnnxGraphs
from mdetr.export.openvino import OpenVinoGraphs
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.model.mdetr import ImageFeatures, TextFeatures
from mdetr.processing.processor import MdetrProcessor

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

    Args:
        folder: Folder of the exported model.

    Raises:
        CheckpointError: A file is missing or damaged.
        MissingDependencyError: The library that runs the graphs is not installed.
    """

    device = torch.device("cpu")
    dtype = torch.float32

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

    def encode_image(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """Encode images; see `MdetrPreTrainedModel.encode_image`.

        Args:
            pixel_values: (I, 3, H, W) float32, normalized.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if omitted.

        Returns:
            Features of the images.
        """
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.int64)
        outputs = self._run("image", {"pixel_values": pixel_values.float(), "pixel_mask": pixel_mask.long()})
        fine_maps = [tensor for name, tensor in outputs.items() if name.startswith(FINE_MAP_PREFIX)]
        return ImageFeatures(
            outputs["image_features"].flatten(1, 2),
            outputs["image_positions"].flatten(1, 2),
            outputs["map_padding"],
            tuple(fine_maps),
        )

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextFeatures:
        """Encode texts; see `MdetrPreTrainedModel.encode_text`.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if omitted.

        Returns:
            Features of the texts.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inputs = {"input_ids": input_ids.long(), "attention_mask": attention_mask.long()}
        return TextFeatures(self._run("text", inputs)["text_features"], attention_mask == 0)

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> MdetrOutput:
        """Predict for B pairs of image and text; see `MdetrForObjectDetection.fuse`.

        Args:
            images: Features of the image of each pair.
            texts: Features of the text of each pair.

        Returns:
            The predictions of the last decoder layer.
        """
        shape = images.map_padding.shape[1:]
        inputs = {
            "image_features": images.sequence.unflatten(1, shape),
            "image_positions": images.positions.unflatten(1, shape),
            "map_padding": images.map_padding,
            "text_features": texts.sequence,
            "text_padding": texts.padding,
        }
        for index, fine_map in enumerate(images.fine_maps):
            inputs[f"{FINE_MAP_PREFIX}{index}"] = fine_map
        outputs = self._run("fusion", inputs)

        # Each answer head is an output of its own
        answers: dict[str, Tensor] = {}
        for name in [name for name in outputs if name.startswith(ANSWER_PREFIX)]:
            answers[name.removeprefix(ANSWER_PREFIX)] = outputs.pop(name)
        fields: dict[str, Any] = {**outputs, "answer_logits": answers or None}
        return MdetrOutput(**fields)

    def __call__(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_index: Tensor | None = None,
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
            images = images.select(image_index)
        output = self.fuse(images, self.encode_text(input_ids, attention_mask))
        output.input_ids = input_ids
        return output

    def _run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = {name: tensor.detach().contiguous().numpy() for name, tensor in inputs.items()}
        return {name: torch.from_numpy(array) for name, array in self.graphs.run(graph, arrays).items()}


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
