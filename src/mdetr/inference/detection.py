"""Detection by class name, with one prompt for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mdetr.data.prompts import class_prompt
from mdetr.errors import InvalidInputError
from mdetr.inference.batching import encode_image, encode_texts
from mdetr.inference.detector import Detector, inference_mode
from mdetr.inference.encoded_image import EncodedImage
from mdetr.model.features import TextFeatures
from mdetr.processing.array_processor import ArrayProcessor
from mdetr.processing.coordinates import Size
from mdetr.processing.detections import Detections
from mdetr.processing.images import ImageInput
from mdetr.processing.texts import as_texts, check_text


class ClassPrompts:
    """Class names that are encoded once, to detect their objects in any number of images."""

    def __init__(
        self, model: Detector, processor: ArrayProcessor, names: Sequence[str], batch_size: int
    ) -> None:
        """Encode the class names.

        Args:
            model: The model.
            processor: Its processor.
            names: Class names, such as "cat" or "bow_(weapon)", any number.
            batch_size: Number of names that the model processes at once.

        Raises:
            InvalidInputError: There is no name, a name is not a text, or a name is a duplicate.
        """
        names = as_texts(names)
        _check_names(names)
        if batch_size < 1:
            raise InvalidInputError(f"Expected a batch_size of at least 1, got {batch_size}.")
        self.names = tuple(names)
        self._model = model
        self._processor = processor

        # Put names of similar length into one batch, which keeps padding short
        order = sorted(range(len(names)), key=lambda index: len(names[index]))
        self._batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self._texts: list[TextFeatures] = []
        for batch in self._batches:
            texts = processor.tokenize_each([class_prompt(names[index]) for index in batch])
            self._texts.append(encode_texts(model, processor, texts))

    def detect(self, image: ImageInput | EncodedImage) -> Detections:
        """Detect the objects of all classes in one image, which is encoded once.

        Args:
            image: One image, as for `load_image`, or an encoded one.

        Returns:
            Every box of every class with its label, ordered by class; boxes may extend beyond the image.
        """
        encoded = encode_image(self._model, self._processor, image)

        # Predict the boxes of each class
        detections_of: dict[int, Detections] = {}
        for batch, texts in zip(self._batches, self._texts, strict=True):
            with inference_mode(self._model):
                output = self._model.fuse(encoded.features.select([0] * len(batch)), texts)
            detections = self._processor.post_process_boxes(output, [encoded.layout.given] * len(batch))
            detections_of.update(zip(batch, detections, strict=True))

        # Join them in the order of the names
        in_order = [detections_of[index] for index in range(len(self.names))]
        labels: list[str] = []
        for name, detections_of_class in zip(self.names, in_order, strict=True):
            labels += [name] * len(detections_of_class)
        return Detections(
            np.concatenate([detections.boxes_xyxy for detections in in_order]),
            np.concatenate([detections.scores for detections in in_order]),
            labels=tuple(labels),
        )


def _check_names(names: Sequence[str]) -> None:
    """Check that there are names, that each is a valid text, and that none is a duplicate."""
    if not names:
        raise InvalidInputError("There is no class name; give at least one.")
    for number, name in enumerate(names, start=1):
        if isinstance(name, str) and not name.strip():
            raise InvalidInputError(f"Class name {number} of {len(names)} is empty; leave it out.")
        check_text(name)
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise InvalidInputError(f"The class name {repeated!r} is a duplicate; give each name once.")


def merge_classes(detections: Detections, size: Size, threshold: float, max_overlap: float) -> Detections:
    """Select the boxes of all classes of an image by score, and suppress overlapping ones.

    Args:
        detections: The result of `ClassPrompts.detect`.
        size: (height, width) of the image, in pixels.
        threshold: Minimum score of a box, from 0 to 1.
        max_overlap: Maximum intersection over union of two boxes of a class, from 0 to 1; of two boxes above
            it, the one with the lower score is removed.

    Returns:
        The selected boxes, clipped to the image, best first.
    """
    # Select by score, clip to the image, and suppress overlapping boxes within each class
    detections = detections[detections.scores > np.float32(threshold)]
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    detections = replace(detections, boxes_xyxy=detections.boxes_xyxy.clip(0, limits))
    return detections.with_nms(max_overlap)
