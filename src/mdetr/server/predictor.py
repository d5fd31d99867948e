"""Predictions for several requests at once, with a cache of encoded images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mdetr.checkpoints.registry import Task
from mdetr.errors import MdetrError
from mdetr.inference.batching import LoadedImage, encode_loaded, load_for_model
from mdetr.inference.detection import ClassPrompts
from mdetr.inference.encoded_image import EncodedImage
from mdetr.inference.grounder import Mdetr
from mdetr.inference.image_cache import EncodedImageCache, ImageKey
from mdetr.inference.results import DetectionResult, Result
from mdetr.processing.detections import MAX_OVERLAP
from mdetr.server.jobs import Job, Outcome

MAX_PROMPTS = 8  # lists of class names whose encoding is kept
PROMPT_BATCH = 32  # class names that the text encoder processes at once


@dataclass(frozen=True)
class _Settings:
    """What the jobs of one call of the model share."""

    task: Task
    names: tuple[str, ...]
    threshold: float | None
    max_overlap: float
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, job: Job) -> _Settings:
        max_overlap = MAX_OVERLAP if job.max_overlap is None else job.max_overlap
        return cls(job.query.task, job.query.names, job.threshold, max_overlap, job.labels)


class BatchPredictor:
    """Predicts for several jobs at once; keeps the encoded images that were used last.

    The result of a job does not depend on the other jobs, and an invalid job does not affect them.

    Args:
        model: The model.
        max_images: Maximum number of encoded images in memory.
    """

    def __init__(self, model: Mdetr, max_images: int) -> None:
        self._model = model
        self._images = EncodedImageCache(max_images)
        self._prompts: OrderedDict[tuple[str, ...], ClassPrompts] = OrderedDict()

    def predict(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Predict for each job.

        Args:
            jobs: The jobs.

        Returns:
            Their outcomes, in the same order.
        """
        # Encode the images
        keys = [ImageKey.of("", job.image) for job in jobs]
        cached: list[bool] = []
        for index, key in enumerate(keys):
            cached.append(key in keys[:index] or self._images.find(key) is not None)
        encoded, errors = self._encode(keys, [job.image for job in jobs])

        # Group the jobs that the model can process at once
        outcomes: dict[int, Outcome] = {}
        groups: dict[_Settings, list[int]] = {}
        for index, (job, key) in enumerate(zip(jobs, keys, strict=True)):
            if key in errors:
                outcomes[index] = Outcome(None, errors[key], batch_size=len(jobs))
            else:
                groups.setdefault(_Settings.of(job), []).append(index)

        # Predict for each group
        for settings, group in groups.items():
            images = [encoded[keys[index]] for index in group]
            texts = [jobs[index].query.text for index in group]
            for index, result in zip(group, self._predict_each(settings, images, texts), strict=True):
                content, error = (None, result) if isinstance(result, str) else (result.to_dict(), None)
                outcomes[index] = Outcome(content, error, cached[index], len(jobs))
        return [outcomes[index] for index in range(len(jobs))]

    def _encode(
        self, keys: Sequence[ImageKey], contents: Sequence[bytes]
    ) -> tuple[dict[ImageKey, EncodedImage], dict[ImageKey, str]]:
        """Encode the images that are not in the cache; an image that cannot be used gives an error."""
        # Load each image that is not in the cache once
        encoded: dict[ImageKey, EncodedImage] = {}
        loaded: dict[ImageKey, LoadedImage] = {}
        errors: dict[ImageKey, str] = {}
        for key, content in zip(keys, contents, strict=True):
            image = self._images.find(key)
            if image is not None:
                encoded[key] = image
            elif key not in loaded and key not in errors:
                try:
                    loaded[key] = load_for_model(self._model.processor, content)
                except MdetrError as error:
                    errors[key] = str(error)

        # Encode them together
        fresh = encode_loaded(self._model.model, self._model.processor, list(loaded.values()))
        for key, image in zip(loaded, fresh, strict=True):
            self._images.add(key, image)
            encoded[key] = image
        return encoded, errors

    def _predict_each(
        self, settings: _Settings, images: Sequence[EncodedImage], texts: Sequence[str]
    ) -> list[Result | str]:
        """Results of several queries of one kind; one that cannot be used gives an error."""
        # Predict for all of them at once
        try:
            return list(self._predict_together(settings, images, texts))
        except MdetrError as error:
            if len(images) == 1:
                return [str(error)]

        # If one of them cannot be used, predict for each alone
        results: list[Result | str] = []
        for image, text in zip(images, texts, strict=True):
            results += self._predict_each(settings, [image], [text])
        return results

    def _predict_together(
        self, settings: _Settings, images: Sequence[EncodedImage], texts: Sequence[str]
    ) -> Sequence[Result]:
        model, threshold, count = self._model, settings.threshold, len(images)
        match settings.task:
            case Task.GROUNDING:
                return list(model.ground_batch(images, texts, threshold, count))
            case Task.REFERRING:
                return list(model.refer_batch(images, texts, threshold or 0, count))
            case Task.ANSWERING:
                return list(model.answer_batch(images, texts, threshold, count))
            case Task.SEGMENTATION:
                return list(model.segment_batch(images, texts, threshold))
            case Task.DETECTION:
                prompts = self._encode_names(settings.names)
                results = model.detect_batch(images, prompts, threshold, settings.max_overlap)
                return [_with_labels(result, settings) for result in results]

    def _encode_names(self, names: tuple[str, ...]) -> ClassPrompts:
        """Class names for detection; those that were used last are not encoded again."""
        if names not in self._prompts:
            prompts = ClassPrompts(self._model.model, self._model.processor, names, PROMPT_BATCH)
            self._prompts[names] = prompts
            if len(self._prompts) > MAX_PROMPTS:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(names)
        return self._prompts[names]


def _with_labels(result: DetectionResult, settings: _Settings) -> DetectionResult:
    """Replace names by labels; of the boxes of one object under several names, the best one stays."""
    if not settings.labels:
        return result
    label_of = dict(settings.labels)
    labels = tuple(label_of[name] for name in result.labels)
    labeled = replace(result.detections, labels=labels)
    return result.with_detections(labeled.with_nms(settings.max_overlap))
