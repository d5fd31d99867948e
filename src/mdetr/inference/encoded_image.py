"""`EncodedImage`: an image with its features, for any number of queries."""

from __future__ import annotations

from dataclasses import dataclass, field

from mdetr.errors import InvalidInputError
from mdetr.inference.detector import Detector
from mdetr.inference.fingerprint import fingerprint
from mdetr.inference.stored_image import Picture
from mdetr.model.features import ImageFeatures
from mdetr.processing.coordinates import Size
from mdetr.processing.layouts import ImageLayout


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image and its features from the backbone of a model; it can be copied and pickled.

    Attributes:
        picture: The original image, or a reference to its file.
        layout: Sizes of the image before and after resizing.
        features: Output of the backbone for this image.
        model: Fingerprint of the model that encoded the image.
    """

    picture: Picture = field(repr=False)
    layout: ImageLayout
    features: ImageFeatures = field(repr=False)
    model: str = field(repr=False)

    @property
    def resized(self) -> Size:
        """(height, width) after resizing, in pixels."""
        return self.layout.resized

    def check_use(self, model: Detector, channel_order: str) -> None:
        """Check that the image was encoded by a model, and that its channels are not to be reordered.

        Args:
            model: The model of a query, or a copy of it.
            channel_order: The channel order of the query, "rgb" or "bgr".

        Raises:
            InvalidInputError: The image was encoded by another model, or the order is not "rgb".
        """
        if fingerprint(model) != self.model:
            raise InvalidInputError(
                "The image was encoded by another model; encode it with encode_image of this one."
            )
        if channel_order != "rgb":
            raise InvalidInputError(
                f"channel_order={channel_order!r} has no effect on an image that is encoded already; give it "
                "to encode_image."
            )
