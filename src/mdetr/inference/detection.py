"""Detection by class name: one prompt a class, an image encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mdetr.data.prompts import class_prompt
from mdetr.errors import InvalidInputError
from mdetr.inference.asking import encode_images, encode_texts, load_for_model
from mdetr.inference.stored_image import Picture
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
            InvalidInputError: there is no name, one is no text, or comes twice.
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
            encode_texts(model, processor, [class_prompt(names[place]) for place in batch])
            for batch in self._batches
        ]

    @torch.inference_mode()
    def find(
        self, image: ImageInput, keep: bool = False, channel_order: str = "rgb"
    ) -> tuple[Picture, list[tuple[Tensor, Tensor]]]:
        """Find the things of all classes in one image, which is encoded once.

        Args:
            image: As for `load_image`.
            keep: Whether the picture keeps its pixels even where these can be read again.
            channel_order: Of arrays and tensors: "rgb" or "bgr".

        Returns:
            The picture, and per name the boxes (Q, 4) x0, y0, x1, y1 in pixels, not cut at its border, and
            their scores (Q,) = 1 - p(no object).
        """
        loaded = load_for_model(self._processor, image, keep, channel_order)
        (place,), features = encode_images(self._model, self._processor, [loaded])
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for batch, texts in zip(self._batches, self._texts, strict=True):
            shared = features.select(torch.zeros(len(batch), dtype=torch.long, device=self._model.device))
            output = self._model.fuse(shared, texts)
            scored = self._processor.post_process_boxes(output, [place.given] * len(batch))
            found |= {index: (boxes, scores) for index, (boxes, scores, _) in zip(batch, scored, strict=True)}
        return loaded.picture, [found[index] for index in range(len(found))]


def _check_names(names: Sequence[str]) -> None:
    """See that there are names, that each can be read, and that none comes twice."""
    if not names:
        raise InvalidInputError("There is no class name; give at least one.")
    for place, name in enumerate(names, start=1):
        if isinstance(name, str) and not name.strip():
            raise InvalidInputError(f"Class name {place} of {len(names)} is empty; leave it out.")
        check_text(name)
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise InvalidInputError(f"The class name {repeated!r} comes twice; give each name once.")


def merge_classes(
    names: Sequence[str],
    found: Sequence[tuple[Tensor, Tensor]],
    size: tuple[int, int],
    threshold: float,
    max_overlap: float,
) -> Detections:
    """Put the boxes of all classes of an image together, best first.

    Args:
        names: N class names.
        found: per name, the boxes (Q, 4) x0, y0, x1, y1 in pixels and the scores (Q,) of its prompt.
        size: (height, width) of the image.
        threshold: boxes with a score above this are kept.
        max_overlap: a box goes if its intersection over union with a better one of its class is above this.
    """
    boxes = torch.cat([part for part, _ in found]).float()
    scores = torch.cat([part for _, part in found]).float()
    classes = torch.repeat_interleave(
        torch.arange(len(found), device=boxes.device),
        torch.tensor([len(part) for part, _ in found], device=boxes.device),
    )
    certain = scores > threshold
    boxes, scores, classes = boxes[certain], scores[certain], classes[certain]
    height, width = size
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    kept = batched_nms(boxes, scores, classes, max_overlap)
    return Detections(
        boxes[kept].cpu().numpy(),
        scores[kept].cpu().numpy(),
        labels=tuple(names[place] for place in classes[kept].tolist()),
    )
