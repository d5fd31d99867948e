"""`Mdetr`: the main class for inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from mdetr.errors import InvalidInputError
from mdetr.export.model import ExportedModel
from mdetr.inference.batching import check_single, check_single_image, encode_image
from mdetr.inference.detection import ClassPrompts, merge_classes
from mdetr.inference.detector import Detector
from mdetr.inference.devices import check_export_device, choose_device, choose_dtype
from mdetr.inference.encoded_image import EncodedImage
from mdetr.inference.loading import load_detector
from mdetr.inference.results import (
    AnswerResult,
    DetectionResult,
    GroundingResult,
    ReferringResult,
    SegmentationResult,
)
from mdetr.inference.task_predictors import (
    answer_predictor,
    check_fraction,
    grounding_predictor,
    model_name,
    referring_predictor,
    segmentation_predictor,
)
from mdetr.model.tensors import import_torch
from mdetr.processing.array_processor import ArrayProcessor
from mdetr.processing.detections import MAX_OVERLAP
from mdetr.processing.images import ImageInput, as_list, is_single

if TYPE_CHECKING:
    import torch

    from mdetr.modeling import MdetrForObjectDetection
    from mdetr.processing.processor import MdetrProcessor

R = TypeVar("R")


@dataclass(frozen=True)
class Mdetr:
    """A model with its processor, for inference.

    `ground`, `refer`, `answer`, `segment` and `detect` take one image and one text and return one result.
    Their `*_batch` variants take any iterables and return an iterator over results.

    Attributes:
        model: The model.
        processor: Its processor.
    """

    model: Detector
    processor: ArrayProcessor

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = "float32",
        mirror: str | None = None,
        keep_download: bool = False,
    ) -> Mdetr:
        """Load a model.

        Args:
            name: A name of `mdetr models` such as "clevr-tiny" or "pretrained-r101", a folder, or a Hub id.
                A model that is not on this machine is downloaded once, and a released file is converted. A
                folder that `mdetr export` wrote runs in ONNX Runtime or OpenVINO.
            device: Device to run on, such as "cpu" or "cuda:1"; if None, a GPU if there is one.
            dtype: Type of the weights, such as torch.bfloat16 or "bfloat16", which needs half the memory;
                "auto" for bfloat16 where the device computes with it, and float32 elsewhere.
            mirror: Address of a folder with the released files, or of the file; if None, the value of
                `MDETR_MIRROR`, or the original address.
            keep_download: Whether to keep a released file after its conversion.

        Returns:
            The model on its device.

        Raises:
            CheckpointError: The model does not exist, cannot be downloaded, has damaged files, or is not an
                MDETR.
            InvalidInputError: This machine has no such device, or the model is an exported one, which runs
                on the CPU in the precision of its export.
            MissingDependencyError: torch is not installed, and the model is not an exported one.
        """
        return cls(*load_detector(str(name), device, dtype, mirror, keep_download))

    @property
    def device(self) -> torch.device | str:
        """The device of the model; "cpu" of an exported one."""
        return self.model.device

    def to(
        self, device: str | torch.device | int | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Mdetr:
        """Change the device of the model, the type of its weights, or both, as `torch.nn.Module.to` does.

        Args:
            device: A device such as "cpu" or "cuda:1", or a type of weights; unchanged if None.
            dtype: torch.float32, torch.float16 or torch.bfloat16; unchanged if None.

        Returns:
            This object.

        Raises:
            InvalidInputError: This machine has no such device, or weights cannot have this type; or the model
                is an exported one.
        """
        if str(device).startswith("torch."):  # a type in the place of the device
            device, dtype = None, cast("torch.dtype", device)
        if isinstance(self.model, ExportedModel):
            check_export_device(cast("str | None", device), dtype)
            return self
        chosen = None if dtype is None else choose_dtype(dtype)
        target = self.device if device is None else choose_device(cast("str", device))
        import_torch().nn.Module.to(self.model, target, chosen)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its processor to a folder that `from_pretrained` reads.

        Args:
            folder: Created if it does not exist. Files of the same names are replaced after all are written.

        Raises:
            CheckpointError: A file of that name exists, or the folder cannot be written.
            InvalidInputError: The model is an exported one.
        """
        if isinstance(self.model, ExportedModel):
            raise InvalidInputError(
                f"An exported model is not saved again; copy its folder, {self.model.name_or_path}."
            )
        from mdetr.checkpoints.saving import save_model

        model, processor = cast("MdetrForObjectDetection", self.model), cast("MdetrProcessor", self.processor)
        save_model(model, processor, Path(folder))

    def encode_image(self, image: ImageInput, channel_order: str = "rgb") -> EncodedImage:
        """Run the backbone on an image, for several queries about it.

        Most of the time of a query goes into the backbone. `ground`, `refer`, `answer`, `segment` and
        `detect` accept the encoded image in place of an image, and skip the backbone.

        Args:
            image: One image, as for `ground`.
            channel_order: As for `ground`.

        Returns:
            The image with its features, for this model and copies of it only, also in other processes.

        Raises:
            InvalidInputError: The image cannot be used.
        """
        check_single_image(image, "ground_batch")
        return encode_image(self.model, self.processor, image, channel_order)

    def __repr__(self) -> str:
        millions = self.model.num_parameters() / 1e6
        if isinstance(self.model, ExportedModel):
            kind = self.model.description
        else:
            kind = str(cast("MdetrForObjectDetection", self.model).dtype).removeprefix("torch.")
        return f"Mdetr({model_name(self.model)}: {millions:.1f} million parameters, {kind} on {self.device})"

    def ground(
        self,
        image: ImageInput | EncodedImage,
        text: str,
        threshold: float | None = None,
        channel_order: str = "rgb",
    ) -> GroundingResult:
        """Find the objects that a text mentions, and the words that each belongs to.

        Args:
            image: A path, an address, bytes, an open file, a PIL image, an array or a tensor; see
                `load_image`. Or an image from `encode_image`.
            text: A caption.
            threshold: Minimum score 1 - p(no object) of a box, from 0 to 1; if None, the model's default,
                `processor.default_threshold`.
            channel_order: Channel order of an array or a tensor: "rgb", or "bgr" as in OpenCV. For an image
                from `encode_image`, give it to `encode_image`.

        Returns:
            The result.

        Raises:
            InvalidInputError: The image, the text or the threshold cannot be used.

        Source: arXiv 2104.12763, section 4.2.1.
        """
        check_single(image, text, "ground_batch")
        return grounding_predictor(self.model, self.processor, threshold, 1, channel_order).predict(
            image, text
        )

    predict = ground

    def refer(
        self, image: ImageInput | EncodedImage, text: str, threshold: float = 0, channel_order: str = "rgb"
    ) -> ReferringResult:
        """Find the one object that an expression refers to.

        Args:
            image: One image, as for `ground`.
            text: A referring expression.
            threshold: Minimum score, from 0 to 1; the result's box is None if the best score is lower. With
                0, as in the released evaluation, there is always a box.
            channel_order: As for `ground`.

        Returns:
            The result.

        Raises:
            InvalidInputError: The image, the text or the threshold cannot be used.

        Source: arXiv 2104.12763, section 4.2.2.
        """
        check_single(image, text, "refer_batch")
        return referring_predictor(self.model, self.processor, threshold, 1, channel_order).predict(
            image, text
        )

    def answer(
        self,
        image: ImageInput | EncodedImage,
        text: str,
        threshold: float | None = None,
        channel_order: str = "rgb",
    ) -> AnswerResult:
        """Answer a question, and find the objects that it mentions.

        Args:
            image: One image, as for `ground`.
            text: A question.
            threshold: Minimum score of a box, as for `ground`; it does not affect the answer.
            channel_order: As for `ground`.

        Returns:
            The result.

        Raises:
            InvalidInputError: An argument cannot be used, or the model was not trained to answer questions.

        Source: arXiv 2104.12763, section 4.2.3.
        """
        check_single(image, text, "answer_batch")
        return answer_predictor(self.model, self.processor, threshold, 1, channel_order).predict(image, text)

    def segment(
        self,
        image: ImageInput | EncodedImage,
        text: str,
        threshold: float | None = None,
        channel_order: str = "rgb",
    ) -> SegmentationResult:
        """Find the pixels that a phrase refers to.

        Args:
            image: One image, as for `ground`.
            text: A phrase.
            threshold: Minimum score of an object, as for `ground`.
            channel_order: As for `ground`.

        Returns:
            The result.

        Raises:
            InvalidInputError: An argument cannot be used, or the model was not trained to segment.

        Source: arXiv 2104.12763, section 4.2.2 (PhraseCut).
        """
        check_single(image, text, "segment_batch")
        return segmentation_predictor(self.model, self.processor, threshold, 1, channel_order).predict(
            image, text
        )

    def detect(
        self,
        image: ImageInput | EncodedImage,
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = None,
        max_overlap: float = MAX_OVERLAP,
        batch_size: int = 32,
        channel_order: str = "rgb",
    ) -> DetectionResult:
        """Find the objects of named classes.

        Each name is a separate text. The image is encoded once for all names.

        Args:
            image: One image, as for `ground`.
            names: Class names, such as "cat" or "bow_(weapon)", any number; or their `ClassPrompts`, which
                encode the names once for many calls.
            threshold: Minimum score of a box, as for `ground`.
            max_overlap: Maximum intersection over union of two boxes of a class, from 0 to 1; of two boxes
                above it, the one with the lower score is removed.
            batch_size: Number of names that the model processes at once.
            channel_order: As for `ground`.

        Returns:
            The result.

        Raises:
            InvalidInputError: The image cannot be used, there is no name, or a name is a duplicate.

        Source: arXiv 2104.12763, section 4.2.4 (LVIS).
        """
        check_single_image(image, "detect_batch")
        return self._detector(names, threshold, max_overlap, batch_size, channel_order)(image, True)

    def ground_batch(
        self,
        images: ImageInput | EncodedImage | Iterable[ImageInput | EncodedImage],
        texts: str | Iterable[str],
        threshold: float | None = None,
        batch_size: int = 8,
        channel_order: str = "rgb",
    ) -> Iterator[GroundingResult]:
        """Ground any number of texts in any number of images, with `ground`.

        The inputs are read a few batches ahead, so memory does not grow with their number. Only images of one
        shape share a batch, so results do not depend on `batch_size`.

        Args:
            images: An iterable of images, such as a generator, or an array (N, H, W, C) or a tensor
                (N, C, H, W) of several; or one image, which is encoded once for all texts. Images from
                `encode_image` are not encoded again.
            texts: An iterable of texts, one for each image; or one text for all images.
            threshold: As for `ground`.
            batch_size: Number of pairs of image and text that the model processes at once.
            channel_order: As for `ground`.

        Returns:
            An iterator over the results, in the order of the pairs.

        Raises:
            InvalidInputError: An image or a text cannot be used, or the numbers of images and texts differ;
                the iterator raises it after the results for the pairs before.
        """
        return grounding_predictor(
            self.model, self.processor, threshold, batch_size, channel_order
        ).predict_batch(images, texts)

    def refer_batch(
        self,
        images: ImageInput | EncodedImage | Iterable[ImageInput | EncodedImage],
        texts: str | Iterable[str],
        threshold: float = 0,
        batch_size: int = 8,
        channel_order: str = "rgb",
    ) -> Iterator[ReferringResult]:
        """Find what any number of expressions refer to; see `refer` and `ground_batch`."""
        return referring_predictor(
            self.model, self.processor, threshold, batch_size, channel_order
        ).predict_batch(images, texts)

    def answer_batch(
        self,
        images: ImageInput | EncodedImage | Iterable[ImageInput | EncodedImage],
        texts: str | Iterable[str],
        threshold: float | None = None,
        batch_size: int = 8,
        channel_order: str = "rgb",
    ) -> Iterator[AnswerResult]:
        """Answer any number of questions; see `answer` and `ground_batch`."""
        return answer_predictor(
            self.model, self.processor, threshold, batch_size, channel_order
        ).predict_batch(images, texts)

    def segment_batch(
        self,
        images: ImageInput | EncodedImage | Iterable[ImageInput | EncodedImage],
        texts: str | Iterable[str],
        threshold: float | None = None,
        batch_size: int = 1,
        channel_order: str = "rgb",
    ) -> Iterator[SegmentationResult]:
        """Segment any number of images; see `segment` and `ground_batch`.

        The default batch size is 1, because the masks of one photo with a hundred queries take gigabytes
        while they are computed.
        """
        return segmentation_predictor(
            self.model, self.processor, threshold, batch_size, channel_order
        ).predict_batch(images, texts)

    def detect_batch(
        self,
        images: ImageInput | EncodedImage | Iterable[ImageInput | EncodedImage],
        names: Sequence[str] | ClassPrompts,
        threshold: float | None = None,
        max_overlap: float = MAX_OVERLAP,
        batch_size: int = 32,
        channel_order: str = "rgb",
    ) -> Iterator[DetectionResult]:
        """Find the objects of the same classes in any number of images, one image at a time.

        Args:
            images: An iterable of images, such as a generator.
            names: As for `detect`; they are encoded once for all images.
            threshold: As for `detect`.
            max_overlap: As for `detect`.
            batch_size: As for `detect`.
            channel_order: As for `detect`.

        Returns:
            An iterator over the results, in the order of the images.

        Raises:
            InvalidInputError: An argument cannot be used; for an image, the iterator raises it after the
                results for the images before.
        """
        detect = self._detector(names, threshold, max_overlap, batch_size, channel_order)
        several: Iterable[ImageInput | EncodedImage]
        if isinstance(images, EncodedImage):
            several = [images]
        elif is_single(images):
            several = as_list(cast(ImageInput, images))
        else:
            several = cast(Iterable[ImageInput | EncodedImage], images)
        return (detect(image, False) for image in several)

    def _detector(
        self,
        names: Sequence[str] | ClassPrompts,
        threshold: float | None,
        max_overlap: float,
        batch_size: int,
        channel_order: str,
    ) -> Callable[[ImageInput | EncodedImage, bool], DetectionResult]:
        """A function from an image, and whether to keep its pixels, to the objects of some classes in it."""
        minimum = self.processor.threshold_or_default(threshold)
        check_fraction("max_overlap", max_overlap)
        if isinstance(names, str):
            raise InvalidInputError(f"Expected a list of class names, got the text {names!r}.")
        prompts = names
        if not isinstance(prompts, ClassPrompts):
            prompts = ClassPrompts(self.model, self.processor, prompts, batch_size)

        def detect(image: ImageInput | EncodedImage, keep: bool) -> DetectionResult:
            encoded = encode_image(self.model, self.processor, image, channel_order, keep)
            detections = prompts.detect(encoded)
            detections = merge_classes(detections, encoded.layout.given, minimum, max_overlap)
            return DetectionResult(encoded.picture, ", ".join(prompts.names), detections, prompts.names)

        return detect
