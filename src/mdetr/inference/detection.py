"""Detection by class name: one prompt a class, an image encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torchvision.ops import batched_nms

from mdetr.data.prompts import class_prompt
from mdetr.errors import InvalidInputError
from mdetr.inference.asking import LoadedImage, encode_images, encode_texts, load_for_model
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.detections import Detections
from mdetr.processing.images import ImageInput
from mdetr.processing.processor import MdetrProcessor
from mdetr.processing.texts import as_texts, check_text


class ClassPrompts:
    """The encoded names of some classes, which are asked of one image after the other."""

    def __init__(
        self, model: MdetrForObjectDetection, processor: MdetrProcessor, names: Sequence[str], batch_size: int
    ) -> None:
        """Encode the names, such as "cat" or "bow_(weapon)"; batch_size: how many the model sees at once.

        Raises:
            InvalidInputError: there is no name, one is not text, or is a duplicate.
        """
        names = as_texts(names)
        _check_names(names)
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1; found {batch_size}.")
        self.names = tuple(names)
        self._model = model
        self._processor = processor
        # Names of one length share a batch, so that little is padding.
        order = sorted(range(len(names)), key=lambda place: len(names[place]))
        self._batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self._texts = [
            encode_texts(model, processor, processor.tokenize_each([class_prompt(names[n]) for n in batch]))
            for batch in self._batches
        ]

    def find(self, image: ImageInput) -> Detections:
        """Find the things of all classes in one image, as `find_in`; the image is as for `load_image`."""
        return self.find_in(load_for_model(self._processor, image))

    @torch.inference_mode()
    def find_in(self, loaded: LoadedImage) -> Detections:
        """Find the things of all classes in one image, which is encoded once.

        Returns:
            Every box of every class, class after class, with its label; boxes may leave the image.
        """
        (place,), features = encode_images(self._model, self._processor, [loaded])
        found: dict[int, Detections] = {}
        for batch, texts in zip(self._batches, self._texts, strict=True):
            shared = features.select(torch.zeros(len(batch), dtype=torch.long, device=self._model.device))
            output = self._model.fuse(shared, texts)
            of_batch = self._processor.post_process_boxes(output, [place.given] * len(batch))
            found.update(zip(batch, of_batch, strict=True))
        in_order = [found[index] for index in range(len(self.names))]
        labels: list[str] = []
        for name, of_class in zip(self.names, in_order, strict=True):
            labels += [name] * len(of_class)
        return Detections(
            np.concatenate([of_class.boxes_xyxy for of_class in in_order]),
            np.concatenate([of_class.scores for of_class in in_order]),
            labels=tuple(labels),
        )


def _check_names(names: Sequence[str]) -> None:
    """See that there are names, that each can be read, and that none is a duplicate."""
    if not names:
        raise InvalidInputError("There is no class name; give at least one.")
    for place, name in enumerate(names, start=1):
        if isinstance(name, str) and not name.strip():
            raise InvalidInputError(f"Class name {place} of {len(names)} is empty; leave it out.")
        check_text(name)
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise InvalidInputError(f"The class name {repeated!r} is a duplicate; give each name once.")


def merge_classes(
    found: Detections, size: tuple[int, int], threshold: float, max_overlap: float
) -> Detections:
    """The boxes that count of those of all classes of an image, best first.

    Args:
        found: what `ClassPrompts.find` gives.
        size: (height, width) of the image.
        threshold: boxes with a score above this are kept.
        max_overlap: a box goes if its intersection over union with a better one of its class is above this.
    """
    found = found[found.scores > np.float32(threshold)]
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    found = replace(found, boxes_xyxy=found.boxes_xyxy.clip(0, limits))
    number_of = {name: number for number, name in enumerate(dict.fromkeys(found.names))}
    classes = torch.tensor([number_of[name] for name in found.names], dtype=torch.long)
    kept = batched_nms(
        torch.from_numpy(found.boxes_xyxy), torch.from_numpy(found.scores), classes, max_overlap
    )
    return found[kept.numpy()]
