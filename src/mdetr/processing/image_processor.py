"""The image processor: images to pixel tensors, and the model's output to boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv
from transformers import AutoImageProcessor, BaseImageProcessor
from transformers.image_processing_base import BatchFeature

from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.processing.images import ImageInput, as_list, load_image, resized_size
from mdetr.processing.post_processing import TargetSizes, post_process_object_detection

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_PUBLISHED_SIZE = MappingProxyType({"shortest_edge": 800, "longest_edge": 1333})


class MdetrImageProcessor(BaseImageProcessor):
    """Resizes, normalizes and pads images.

    Args:
        do_resize: whether images are resized.
        size: {"shortest_edge": ..., "longest_edge": ...}; None keeps the original sizes.
        image_mean, image_std: per channel, of values in 0..1.
        pad_to_multiple: the padded height and width are made multiples of this, for stable shapes; None for
            no more padding than the largest image of the batch needs.

    Source: arXiv 2104.12763, appendix A; the resizing is DETR's.
    """

    model_input_names = ["pixel_values", "pixel_mask"]  # noqa: RUF012 (the base class's own form)
    size: dict[str, int] | None = dict(_PUBLISHED_SIZE)  # noqa: RUF012 (so that `size: null` is saved)

    def __init__(
        self,
        do_resize: bool = True,
        size: Mapping[str, int] | None = _PUBLISHED_SIZE,
        image_mean: Sequence[float] = _IMAGENET_MEAN,
        image_std: Sequence[float] = _IMAGENET_STD,
        pad_to_multiple: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.do_resize = do_resize
        self.size = None if size is None else dict(size)
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.pad_to_multiple = pad_to_multiple

    def preprocess(
        self, images: ImageInput | Sequence[ImageInput], *_: Any, do_resize: bool | None = None, **__: Any
    ) -> BatchFeature:
        """One image or several -> pixel_values (I, 3, H, W) float32, pixel_mask (I, H, W), 1 on the image."""
        return self.pad(
            [
                self.resize(image) if do_resize is not False else image
                for image in map(load_image, as_list(images))
            ]
        )

    def resize(self, image: Tensor) -> Tensor:
        """An image (3, H, W) uint8, resized (bilinear, antialiased) where the configuration asks for it."""
        if not self.do_resize or self.size is None:
            return image
        height, width = resized_size(
            (image.shape[-2], image.shape[-1]), self.size["shortest_edge"], self.size.get("longest_edge")
        )
        return tv.resize(image, [height, width], tv.InterpolationMode.BILINEAR, antialias=True)

    def pad(self, images: Sequence[Tensor]) -> BatchFeature:
        """Normalize images (3, h, w) uint8 and pad them at the right and bottom to the largest."""
        multiple = self.pad_to_multiple or 1
        height, width = (
            -(-max(image.shape[axis] for image in images) // multiple) * multiple for axis in (-2, -1)
        )
        mean = torch.tensor(self.image_mean).view(3, 1, 1)
        std = torch.tensor(self.image_std).view(3, 1, 1)
        pixel_values = torch.zeros(len(images), 3, height, width)
        pixel_mask = torch.zeros(len(images), height, width, dtype=torch.int64)
        for image, values, mask in zip(images, pixel_values, pixel_mask, strict=True):
            h, w = image.shape[-2:]
            values[:, :h, :w] = image.float().div_(255).sub_(mean).div_(std)
            mask[:h, :w] = 1
        return BatchFeature({"pixel_values": pixel_values, "pixel_mask": pixel_mask})

    def post_process_object_detection(
        self,
        outputs: MdetrOutput,
        threshold: float = 0.1,
        target_sizes: TargetSizes | None = None,
    ) -> list[dict[str, Tensor]]:
        """The boxes that were found for each text, best first, whatever their words.

        Args:
            outputs: The model's, for B texts.
            threshold: A box is kept if its score, 1 - p(no object), is above this.
            target_sizes: (height, width) of each text's image as given, in pixels, also as a tensor (B, 2);
                if left out, boxes are relative to the image, from 0 to 1.

        Returns:
            Per text "scores" (n,) float32, "labels" (n,) int64, the position of the likeliest token of each,
            and "boxes" (n, 4) float32, x0, y0, x1, y1, cut at the border of the image.

        Raises:
            InvalidInputError: There are more or fewer sizes than texts.
        """
        return post_process_object_detection(outputs, threshold, target_sizes)


AutoImageProcessor.register(
    MdetrConfig,
    image_processor_classes={"pil": MdetrImageProcessor, "torchvision": MdetrImageProcessor},
    exist_ok=True,
)
