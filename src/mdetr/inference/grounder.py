"""`Mdetr`: the main class for inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, overload

import torch

from mdetr.checkpoints.abilities import check_ability
from mdetr.checkpoints.loading import load
from mdetr.checkpoints.registry import Task
from mdetr.checkpoints.saving import save_model
from mdetr.errors import InvalidInputError
from mdetr.inference.asking import Batch, Progress, Read, ask, ask_each, load_for_model
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
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.images import ImageInput, as_list, is_single
from mdetr.processing.processor import MdetrProcessor


@dataclass(frozen=True)
class Mdetr:
    """A model with its processor, ready to be asked.

    Every question takes one image or a list, one text or a list. Two lists of one length are asked pairwise;
    one image with several texts is encoded once; one text is asked of every image. One of each gives one
    result, else a list; of nothing, an empty list.
    """

    model: MdetrForObjectDetection
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
        _check_dtype(dtype)
        model, processor = load(name, dtype, mirror, keep_download)
        torch.nn.Module.to(model, chosen)  # PreTrainedModel's own `to` is typed as if it took a model
        return cls(model, processor)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    def to(
        self, device: str | torch.device | int | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Mdetr:
        """Move the model to another device, change the type of its numbers, or both, as torch's modules do.

        Args:
            device: Such as "cpu" or "cuda:1"; a type alone may stand here too.
            dtype: torch.float32, torch.float16 or torch.bfloat16; as it is, if left out.

        Returns:
            This object itself.

        Raises:
            InvalidInputError: This machine has no such device, or a model cannot have numbers of this type.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None:
            _check_dtype(dtype)
        target = self.device if device is None else choose_device(device)
        torch.nn.Module.to(self.model, target, dtype)
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
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        kind = str(self.model.dtype).removeprefix("torch.")
        return f"Mdetr({self._name}: {millions:.1f} million parameters, {kind} on {self.device})"

    @overload
    def ground(
        self,
        image: ImageInput,
        text: str,
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
    ) -> GroundingResult: ...

    @overload
    def ground(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
    ) -> GroundingResult | list[GroundingResult]: ...

    def ground(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = None,
        batch_size: int = 8,
        on_progress: Progress | None = None,
        channel_order: str = "rgb",
    ) -> GroundingResult | list[GroundingResult]:
        """Find the things that a text mentions, and the words that each belongs to.

        Args:
            image: a path, an address, bytes, an open file, a PIL image, an array or a tensor; see
                `load_image`. Several as a list, an array (N, H, W, C) or a tensor (N, C, H, W).
            text: a caption, or a list of captions.
            threshold: boxes with 1 - p(no object) above this are kept; the model's own limit, which is
                `processor.default_threshold`, if left out.
            batch_size: pairs of image and text that the model sees at once. Only images of one shape share a
                batch, so that results do not depend on it.
            on_progress: called with the number of pairs that were finished since the last call.
            channel_order: of arrays and tensors: "rgb", or "bgr" as OpenCV has them.

        Raises:
            InvalidInputError: an image or a text cannot be used, or the lists differ in length.

        Source: arXiv 2104.12763, section 4.2.1.
        """
        read = self._read_groundings(threshold)
        return ask(self.model, self.processor, image, text, batch_size, on_progress, read, channel_order)

    predict = ground

    @overload
    def refer(
        self,
        image: ImageInput,
        text: str,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        threshold: float = ...,
        channel_order: str = ...,
    ) -> ReferringResult: ...

    @overload
    def refer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        threshold: float = ...,
        channel_order: str = ...,
    ) -> ReferringResult | list[ReferringResult]: ...

    def refer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int = 8,
        on_progress: Progress | None = None,
        threshold: float = 0,
        channel_order: str = "rgb",
    ) -> ReferringResult | list[ReferringResult]:
        """Find the one thing that an expression refers to; other arguments and errors as for `ground`.

        Args:
            threshold: where the best score is below this, nothing is found, and the result's box is None.
                With 0, as in the published protocol, there is always a box.

        Source: arXiv 2104.12763, section 4.2.2.
        """
        read = self._read_referred(threshold)
        return ask(self.model, self.processor, image, text, batch_size, on_progress, read, channel_order)

    @overload
    def answer(
        self,
        image: ImageInput,
        text: str,
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
    ) -> AnswerResult: ...

    @overload
    def answer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
    ) -> AnswerResult | list[AnswerResult]: ...

    def answer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = None,
        batch_size: int = 8,
        on_progress: Progress | None = None,
        channel_order: str = "rgb",
    ) -> AnswerResult | list[AnswerResult]:
        """Answer a question, and find the things that it refers to; arguments and errors as for `ground`.

        Raises:
            InvalidInputError: the model was not trained to answer questions.

        Source: arXiv 2104.12763, section 4.2.3.
        """
        read = self._read_answers(threshold)
        return ask(self.model, self.processor, image, text, batch_size, on_progress, read, channel_order)

    @overload
    def segment(
        self,
        image: ImageInput,
        text: str,
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
    ) -> SegmentationResult: ...

    @overload
    def segment(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
    ) -> SegmentationResult | list[SegmentationResult]: ...

    def segment(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float | None = None,
        batch_size: int = 1,
        on_progress: Progress | None = None,
        channel_order: str = "rgb",
    ) -> SegmentationResult | list[SegmentationResult]:
        """Find the pixels that a phrase denotes; arguments and errors as for `ground`.

        Pairs are looked at one by one unless `batch_size` says otherwise, since the masks of a photo and a
        hundred queries need gigabytes while they are made.

        Raises:
            InvalidInputError: the model was not trained to segment.

        Source: arXiv 2104.12763, section 4.2.2 (PhraseCut).
        """
        read = self._read_segments(threshold)
        return ask(self.model, self.processor, image, text, batch_size, on_progress, read, channel_order)

    @overload
    def detect(
        self,
        image: ImageInput,
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = ...,
        max_overlap: float = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
        channel_order: str = ...,
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
        channel_order: str = ...,
    ) -> list[DetectionResult]: ...

    def detect(
        self,
        image: ImageInput | Sequence[ImageInput],
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = None,
        max_overlap: float = 0.7,
        batch_size: int = 32,
        on_progress: Progress | None = None,
        channel_order: str = "rgb",
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
            channel_order: as for `ground`.

        Raises:
            InvalidInputError: an image cannot be used, there is no name, or a name is a duplicate.

        Source: arXiv 2104.12763, section 4.2.4 (LVIS).
        """
        detect = self._detector(names, threshold, max_overlap, batch_size, channel_order)
        single = is_single(image)
        results = []
        for one in as_list(image):
            results.append(detect(one, single))
            if on_progress is not None:
                on_progress(1)
        return results[0] if single else results

    def ground_batch(
        self,
        images: ImageInput | Iterable[ImageInput],
        texts: str | Iterable[str],
        threshold: float | None = None,
        batch_size: int = 8,
        channel_order: str = "rgb",
    ) -> Iterator[GroundingResult]:
        """Ground any number of texts in any number of images, which are read a few batches ahead.

        Args:
            images: Any iterable of images, such as a generator, or one image, which is encoded once.
            texts: Any iterable of as many texts, or one text for all images.
            threshold: As for `ground`.
            batch_size: As for `ground`.
            channel_order: As for `ground`.

        Returns:
            An iterator over the results, in the order of the pairs. Memory does not grow with their number.

        Raises:
            InvalidInputError: An image or a text cannot be used, or there are not as many images as texts;
                the results before it are given first.
        """
        read = self._read_groundings(threshold)
        return ask_each(self.model, self.processor, images, texts, batch_size, read, channel_order)

    def refer_batch(
        self,
        images: ImageInput | Iterable[ImageInput],
        texts: str | Iterable[str],
        threshold: float = 0,
        batch_size: int = 8,
        channel_order: str = "rgb",
    ) -> Iterator[ReferringResult]:
        """Find what any number of expressions refer to, as `refer`; arguments as for `ground_batch`."""
        read = self._read_referred(threshold)
        return ask_each(self.model, self.processor, images, texts, batch_size, read, channel_order)

    def answer_batch(
        self,
        images: ImageInput | Iterable[ImageInput],
        texts: str | Iterable[str],
        threshold: float | None = None,
        batch_size: int = 8,
        channel_order: str = "rgb",
    ) -> Iterator[AnswerResult]:
        """Answer any number of questions, as `answer`; the arguments are those of `ground_batch`."""
        read = self._read_answers(threshold)
        return ask_each(self.model, self.processor, images, texts, batch_size, read, channel_order)

    def segment_batch(
        self,
        images: ImageInput | Iterable[ImageInput],
        texts: str | Iterable[str],
        threshold: float | None = None,
        batch_size: int = 1,
        channel_order: str = "rgb",
    ) -> Iterator[SegmentationResult]:
        """Segment any number of images, as `segment`; the arguments are those of `ground_batch`."""
        read = self._read_segments(threshold)
        return ask_each(self.model, self.processor, images, texts, batch_size, read, channel_order)

    def detect_batch(
        self,
        images: ImageInput | Iterable[ImageInput],
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = None,
        max_overlap: float = 0.7,
        batch_size: int = 32,
        channel_order: str = "rgb",
    ) -> Iterator[DetectionResult]:
        """Find the things of the same named classes in any number of images, one after the other.

        Args:
            images: Any iterable of images, such as a generator.
            names: As for `detect`, as all further arguments.

        Returns:
            An iterator over the results, in the order of the images. Memory does not grow with their number.
        """
        detect = self._detector(names, threshold, max_overlap, batch_size, channel_order)
        several = as_list(images) if is_single(images) else cast(Iterable[ImageInput], images)
        return (detect(image, False) for image in several)

    @property
    def _name(self) -> str:
        return Path(self.model.name_or_path or "").name or "unnamed"

    def _read_groundings(self, threshold: float | None) -> Read[GroundingResult]:
        limit = self.processor.threshold_or_default(threshold)

        def read(output: MdetrOutput, batch: Batch) -> list[GroundingResult]:
            found = self.processor.post_process_grounding(output, batch.texts, batch.sizes, limit)
            return list(map(GroundingResult, batch.images, batch.captions, found))

        return read

    def _read_referred(self, threshold: float) -> Read[ReferringResult]:
        _check_share("threshold", threshold)

        def read(output: MdetrOutput, batch: Batch) -> list[ReferringResult]:
            found = self.processor.post_process_referring(output, batch.captions, batch.sizes, threshold)
            return list(map(ReferringResult, batch.images, batch.captions, found))

        return read

    def _read_answers(self, threshold: float | None) -> Read[AnswerResult]:
        limit = self.processor.threshold_or_default(threshold)
        self._require(Task.ANSWERING)

        def read(output: MdetrOutput, batch: Batch) -> list[AnswerResult]:
            answers = self.processor.post_process_answers(output)
            found = self.processor.post_process_grounding(output, batch.texts, batch.sizes, limit)
            return [
                AnswerResult(picture, question, detections, *answer)
                for picture, question, detections, answer in zip(
                    batch.images, batch.captions, found, answers, strict=True
                )
            ]

        return read

    def _read_segments(self, threshold: float | None) -> Read[SegmentationResult]:
        limit = self.processor.threshold_or_default(threshold)
        self._require(Task.SEGMENTATION)

        def read(output: MdetrOutput, batch: Batch) -> list[SegmentationResult]:
            found = self.processor.post_process_segmentation(output, batch.captions, batch.places, limit)
            return list(map(SegmentationResult, batch.images, batch.captions, found))

        return read

    def _detector(
        self,
        names: Sequence[str] | ClassPrompts,
        threshold: float | None,
        max_overlap: float,
        batch_size: int,
        channel_order: str,
    ) -> Callable[[ImageInput, bool], DetectionResult]:
        """What finds things of some classes in an image, and keeps its pixels or not."""
        limit = self.processor.threshold_or_default(threshold)
        _check_share("max_overlap", max_overlap)
        if isinstance(names, str):
            raise InvalidInputError(f"Expected a list of class names, found the text {names!r}.")
        prompts = (
            names
            if isinstance(names, ClassPrompts)
            else ClassPrompts(self.model, self.processor, names, batch_size)
        )

        def detect(image: ImageInput, keep: bool) -> DetectionResult:
            loaded = load_for_model(self.processor, image, keep, channel_order)
            detections = merge_classes(prompts.find_in(loaded), loaded.given, limit, max_overlap)
            return DetectionResult(loaded.picture, ", ".join(prompts.names), detections, prompts.names)

        return detect

    def _require(self, task: Task) -> None:
        check_ability(self.model.config.to_dict(), task, self._name)


def _check_dtype(dtype: torch.dtype | str) -> None:
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        raise InvalidInputError(f"Weights cannot be {dtype}; give a floating type such as torch.float16.")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidInputError(f"{name} must be between 0 and 1; found {value}.")
