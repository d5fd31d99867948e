"""`EncodedImage`: an image with its features, for any number of queries."""

from __future__ import annotations

from dataclasses import dataclass, field

from mdetr.errors import InvalidInputError
from mdetr.inference.detector import Detector
from mdetr.inference.stored_image import Picture
from mdetr.model.features import ImageFeatures
from mdetr.processing.coordinates import Size
from mdetr.processing.layouts import ImageLayout


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image and its features from the backbone of a model.

    Attributes:
        picture: The original image, or a reference to its file.
        layout: Sizes of the image before and after resizing.
        features: Output of the backbone for this image.
        model: Model that encoded the image.
    """

    picture: Picture = field(repr=False)
    layout: ImageLayout
    features: ImageFeatures = field(repr=False)
    model: Detector = field(repr=False)

    @property
    def resized(self) -> Size:
        """(height, width) after resizing, in pixels."""
        return self.layout.resized

    def check_model(self, model: Detector) -> None:
        """Check that the image was encoded by this model.

        Args:
            model: The model of a query.

        Raises:
            InvalidInputError: The image was encoded by another model.
        """
        if model is not self.model:
            raise InvalidInputError(
                "The image was encoded by another model; encode it with encode_image of this one."
            )
