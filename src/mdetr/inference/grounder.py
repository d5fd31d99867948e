"""The friendly face: images and texts of any common kind in, results out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch

from mdetr.checkpoints.loading import load
from mdetr.checkpoints.saving import save_model
from mdetr.errors import InvalidInputError
from mdetr.images import ImageInput, as_list
from mdetr.inference.asking import Batch, Progress, ask
from mdetr.inference.detection import ClassPrompts, merge_classes
from mdetr.inference.devices import choose_device
from mdetr.inference.results import (
    AnswerResult,
    DetectionResult,
    GroundingResult,
    ReferringResult,
    SegmentationResult,
)
from mdetr.model.interface import MdetrOutput
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor


@dataclass(frozen=True)
class Mdetr:
    """A model with its processor, ready to be asked.

    Every question takes one image or a list, one text or a list. Two lists of one length are asked pairwise;
    one image with several texts is encoded once; one text is asked of every image. One of each gives one
    result, else a list.
    """

    model: MdetrModel
    processor: MdetrProcessor

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        mirror: str | None = None,
        keep_download: bool = False,
    ) -> Mdetr:
        """Load a model.

        Args:
            name: A name of `mdetr models` such as "clevr-tiny" or "pretrained-r101", a folder, or a Hub id.
                What is not on this machine yet is downloaded once, and a released file converted.
            device: Where it runs, such as "cpu" or "cuda:1"; a GPU where there is one, if left out.
            dtype: Type of the weights, such as torch.bfloat16, which needs half the memory.
            mirror: Address of a folder that holds the release's files, or of the file itself; what
                `MDETR_MIRROR` names, or the release's own, if left out.
            keep_download: Whether a released file stays after it is converted.

        Raises:
            CheckpointError: there is no such model, it cannot be downloaded, its files are damaged, or it is
                not an MDETR.
            InvalidInputError: this machine has no such device.
        """
        chosen = choose_device(device)
        model, processor = load(name, dtype, mirror, keep_download)
        torch.nn.Module.to(model, chosen)  # PreTrainedModel's own `to` is typed as if it took a model
        return cls(model, processor)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def to(self, device: str | torch.device | int) -> Mdetr:
        """Move the model to another device.

        Args:
            device: Such as "cpu" or "cuda:1".

        Returns:
            This object itself.

        Raises:
            InvalidInputError: This machine has no such device.
        """
        torch.nn.Module.to(self.model, choose_device(device))
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its processor to a folder that `from_pretrained` reads.

        Args:
            folder: Made where it is missing. Files of the same names are replaced once all are written.

        Raises:
            CheckpointError: There is a file of that name, or the folder cannot be written.
        """
        save_model(self.model, self.processor, Path(folder))

    def __repr__(self) -> str:
        name = Path(self.model.name_or_path or "").name or "unnamed"
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        kind = str(self.model.dtype).removeprefix("torch.")
        return f"Mdetr({name}: {millions:.1f} million parameters, {kind} on {self.device})"

    @overload
    def ground(
        self,
        image: ImageInput,
        text: str,
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> GroundingResult: ...

    @overload
    def ground(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> GroundingResult | list[GroundingResult]: ...

    def ground(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = None,
        batch_size: int = 8,
        on_progress: Progress | None = None,
    ) -> GroundingResult | list[GroundingResult]:
        """Find the things that a text speaks of, and the words that each belongs to.

        Args:
            image: a path, PIL image, (H, W, 3) uint8 array or (3, H, W) uint8 tensor; or a list of these.
            text: a caption, or a list of captions.
            threshold: boxes with 1 - p(no object) above this are kept; the model's own limit, which is
                `processor.default_threshold`, if left out.
            batch_size: pairs of image and text that the model sees at once. Only images of one shape share a
                batch, so that results do not depend on it.
            on_progress: called with the number of pairs that were finished since the last call.

        Raises:
            InvalidInputError: an image or a text cannot be used, or the lists differ in length.

        Source: arXiv 2104.12763, section 4.2.1.
        """
        limit = self.processor.threshold_or_default(threshold)

        def read(output: MdetrOutput, batch: Batch) -> list[GroundingResult]:
            found = self.processor.post_process_grounding(output, batch.texts, batch.sizes, limit)
            return list(map(GroundingResult, batch.images, batch.texts, found))

        return ask(self.model, self.processor, image, text, batch_size, on_progress, read)

    predict = ground

    @overload
    def refer(
        self,
        image: ImageInput,
        text: str,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        threshold: float = ...,
    ) -> ReferringResult: ...

    @overload
    def refer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        threshold: float = ...,
    ) -> ReferringResult | list[ReferringResult]: ...

    def refer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int = 8,
        on_progress: Progress | None = None,
        threshold: float = 0,
    ) -> ReferringResult | list[ReferringResult]:
        """Find the one thing that an expression refers to; other arguments and errors as for `ground`.

        Args:
            threshold: where the best score is below this, nothing is found, and the result's box is None.
                With 0, as in the published protocol, there is always a box.

        Source: arXiv 2104.12763, section 4.2.2.
        """
        _check_share("threshold", threshold)

        def read(output: MdetrOutput, batch: Batch) -> list[ReferringResult]:
            found = self.processor.post_process_referring(output, batch.texts, batch.sizes, threshold)
            return list(map(ReferringResult, batch.images, batch.texts, found))

        return ask(self.model, self.processor, image, text, batch_size, on_progress, read)

    @overload
    def answer(
        self,
        image: ImageInput,
        text: str,
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> AnswerResult: ...

    @overload
    def answer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> AnswerResult | list[AnswerResult]: ...

    def answer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = None,
        batch_size: int = 8,
        on_progress: Progress | None = None,
    ) -> AnswerResult | list[AnswerResult]:
        """Answer a question, and find the things that it speaks of; arguments and errors as for `ground`.

        Raises:
            InvalidInputError: the model was not trained to answer questions.

        Source: arXiv 2104.12763, section 4.2.3.
        """
        limit = self.processor.threshold_or_default(threshold)
        self._require(self.model.config.answer_queries, "answers questions", "GQA or CLEVR")

        def read(output: MdetrOutput, batch: Batch) -> list[AnswerResult]:
            answers = self.processor.post_process_answers(output)
            found = self.processor.post_process_grounding(output, batch.texts, batch.sizes, limit)
            return [
                AnswerResult(picture, question, detections, *answer)
                for picture, question, detections, answer in zip(
                    batch.images, batch.texts, found, answers, strict=True
                )
            ]

        return ask(self.model, self.processor, image, text, batch_size, on_progress, read)

    @overload
    def segment(
        self,
        image: ImageInput,
        text: str,
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> SegmentationResult: ...

    @overload
    def segment(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> SegmentationResult | list[SegmentationResult]: ...

    def segment(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = None,
        batch_size: int = 1,
        on_progress: Progress | None = None,
    ) -> SegmentationResult | list[SegmentationResult]:
        """Find the pixels that a phrase denotes; arguments and errors as for `ground`.

        Pairs are looked at one by one unless `batch_size` says otherwise, since the masks of a photo and a
        hundred queries need gigabytes while they are made.

        Raises:
            InvalidInputError: the model was not trained to segment.

        Source: arXiv 2104.12763, section 4.2.2 (PhraseCut).
        """
        limit = self.processor.threshold_or_default(threshold)
        self._require(self.model.config.predict_masks, "predicts masks", "PhraseCut")

        def read(output: MdetrOutput, batch: Batch) -> list[SegmentationResult]:
            found = self.processor.post_process_segmentation(output, batch.texts, batch.places, limit)
            return list(map(SegmentationResult, batch.images, batch.texts, found))

        return ask(self.model, self.processor, image, text, batch_size, on_progress, read)

    @overload
    def detect(
        self,
        image: ImageInput,
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = ...,
        max_overlap: float = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> DetectionResult: ...

    @overload
    def detect(
        self,
        image: list[ImageInput] | tuple[ImageInput, ...],
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = ...,
        max_overlap: float = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> list[DetectionResult]: ...

    def detect(
        self,
        image: ImageInput | Sequence[ImageInput],
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = None,
        max_overlap: float = 0.7,
        batch_size: int = 32,
        on_progress: Progress | None = None,
    ) -> DetectionResult | list[DetectionResult]:
        """Find the things of some named classes.

        Every name is a text of its own. Names are encoded once for all images, and each image once for all
        names.

        Args:
            image: as for `ground`.
            names: of the classes, such as "cat" or "bow_(weapon)", any number; or their `ClassPrompts`, which
                many calls can share.
            threshold: boxes with 1 - p(no object) above this are kept; the model's own limit, which is
                `processor.default_threshold`, if left out.
            max_overlap: a box goes if its intersection over union with a better one of its class is above
                this.
            batch_size: names that the model sees at once.
            on_progress: called with the number of images that were finished since the last call.

        Raises:
            InvalidInputError: an image cannot be used, there is no name, or one comes twice.

        Source: arXiv 2104.12763, section 4.2.4 (LVIS).
        """
        limit = self.processor.threshold_or_default(threshold)
        _check_share("max_overlap", max_overlap)
        if isinstance(names, str):
            raise InvalidInputError(f"Expected a list of class names, found the text {names!r}.")
        single = not isinstance(image, list | tuple)
        prompts = (
            names
            if isinstance(names, ClassPrompts)
            else ClassPrompts(self.model, self.processor, names, batch_size)
        )
        results = []
        for one in as_list(image):
            picture, found = prompts.find(one, keep=single)
            size = picture.height, picture.width
            detections = merge_classes(prompts.names, found, size, limit, max_overlap)
            results.append(DetectionResult(picture, ", ".join(prompts.names), detections, prompts.names))
            if on_progress is not None:
                on_progress(1)
        return results[0] if single else results

    def _require(self, able: object, what: str, source: str) -> None:
        if not able:
            raise InvalidInputError(
                f"This model has no head that {what}; take one that was trained on {source}."
            )


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidInputError(f"{name} must be between 0 and 1; found {value}.")
