"""`Labeler`: labels the images of one part after another with a model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdetr.errors import MdetrError
from mdetr.files import atomic_write
from mdetr.inference.detection import ClassPrompts
from mdetr.inference.grounder import Mdetr
from mdetr.labeling.image_list import ImageReference
from mdetr.labeling.plan import LabelPlan, PlannedImage
from mdetr.labeling.results import ImageLabels, failed_image, write_results
from mdetr.processing.detections import Detections
from mdetr.processing.images import load_image

_PROMPTS_PER_BATCH = 32


@dataclass(frozen=True, slots=True)
class _ReadImage:
    """An image as it was read: its pixels (height, width, 3) uint8, and its path or encoded bytes."""

    pixels: NDArray[np.uint8]
    content: Path | bytes


class Labeler:
    """Labels images of a plan; the model is loaded once for all of them.

    Args:
        plan: The plan.
        device: Device to run on; None for a GPU if there is one.

    Raises:
        CheckpointError: The model cannot be loaded.
        InvalidInputError: This machine has no such device, or a phrase is too long for the model.
    """

    def __init__(self, plan: LabelPlan, device: str | None = None) -> None:
        settings = plan.settings
        self._plan = plan
        self._model = Mdetr.from_pretrained(settings.model, device, settings.dtype)
        self._prompts: ClassPrompts | None = None
        if settings.phrases:
            names = [phrase.phrase for phrase in settings.phrases]
            model, processor = self._model.model, self._model.processor
            self._prompts = ClassPrompts(model, processor, names, _PROMPTS_PER_BATCH)

    def label_part(self, part: int) -> Iterator[None]:
        """Label the images of one part, and write their results when all are done.

        Images that cannot be used get an entry with the reason.

        Args:
            part: Number of the part.

        Yields:
            None after each image, for a progress bar.
        """
        file = self._plan.result_file(part)
        file.parent.mkdir(parents=True, exist_ok=True)
        labels: list[ImageLabels] = []
        for planned, image in self._read_ahead(self._plan.images_of(part)):
            labels += self._label(planned, image)
            yield
        write_results(file, labels)

    def _read_ahead(
        self, images: Sequence[PlannedImage]
    ) -> Iterator[tuple[PlannedImage, Future[_ReadImage]]]:
        """Yield each image while the next one is read by another thread."""
        with ThreadPoolExecutor(max_workers=1) as executor:
            pending = executor.submit(_read_image, images[0].reference)
            for index, planned in enumerate(images):
                current = pending
                if index + 1 < len(images):
                    pending = executor.submit(_read_image, images[index + 1].reference)
                yield planned, current

    def _label(self, planned: PlannedImage, image: Future[_ReadImage]) -> list[ImageLabels]:
        """Label one image, and put it into the data set."""
        name = planned.reference.name
        try:
            read = image.result()
            if self._prompts is None:
                labels = self._ground(name, read.pixels, planned.texts)
            else:
                labels = [self._detect(name, read.pixels, self._prompts)]
        except MdetrError as error:
            return [failed_image(name, str(error))]
        _place_image(read.content, self._plan.image_file(name), self._plan.settings.copy_images)
        return labels

    def _detect(self, name: str, pixels: NDArray[np.uint8], prompts: ClassPrompts) -> ImageLabels:
        """Detect the classes, and let overlapping boxes of all classes compete by score."""
        settings = self._plan.settings
        thresholds: dict[str, float] = {}
        classes: dict[str, str] = {}
        for phrase in settings.phrases:
            thresholds[phrase.phrase] = settings.threshold if phrase.threshold is None else phrase.threshold
            classes[phrase.phrase] = phrase.class_name

        # Select the boxes whose scores come close to the threshold of their phrase
        detections = prompts.detect(pixels)
        limits = np.array([thresholds[phrase] for phrase in detections.names], np.float32)
        detections = detections[detections.scores >= limits - np.float32(settings.margin)]
        detections = _clip(detections, pixels).with_nms(settings.max_overlap, across_names=True)

        # Name the boxes by class
        phrases = detections.names
        labels = tuple(classes[phrase] for phrase in phrases)
        detections = replace(detections, phrases=phrases, labels=labels)
        limits = np.array([thresholds[phrase] for phrase in phrases], np.float32)
        height, width = pixels.shape[:2]
        return ImageLabels(name, width, height, None, detections, limits)

    def _ground(self, name: str, pixels: NDArray[np.uint8], texts: Sequence[str]) -> list[ImageLabels]:
        """Ground each caption; the image is encoded once, and a caption that cannot be used gets an entry."""
        settings = self._plan.settings
        height, width = pixels.shape[:2]
        lowest = max(settings.threshold - settings.margin, 0.0)
        encoded = self._model.encode_image(pixels)
        labels: list[ImageLabels] = []
        for text in texts:
            try:
                result = self._model.ground(encoded, text, lowest)
            except MdetrError as error:
                labels.append(failed_image(name, str(error), text))
                continue
            detections = _clip(result.detections, pixels)
            limits = np.full(len(detections), settings.threshold, np.float32)
            labels.append(ImageLabels(name, width, height, text, detections, limits))
        return labels


def _read_image(reference: ImageReference) -> _ReadImage:
    content = reference.read()
    return _ReadImage(load_image(content), content)


def _clip(detections: Detections, pixels: NDArray[np.uint8]) -> Detections:
    """Clip boxes to their image, and remove those outside it."""
    height, width = pixels.shape[:2]
    boxes = detections.boxes_xyxy.clip(0, np.array([width, height, width, height], np.float32))
    is_inside = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    return replace(detections, boxes_xyxy=boxes)[is_inside]


def _place_image(content: Path | bytes, file: Path, copy: bool) -> None:
    """Put an image into the data set: a hard link to a local file where possible, else a copy."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path) and not copy:
        try:
            os.link(content.resolve(), file)
            return
        except OSError:  # on another disk, or a file system without links
            pass
    with atomic_write(file) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            shutil.copyfile(content, temporary)
