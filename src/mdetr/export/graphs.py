"""The three graphs of an exported model: image, text, and fusion with all heads.

They are split where `Mdetr` splits its work, so that an image with many texts is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim

from mdetr.export.layout import ANSWER_PREFIX, FINE_MAP_PREFIX
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.interface import MdetrOutput
from mdetr.modeling import MdetrForObjectDetection

_EXAMPLE_SIZE = 128, 160  # pixels of the images that the graphs are traced with; the size is dynamic
_EXAMPLE_TOKENS = 7


@dataclass(frozen=True)
class Graph:
    """A part of the model, and what an exporter needs to trace it.

    Attributes:
        name: "image", "text" or "fusion".
        module: The part; it takes and returns tensors only.
        inputs: Example of each input by name, in the order of the arguments.
        outputs: Names of the outputs, in order.
        dynamic: Name of each input -> its dynamic axes by index.
        same_convolutions: Names of the weights of convolutions whose padding depends on the image's size; see
            `replace_same_padding`.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    dynamic: Mapping[str, Mapping[int, Any]]
    same_convolutions: frozenset[str] = frozenset()


class ImageGraph(nn.Module):
    """The backbone and its projection: `encode_image`, with the positions of the map in two dimensions."""

    def __init__(self, model: MdetrForObjectDetection) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            pixel_values: (I, 3, H, W) float32, normalized.
            pixel_mask: (I, H, W) int64, 1 on the image, 0 on padding.

        Returns:
            Features and positions (I, h, w, C), padding (I, h, w), and the finer maps, if any.
        """
        features = self.model.encode_image(pixel_values, pixel_mask)
        shape = features.map_padding.shape[1:]
        return (
            features.sequence.unflatten(1, shape),
            features.positions.unflatten(1, shape),
            features.map_padding,
            *features.fine_maps,
        )


class TextGraph(nn.Module):
    """The text encoder and its projection: `encode_text`."""

    def __init__(self, model: MdetrForObjectDetection) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts: input_ids and attention_mask (B, L) int64 to features (B, L, C)."""
        return self.model.encode_text(input_ids, attention_mask).sequence


class FusionGraph(nn.Module):
    """The joint transformer and all heads: `fuse`."""

    def __init__(self, model: MdetrForObjectDetection) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image_features: Tensor,
        image_positions: Tensor,
        map_padding: Tensor,
        text_features: Tensor,
        text_padding: Tensor,
        *fine_maps: Tensor,
    ) -> tuple[Tensor, ...]:
        """Predict for B pairs of image and text.

        Args:
            image_features: (B, h, w, C).
            image_positions: (B, h, w, C).
            map_padding: (B, h, w) bool, true on padding.
            text_features: (B, L, C).
            text_padding: (B, L) bool, true on padding.
            *fine_maps: Finer maps of the backbone, coarse to fine, if the model predicts masks.

        Returns:
            The values of `named_predictions`.
        """
        named = self.named_predictions(
            image_features, image_positions, map_padding, text_features, text_padding, *fine_maps
        )
        return tuple(named.values())

    def named_predictions(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Predict from the inputs of `forward`: name of an output of the graph -> tensor, of all heads."""
        image_features, image_positions, map_padding, text_features, text_padding, *fine_maps = inputs
        images = ImageFeatures(
            image_features.flatten(1, 2), image_positions.flatten(1, 2), map_padding, tuple(fine_maps)
        )
        output = self.model.fuse(images, TextFeatures(text_features, text_padding))
        return predictions(output)


def predictions(output: MdetrOutput) -> dict[str, Tensor]:
    """Name the predictions of the last decoder layer; each answer head is one of them.

    Args:
        output: Output of the model.

    Returns:
        Name of the graph's output -> tensor, without what the model lacks.
    """
    named = {
        name: getattr(output, name)
        for name in ("logits", "pred_boxes", "query_embeddings", "token_embeddings", "referred_logits")
    }
    for name, logits in (output.answer_logits or {}).items():
        named[f"{ANSWER_PREFIX}{name}"] = logits
    named["pred_masks"] = output.pred_masks
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def make_graphs(model: MdetrForObjectDetection) -> tuple[Graph, Graph, Graph]:
    """Split a copy of a model into its three graphs.

    Args:
        model: The model, which is not changed.

    Returns:
        The image, text and fusion graphs, in float32 on the CPU.
    """
    model = deepcopy(model).eval().requires_grad_(False)
    nn.Module.to(model, "cpu", torch.float32)  # PreTrainedModel's own `to` is typed as if it took a model
    same = replace_same_padding(model)
    image = _image_graph(model, frozenset(f"model.{name}.weight" for name in same))
    text = _text_graph(model)
    return image, text, _fusion_graph(model, image, text)


def replace_same_padding(module: nn.Module, prefix: str = "") -> list[str]:
    """Give convolutions with TensorFlow's padding a constant padding, with the same size of the output.

    That padding depends on the size of the image in a way that `torch.export` cannot express. ONNX has a name
    for it, `SAME_UPPER`, which the exporter gives these convolutions afterwards.

    Args:
        module: Module whose children are replaced.
        prefix: Name of the module within the model, with a dot at its end.

    Returns:
        Names of the convolutions.
    """
    names: list[str] = []
    for name, child in list(module.named_children()):
        if not isinstance(child, Conv2dSame):
            names += replace_same_padding(child, f"{prefix}{name}.")
            continue
        height, width = (
            size // 2 * dilation for size, dilation in zip(child.kernel_size, child.dilation, strict=True)
        )
        constant = nn.Conv2d(
            child.in_channels,
            child.out_channels,
            child.kernel_size,  # type: ignore[arg-type]
            child.stride,  # type: ignore[arg-type]
            (height, width),
            child.dilation,  # type: ignore[arg-type]
            child.groups,
            child.bias is not None,
        )
        constant.weight, constant.bias = child.weight, child.bias
        setattr(module, name, constant)
        names.append(f"{prefix}{name}")
    return names


def _image_graph(model: MdetrForObjectDetection, same_convolutions: frozenset[str]) -> Graph:
    """The image graph, with a dynamic number and size of images."""
    images, height, width = Dim("images", min=1), Dim("height", min=32), Dim("width", min=32)
    module = ImageGraph(model).eval()
    inputs = {
        "pixel_values": torch.randn(2, 3, *_EXAMPLE_SIZE, generator=torch.Generator().manual_seed(0)),
        "pixel_mask": torch.ones(2, *_EXAMPLE_SIZE, dtype=torch.long),
    }
    fine_maps = [f"{FINE_MAP_PREFIX}{index}" for index in range(len(_run(module, inputs)) - 3)]
    return Graph(
        name="image",
        module=module,
        inputs=inputs,
        outputs=("image_features", "image_positions", "map_padding", *fine_maps),
        dynamic={
            "pixel_values": {0: images, 2: height, 3: width},
            "pixel_mask": {0: images, 1: height, 2: width},
        },
        same_convolutions=same_convolutions,
    )


def _text_graph(model: MdetrForObjectDetection) -> Graph:
    """The text graph, with a dynamic number and length of texts."""
    axes = {0: Dim("texts", min=1), 1: Dim("tokens", min=2)}
    ids = torch.arange(2 * _EXAMPLE_TOKENS).view(2, -1) + 5
    return Graph(
        name="text",
        module=TextGraph(model).eval(),
        inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        outputs=("text_features",),
        dynamic={"input_ids": axes, "attention_mask": axes},
    )


def _fusion_graph(model: MdetrForObjectDetection, image: Graph, text: Graph) -> Graph:
    """The fusion graph, with a dynamic number of pairs, size of the maps and length of texts."""
    pairs, tokens = Dim("pairs", min=1), Dim("tokens", min=2)
    height, width = Dim("map_height", min=2), Dim("map_width", min=2)

    # Its inputs are the outputs of the other graphs
    inputs = dict(zip(image.outputs, _run(image.module, image.inputs), strict=True))
    dynamic: dict[str, dict[int, Any]] = {name: {0: pairs, 1: height, 2: width} for name in inputs}
    fine_maps = [name for name in inputs if name.startswith(FINE_MAP_PREFIX)]
    for name in fine_maps:
        dynamic[name] = {0: pairs, 2: Dim(f"{name}_height", min=2), 3: Dim(f"{name}_width", min=2)}
    (text_features,) = _run(text.module, text.inputs)
    inputs |= {"text_features": text_features, "text_padding": text.inputs["attention_mask"] == 0}
    dynamic |= {"text_features": {0: pairs, 1: tokens}, "text_padding": {0: pairs, 1: tokens}}

    # Its outputs depend on the heads of the model
    names = ("image_features", "image_positions", "map_padding", "text_features", "text_padding", *fine_maps)
    inputs = {name: inputs[name] for name in names}
    module = FusionGraph(model).eval()
    with torch.no_grad():
        outputs = tuple(module.named_predictions(*inputs.values()))
    return Graph("fusion", module, inputs, outputs, {name: dynamic[name] for name in names})


def _run(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Run a graph on its examples."""
    with torch.no_grad():
        outputs = module(*inputs.values())
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
