"""Image processor: converts images to pixel tensors, and the model's output to boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoImageProcessor, BaseImageProcessor
from transformers.image_processing_base import BatchFeature

from mdetr.model.config import MdetrConfig
from mdetr.model.predictions import Predictions
from mdetr.model.tensors import Tensor, import_torch
from mdetr.processing.images import ImageInput, as_list, load_image
from mdetr.processing.pixels import IMAGENET_MEAN, IMAGENET_STD, PUBLISHED_SIZE, PixelProcessor
from mdetr.processing.post_processing import TargetSizes, post_process_object_detection


class MdetrImageProcessor(PixelProcessor, BaseImageProcessor):
    """Resizes, normalizes and pads images, as an image processor of transformers.

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
    size: dict[str, int] | None = dict(PUBLISHED_SIZE)  # noqa: RUF012 (needed to save `size: null`)

    def __init__(
        self,
        do_resize: bool = True,
        size: Mapping[str, int] | None = PUBLISHED_SIZE,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        pad_to_multiple: int | None = None,
        **kwargs: Any,
    ) -> None:
        BaseImageProcessor.__init__(self, **kwargs)
        PixelProcessor.__init__(self, do_resize, size, image_mean, image_std, pad_to_multiple)

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
        if return_tensors in ("pt", None):
            import_torch()  # which says what to do where it is not installed
        loaded = [load_image(image) for image in as_list(images)]
        if do_resize is not False:
            loaded = [self.resize(image) for image in loaded]
        return BatchFeature(self.pad(loaded), tensor_type=return_tensors or "pt")

    def post_process_object_detection(
        self,
        outputs: Predictions,
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
