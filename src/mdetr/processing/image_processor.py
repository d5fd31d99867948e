"""Image processor: converts images to pixel tensors, and the model's output to boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from transformers import AutoImageProcessor, BaseImageProcessor
from transformers.image_processing_base import BatchFeature

from mdetr.errors import InvalidInputError
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.model.tensors import Tensor
from mdetr.processing.images import ImageInput, as_list, load_image
from mdetr.processing.layouts import resized_size
from mdetr.processing.post_processing import TargetSizes, post_process_object_detection
from mdetr.processing.resizing import resize_image

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_PUBLISHED_SIZE = MappingProxyType({"shortest_edge": 800, "longest_edge": 1333})


class MdetrImageProcessor(BaseImageProcessor):
    """Resizes, normalizes and pads images.

    Args:
        do_resize: Whether to resize images.
        size: {"shortest_edge": ..., "longest_edge": ...}, in pixels; None keeps the original sizes.
        image_mean: Mean of each channel, for values from 0 to 1.
        image_std: Standard deviation of each channel.
        pad_to_multiple: Multiple that the padded height and width are rounded up to, for fewer different
            shapes; None to pad only to the largest image of the batch.
        **kwargs: Further arguments of `BaseImageProcessor`.

    Source: arXiv 2104.12763, appendix A; the resizing is DETR's.
    """

    model_input_names = ["pixel_values", "pixel_mask"]  # noqa: RUF012 (as in the base class)
    size: dict[str, int] | None = dict(_PUBLISHED_SIZE)  # noqa: RUF012 (needed to save `size: null`)

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
        _check_settings(size, image_mean, image_std, pad_to_multiple)
        self.do_resize = do_resize
        self.size = None if size is None else dict(size)
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.pad_to_multiple = pad_to_multiple

    def preprocess(
        self,
        images: ImageInput | Sequence[ImageInput],
        *_: Any,
        do_resize: bool | None = None,
        return_tensors: str | None = "pt",
        **__: Any,
    ) -> BatchFeature:
        """Convert images to pixel_values (I, 3, H, W) float32 and pixel_mask (I, H, W), 1 on the image.

        Args:
            images: I images of any kind; see `load_image`.
            do_resize: Whether to resize images; by default as the configuration says.
            return_tensors: "pt" for tensors of torch, "np" for arrays of numpy.

        Returns:
            pixel_values and pixel_mask.

        Raises:
            InvalidInputError: An image cannot be used.
        """
        loaded = [load_image(image) for image in as_list(images)]
        if do_resize is not False:
            loaded = [self.resize(image) for image in loaded]
        return BatchFeature(self.pad(loaded), tensor_type=return_tensors or "pt")

    def resize(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "resized_height resized_width 3"]:
        """Resize an image (bilinear, antialiased), if the configuration says so."""
        if not self.do_resize or self.size is None:
            return image
        height, width, _ = image.shape
        size = resized_size((height, width), self.size["shortest_edge"], self.size.get("longest_edge"))
        return resize_image(image, size)

    def pad(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> dict[str, NDArray[Any]]:
        """Normalize images, and pad them at the right and bottom to the size of the largest.

        Args:
            images: I images (H, W, 3).

        Returns:
            pixel_values (I, 3, H, W) float32 and pixel_mask (I, H, W) int64, 1 on the image.
        """
        # Allocate the batch
        height = self._round_up(max(image.shape[0] for image in images))
        width = self._round_up(max(image.shape[1] for image in images))
        mean = np.array(self.image_mean, np.float32).reshape(3, 1, 1)
        std = np.array(self.image_std, np.float32).reshape(3, 1, 1)
        pixel_values = np.zeros((len(images), 3, height, width), np.float32)
        pixel_mask = np.zeros((len(images), height, width), np.int64)

        # Fill in each image
        for image, values, mask in zip(images, pixel_values, pixel_mask, strict=True):
            h, w = image.shape[:2]
            normalized = values[:, :h, :w]
            normalized[:] = image.transpose(2, 0, 1)
            normalized /= 255
            normalized -= mean
            normalized /= std
            mask[:h, :w] = 1
        return {"pixel_values": pixel_values, "pixel_mask": pixel_mask}

    def _round_up(self, size: int) -> int:
        multiple = self.pad_to_multiple or 1
        return math.ceil(size / multiple) * multiple

    def post_process_object_detection(
        self,
        outputs: MdetrOutput,
        threshold: float = 0.1,
        target_sizes: TargetSizes | None = None,
    ) -> list[dict[str, Tensor]]:
        """Convert the output to boxes of each text, best first, as users of DETR know it.

        Args:
            outputs: Output of the model for B texts.
            threshold: Minimum score, 1 - p(no object), of a box.
            target_sizes: (height, width) of each text's original image, in pixels, also as a tensor (B, 2);
                by default boxes are relative to the image, from 0 to 1.

        Returns:
            For each text "scores" (n,) float32, "labels" (n,) int64, the position of the most probable token
            of each box, and "boxes" (n, 4) float32, x0, y0, x1, y1, clipped to the image.

        Raises:
            InvalidInputError: The number of sizes differs from the number of texts.
        """
        return post_process_object_detection(outputs, threshold, target_sizes)


AutoImageProcessor.register(
    MdetrConfig,
    image_processor_classes={"pil": MdetrImageProcessor, "torchvision": MdetrImageProcessor},
    exist_ok=True,
)


def is_positive(value: object) -> bool:
    """Return whether a value is a positive whole number."""
    return type(value) is int and value > 0


def _check_settings(
    size: object, image_mean: Sequence[float], image_std: Sequence[float], pad_to_multiple: object
) -> None:
    """Check what a file of a processor may have garbled, and raise `InvalidInputError`."""
    if size is not None and not (
        isinstance(size, Mapping)
        and is_positive(size.get("shortest_edge"))
        and (size.get("longest_edge") is None or is_positive(size["longest_edge"]))
    ):
        raise InvalidInputError(
            f'size must have a "shortest_edge", and may have a "longest_edge", in pixels, got {size!r:.60}.'
        )
    for name, values, lowest in (("image_mean", image_mean, -math.inf), ("image_std", image_std, 0)):
        are_numbers = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
        if not are_numbers or len(values) != 3 or not all(lowest < value < math.inf for value in values):
            kind = "positive numbers" if lowest == 0 else "numbers"
            raise InvalidInputError(f"{name} must be three {kind}, got {values!r:.60}.")
    if pad_to_multiple is not None and not is_positive(pad_to_multiple):
        raise InvalidInputError(
            f"pad_to_multiple must be a positive whole number, got {pad_to_multiple!r:.60}."
        )
