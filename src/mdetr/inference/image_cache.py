"""Cache of encoded images, which are found by the content of their files."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from mdetr.inference.encoded_image import EncodedImage


@dataclass(frozen=True)
class ImageKey:
    """What identifies an encoded image.

    Attributes:
        model: Name of the model that encodes it.
        sha256: Checksum of the content of its file.
    """

    model: str
    sha256: str

    @classmethod
    def of(cls, model: str, content: bytes) -> ImageKey:
        """Make the key of the content of a file."""
        return cls(model, hashlib.sha256(content).hexdigest())


class EncodedImageCache:
    """Keeps the encoded images that were used last.

    Args:
        max_images: Maximum number of images, of all models together.
    """

    def __init__(self, max_images: int) -> None:
        self._images: OrderedDict[ImageKey, EncodedImage] = OrderedDict()
        self._max_images = max_images

    def find(self, key: ImageKey) -> EncodedImage | None:
        """Find an image, and mark it as the one that was used last."""
        if key not in self._images:
            return None
        self._images.move_to_end(key)
        return self._images[key]

    def add(self, key: ImageKey, image: EncodedImage) -> None:
        """Add an image; the one that was used least recently is dropped if there are too many."""
        self._images[key] = image
        self._images.move_to_end(key)
        if len(self._images) > self._max_images:
            self._images.popitem(last=False)

    def drop_model(self, model: str) -> None:
        """Drop the images of a model."""
        for key in [key for key in self._images if key.model == model]:
            del self._images[key]

    def __len__(self) -> int:
        return len(self._images)
