"""`MdetrProcessor`: preprocessing of images and texts, and post-processing of the model's output."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from transformers import (
    AutoProcessor,
    BatchEncoding,
    BatchFeature,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    RobertaTokenizer,
)

from mdetr.errors import InvalidInputError
from mdetr.model.answer_space import AnswerSpace, Vocabulary
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.model.tensors import Tensor, to_array
from mdetr.processing.coordinates import Size
from mdetr.processing.detections import MAX_OVERLAP, Detections
from mdetr.processing.image_processor import MdetrImageProcessor, is_positive
from mdetr.processing.images import ImageInput, as_list, load_image
from mdetr.processing.layouts import ImageLayout, image_layouts
from mdetr.processing.post_processing import (
    TargetSizes,
    post_process_boxes,
    post_process_grounded_object_detection,
    post_process_grounding,
    post_process_masks,
    post_process_predictions,
    post_process_referring,
    post_process_segmentation,
)
from mdetr.processing.prediction import Prediction
from mdetr.processing.texts import as_texts, check_text
from mdetr.processing.tokens import TokenizedText, read_back, tokenized_texts, unpadded_texts
from mdetr.remote_code import PROCESSOR_CLASSES, write_remote_code

if TYPE_CHECKING:
    from mdetr.processing.targets import TargetInput


def is_fraction(value: Any) -> bool:
    """Return whether a value is a number from 0 to 1."""
    try:
        return bool(0 <= value <= 1)
    except (TypeError, ValueError, RuntimeError):  # texts, and arrays and tensors of several numbers
        return False


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Load the tokenizer of RoBERTa, which the released models use, from the package."""
    return RobertaTokenizer.from_pretrained(Path(__file__).parents[1] / "assets" / "roberta")


@dataclass(frozen=True, eq=False)
class Batch:
    """Arguments of the model, with the texts and layouts that post-processing needs.

    Attributes:
        inputs: Arguments of `forward`.
        texts: B texts with their tokens.
        layouts: Layout of each text's image in the batch; without texts, of each image.
    """

    inputs: BatchFeature
    texts: Sequence[TokenizedText]
    layouts: Sequence[ImageLayout]


class MdetrProcessor(ProcessorMixin):
    """Converts images and texts to the model's tensors, and its output to detections.

    Args:
        image_processor: Processor of the images.
        tokenizer: Any fast Hugging Face tokenizer that fits the model's text encoder.
        max_text_tokens: Number of token positions of the model; longer texts, including special tokens, are
            refused.
        pad_text_to_multiple: Multiple that the number of tokens is rounded up to, for fewer different shapes;
            None to pad only to the longest text of the batch.
        answer_types: Types of answers of the model; see `MdetrConfig`.
        answer_vocabulary: Answers of each type; see `MdetrConfig`.
        default_threshold: Minimum score of a detection, from 0 to 1, for calls without a threshold.
        **kwargs: Further arguments of `ProcessorMixin`.
    """

    def __init__(
        self,
        image_processor: MdetrImageProcessor,
        tokenizer: PreTrainedTokenizerFast,
        max_text_tokens: int = 256,
        pad_text_to_multiple: int | None = None,
        answer_types: Sequence[str] | None = None,
        answer_vocabulary: Vocabulary | None = None,
        default_threshold: float = 0.7,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)
        for name, value in (
            ("max_text_tokens", max_text_tokens),
            ("pad_text_to_multiple", pad_text_to_multiple),
        ):
            if not is_positive(value) and (value is not None or name == "max_text_tokens"):
                raise InvalidInputError(f"{name} must be a positive whole number, got {value!r:.60}.")
        if not isinstance(default_threshold, int | float) or not 0 <= default_threshold <= 1:
            raise InvalidInputError(f"default_threshold must be from 0 to 1, got {default_threshold!r:.60}.")
        if not isinstance(answer_types or (), Sequence):
            raise InvalidInputError(f"answer_types must be a list of names, got {answer_types!r:.60}.")
        self.max_text_tokens = max_text_tokens
        self.pad_text_to_multiple = pad_text_to_multiple
        self.answer_types = answer_types
        self.answer_vocabulary = answer_vocabulary
        self.default_threshold = default_threshold
        self.auto_map = dict(PROCESSOR_CLASSES)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Save the processor like any `ProcessorMixin`, with the file for `trust_remote_code=True`."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        write_remote_code(save_directory)
        return saved

    @property
    def answers(self) -> AnswerSpace:
        """Answers that the model can give."""
        return AnswerSpace(tuple(self.answer_types or ()), self.answer_vocabulary or {})

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: ImageInput | Sequence[ImageInput] | None = None,
        text: str | Sequence[str] | None = None,
        targets: TargetInput | Sequence[TargetInput] | None = None,
        do_resize: bool = True,
        return_tensors: str = "pt",
        image_index: Tensor | Sequence[int] | None = None,
    ) -> BatchFeature:
        """Convert images and texts, and optionally targets, to the arguments of the model's `forward`.

        Args:
            images: I images of any kind; see `load_image`.
            text: B texts. One image with several texts, or as many texts as images, need no `image_index`.
            targets: Target of each text; see `TargetInput`.
            do_resize: Whether to resize images according to the configuration.
            return_tensors: "pt" for tensors of torch, "np" for arrays of numpy, for an exported model.
            image_index: (B,) index of each text's image.

        Returns:
            pixel_values (I, 3, H, W), pixel_mask (I, H, W), input_ids and attention_mask (B, L), and targets
            and image_index if they are given.

        Raises:
            InvalidInputError: An image, text or target cannot be used; the message says why.
        """
        if return_tensors not in ("pt", "np"):
            raise InvalidInputError(
                f'Expected return_tensors "pt" (PyTorch) or "np" (NumPy), got {return_tensors!r}.'
            )
        return self.prepare(images, text, targets, do_resize, image_index, return_tensors).inputs

    def prepare(
        self,
        images: ImageInput | Sequence[ImageInput] | None = None,
        text: str | Sequence[str] | None = None,
        targets: TargetInput | Sequence[TargetInput] | None = None,
        do_resize: bool = True,
        image_index: Tensor | Sequence[int] | None = None,
        return_tensors: str = "pt",
    ) -> Batch:
        """Convert like a call, with the same arguments, and keep what post-processing needs."""
        # Load, resize and pad the images
        inputs: dict[str, Any] = {}
        layouts: list[ImageLayout] = []
        if images is not None:
            loaded = [load_image(image) for image in as_list(images)]
            if not loaded:
                raise InvalidInputError("Expected at least one image, got an empty list.")
            resized = [self.image_processor.resize(image) if do_resize else image for image in loaded]
            inputs.update(self.image_processor.pad(resized))
            sizes = [(image.shape[0], image.shape[1]) for image in loaded]
            layouts = image_layouts(sizes, inputs["pixel_mask"])
        if text is None:
            return Batch(BatchFeature(inputs, tensor_type=return_tensors), [], layouts)

        # Tokenize the texts, and find the image of each
        text_list = as_texts(text)
        encoding = self.tokenize(text_list, "np")
        texts = tokenized_texts(encoding, text_list)
        inputs.update({name: encoding[name] for name in ("input_ids", "attention_mask")})
        index = _image_of_text(image_index, len(texts), len(layouts))
        if index is not None:
            inputs["image_index"] = index
            layouts = [layouts[i] for i in index.tolist()] if layouts else []
        batch = Batch(BatchFeature(inputs, tensor_type=return_tensors), texts, layouts)

        # Convert the targets
        if targets is not None:
            from mdetr.processing.targets import make_targets  # imports torch, which only training needs

            if not layouts:
                raise InvalidInputError("Targets need images, because their boxes are relative; give images.")
            target_list = [targets] if isinstance(targets, Mapping) else list(targets)
            made = make_targets(texts, target_list, layouts, self.max_text_tokens, self.answers)
            batch.inputs["targets"] = made
        return batch

    def tokenize(self, texts: Sequence[str], return_tensors: str = "pt") -> BatchEncoding:
        """Tokenize texts, padded to the longest.

        Special tokens within a text, such as "<mask>", are treated as ordinary text.

        Args:
            texts: B texts.
            return_tensors: "pt" for tensors of torch, "np" for arrays of numpy.

        Returns:
            The encoding, with input_ids and attention_mask (B, L).

        Raises:
            InvalidInputError: A text is not a string, is empty, or has more tokens than the model has
                positions.
        """
        # Check the tokenizer and the texts
        if not getattr(self.tokenizer, "is_fast", False):
            raise InvalidInputError(
                f"{type(self.tokenizer).__name__} does not know which characters a token covers; use a fast "
                "tokenizer."
            )
        if not texts:
            raise InvalidInputError("Expected at least one text, got an empty list.")
        for text in texts:
            check_text(text)

        # Tokenize, and refuse texts that are too long
        encoding = self.tokenizer(
            list(texts),
            padding="longest",
            pad_to_multiple_of=self.pad_text_to_multiple,
            return_tensors=return_tensors,
            split_special_tokens=True,
            verbose=False,  # texts that are too long are refused below
        )
        for text, length in zip(texts, encoding["attention_mask"].sum(1).tolist(), strict=True):
            if length > self.max_text_tokens:
                raise InvalidInputError(
                    f"The text has {length} tokens, but the model has only {self.max_text_tokens} positions; "
                    f'shorten it: "{text[:40]}..."'
                )
        return encoding

    def tokenize_each(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts without padding; see `tokenize` for the errors."""
        return unpadded_texts(self.tokenize(texts, "np"), texts)

    def pad_texts(self, texts: Sequence[TokenizedText]) -> dict[str, NDArray[np.int64]]:
        """Pad tokenized texts to the longest: input_ids and attention_mask (B, L)."""
        padded = self.tokenizer.pad(
            {"input_ids": [list(text.input_ids) for text in texts]},
            padding="longest",
            pad_to_multiple_of=self.pad_text_to_multiple,
            return_tensors="np",
            verbose=False,
        )
        return {name: padded[name] for name in ("input_ids", "attention_mask")}

    def threshold_or_default(self, threshold: float | None) -> float:
        """Check a threshold, and replace None by the model's own.

        Args:
            threshold: Minimum score, or None.

        Returns:
            The minimum score.

        Raises:
            InvalidInputError: It is not between 0 and 1.
        """
        chosen = self.default_threshold if threshold is None else threshold
        if not is_fraction(chosen):
            raise InvalidInputError(f"Expected a threshold between 0 and 1, got {chosen}.")
        return float(chosen)

    def post_process_grounding(
        self,
        output: MdetrOutput,
        texts: Sequence[TokenizedText],
        sizes: Sequence[Size],
        threshold: float | None = None,
        token_threshold: float = 0.1,
        max_overlap: float = MAX_OVERLAP,
    ) -> list[Detections]:
        """See `post_process_grounding`; None is the model's own threshold."""
        limit = self.threshold_or_default(threshold)
        return post_process_grounding(output, texts, sizes, limit, token_threshold, max_overlap)

    def post_process_grounded_object_detection(
        self,
        outputs: MdetrOutput,
        input_ids: Tensor | None = None,
        threshold: float | None = None,
        text_threshold: float = 0.1,
        target_sizes: TargetSizes | None = None,
    ) -> list[dict[str, Any]]:
        """Find the objects that each text mentions, best first, as users of Grounding DINO know it.

        The boxes are those of `Mdetr.ground`: duplicates of a better box of the same words are left out.

        Args:
            outputs: Output of the model for B texts.
            input_ids: (B, L) int64, tokens of the texts; by default those in `outputs`.
            threshold: Minimum score, 1 - p(no object), of a box; None for the model's own.
            text_threshold: Minimum probability of a token whose word belongs to a box. If no token of a box
                reaches it, the minimum is half of the largest probability.
            target_sizes: (height, width) of each text's original image, in pixels, also as a tensor (B, 2);
                by default boxes are relative to the image, from 0 to 1.

        Returns:
            For each text "scores" (n,) float32, "boxes" (n, 4) float32, x0, y0, x1, y1, and "text_labels", n
            phrases as the tokenizer spells them, also under "labels".

        Raises:
            InvalidInputError: There are no tokens, a threshold is not between 0 and 1, or the number of sizes
                differs from the number of texts.
        """
        ids = outputs.input_ids if input_ids is None else input_ids
        if ids is None:
            raise InvalidInputError("The outputs contain no tokens; give the input_ids from the processor.")
        texts = read_back(self.tokenizer, ids)
        limit, token_limit = self.threshold_or_default(threshold), self.threshold_or_default(text_threshold)
        return post_process_grounded_object_detection(outputs, texts, limit, token_limit, target_sizes)

    def post_process_referring(
        self, output: MdetrOutput, texts: Sequence[str], sizes: Sequence[Size], threshold: float = 0
    ) -> list[Detections]:
        """See `post_process_referring`."""
        return post_process_referring(output, texts, sizes, threshold)

    def post_process_segmentation(
        self,
        output: MdetrOutput,
        texts: Sequence[str],
        layouts: Sequence[ImageLayout],
        threshold: float | None = None,
    ) -> list[Detections]:
        """See `post_process_segmentation`; None is the model's own threshold."""
        return post_process_segmentation(output, texts, layouts, self.threshold_or_default(threshold))

    def post_process_predictions(
        self, output: MdetrOutput, texts: Sequence[TokenizedText], layouts: Sequence[ImageLayout]
    ) -> list[Prediction]:
        """See `post_process_predictions`."""
        return post_process_predictions(output, texts, layouts, self.answers)

    def post_process_boxes(self, output: MdetrOutput, sizes: Sequence[Size]) -> list[Detections]:
        """See `post_process_boxes`."""
        return post_process_boxes(output, sizes)

    def post_process_masks(
        self, output: MdetrOutput, queries: Sequence[Int[np.ndarray, "_"]], layouts: Sequence[ImageLayout]
    ) -> list[Bool[np.ndarray, "_ _ _"]]:
        """See `post_process_masks`."""
        return post_process_masks(output, queries, layouts)

    def post_process_answers(self, output: MdetrOutput) -> list[tuple[str, str | None, float]]:
        """Return the best answer to each text, its type (None for a single head) and its probability."""
        if output.answer_logits is None:
            raise InvalidInputError(
                "Expected a model that predicts answers, got one without; use one trained for question "
                "answering."
            )
        return self.answers.decode(output.answer_logits)


def _image_of_text(
    image_index: Tensor | Sequence[int] | None, num_texts: int, num_images: int
) -> Int[np.ndarray, "texts"] | None:
    """Check or make the index of each text's image.

    Args:
        image_index: (B,) index of each text's image, if given.
        num_texts: Number of texts, B.
        num_images: Number of images; 0 if only texts are processed.

    Returns:
        (B,) index of each text's image; None if text b belongs to image b, or there are no images.

    Raises:
        InvalidInputError: An index is out of range, or is missing for these numbers of images and texts.
    """
    if image_index is not None:
        index = to_array(image_index).astype(np.int64)
        if index.shape != (num_texts,):
            raise InvalidInputError(
                f"Expected image_index of shape ({num_texts},), one for each text, got {tuple(index.shape)}."
            )
        if num_images and not bool(((index >= 0) & (index < num_images)).all()):
            raise InvalidInputError(
                f"Expected an image_index between 0 and {num_images - 1}, got {index.tolist()}."
            )
        return index
    if num_images in (0, num_texts):
        return None
    if num_images == 1:
        return np.zeros(num_texts, np.int64)
    raise InvalidInputError(
        f"Got {num_images} images and {num_texts} texts; give the same number of both, or an image_index for "
        "each text."
    )


AutoProcessor.register(MdetrConfig, MdetrProcessor, exist_ok=True)
