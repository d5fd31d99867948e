"""Images as tensors, which augmentation and training take."""

from __future__ import annotations

import torch
from torch import Tensor

from mdetr.processing.images import load_image


def load_image_tensor(image: object) -> Tensor:
    """Read any image as a tensor.

    Args:
        image: Any image; see `load_image`.

    Returns:
        (3, H, W) uint8, RGB.

    Raises:
        InvalidInputError: It cannot be used; see `load_image`.
    """
    return torch.from_numpy(load_image(image)).permute(2, 0, 1).contiguous()
