"""Predictions for the page, with a cache of models and encoded images."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import RLock

from mdetr.checkpoints.abilities import supported_tasks
from mdetr.checkpoints.registry import Task
from mdetr.errors import InvalidInputError
from mdetr.inference.detector import config_fields
from mdetr.inference.encoded_image import EncodedImage
from mdetr.inference.grounder import Mdetr
from mdetr.inference.image_cache import EncodedImageCache, ImageKey
from mdetr.inference.queries import Query
from mdetr.inference.results import Result

MAX_BOXES = 300
"""Maximum number of candidates of a prediction, best first."""

MASK_THRESHOLD = 0.1
"""Minimum score of a box with a mask, because each mask takes one byte per pixel of the image."""

MAX_MASKS = 20
"""Maximum number of candidates with masks."""


class CachedPredictor:
    """Predicts with any model; keeps the models and encoded images that were used last.

    Args:
        device: Device to run on, such as "cpu" or "cuda:1"; None for a GPU if there is one.
        max_models: Maximum number of models in memory.
        max_images: Maximum number of encoded images in memory, of all models together.
    """

    def __init__(self, device: str | None = None, max_models: int = 2, max_images: int = 16) -> None:
        self._device = device
        self._models: OrderedDict[str, Mdetr] = OrderedDict()
        self._images = EncodedImageCache(max_images)
        self._max_models = max_models
        self._lock = RLock()  # predictions at the same time would only compete for the processor

    def load(self, name: str) -> Mdetr:
        """Load a model, unless it is in memory.

        Args:
            name: As for `Mdetr.from_pretrained`.

        Returns:
            The model.

        Raises:
            CheckpointError: The model does not exist, or cannot be loaded.
        """
        with self._lock:
            if name not in self._models:
                self._models[name] = Mdetr.from_pretrained(name, device=self._device)
                if len(self._models) > self._max_models:
                    dropped, _ = self._models.popitem(last=False)
                    self._images.drop_model(dropped)
            self._models.move_to_end(name)
            return self._models[name]

    def tasks(self, name: str) -> tuple[Task, ...]:
        """List the tasks that a model has the heads for."""
        return supported_tasks(config_fields(self.load(name).model))

    def predict(self, name: str, image: Path, query: Query) -> Result:
        """Predict candidates with any score, so that a threshold can be applied later.

        The image is encoded once for all queries about it.

        Args:
            name: Name of the model.
            image: File of the image; a copy of a file that was encoded before counts as the same.
            query: What to predict.

        Returns:
            A result with up to `MAX_BOXES` candidates, best first.

        Raises:
            InvalidInputError: The image or the text cannot be used, or the model lacks the head for the task.
            CheckpointError: The model cannot be loaded.
        """
        with self._lock:
            model = self.load(name)
            encoded = self._encode(name, model, image.read_bytes())
            result = _predict(model, encoded, query)
        return _keep_best(result, MAX_MASKS if query.task is Task.SEGMENTATION else MAX_BOXES)

    def _encode(self, name: str, model: Mdetr, content: bytes) -> EncodedImage:
        key = ImageKey.of(name, content)
        encoded = self._images.find(key)
        if encoded is None:
            encoded = model.encode_image(content)
            self._images.add(key, encoded)
        return encoded


def _predict(model: Mdetr, image: EncodedImage, query: Query) -> Result:
    match query.task:
        case Task.GROUNDING:
            return model.ground(image, query.text, threshold=0)
        case Task.REFERRING:
            return model.refer(image, query.text, threshold=0)
        case Task.ANSWERING:
            return model.answer(image, query.text, threshold=0)
        case Task.SEGMENTATION:
            return model.segment(image, query.text, threshold=MASK_THRESHOLD)
        case Task.DETECTION:
            return model.detect(image, query.names, threshold=0)
    raise InvalidInputError(f"Unknown task {query.task!r}; choose one of: {', '.join(Task)}.")


def _keep_best(result: Result, count: int) -> Result:
    order = (-result.ranking_scores).argsort(kind="stable")
    return result.with_detections(result.detections[order[:count]])
