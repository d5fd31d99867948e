"""`MdetrProcessor`: preprocessing of images and texts, and post-processing of the model's output."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
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
from mdetr.model.answer_space import Vocabulary
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.model.tensors import Tensor, import_torch, to_array
from mdetr.processing.array_processor import ArrayProcessor
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.images import ImageInput, as_list, load_image
from mdetr.processing.layouts import ImageLayout, image_layouts
from mdetr.processing.post_processing import (
    TargetSizes,
    post_process_grounded_object_detection,
)
from mdetr.processing.texts import as_texts
from mdetr.processing.tokens import TokenizedText, read_back, tokenized_texts, unpadded_texts
from mdetr.remote_code import PROCESSOR_CLASSES, write_remote_code

if TYPE_CHECKING:
    from mdetr.processing.targets import TargetInput


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


class MdetrProcessor(ArrayProcessor, ProcessorMixin):
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

    image_processor: MdetrImageProcessor

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
        ProcessorMixin.__init__(self, image_processor, tokenizer, **kwargs)
        self.max_text_tokens = max_text_tokens
        self.pad_text_to_multiple = pad_text_to_multiple
        self.answer_types = answer_types
        self.answer_vocabulary = answer_vocabulary
        self.default_threshold = default_threshold
        self.check_settings()
        self.auto_map = dict(PROCESSOR_CLASSES)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Save the processor like any `ProcessorMixin`, with the file for `trust_remote_code=True`."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        write_remote_code(save_directory)
        return saved

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
        if return_tensors == "pt":
            import_torch()  # which says what to do where it is not installed

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
        texts = tokenized_texts(encoding.encodings or (), text_list)
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
        if return_tensors == "pt":
            import_torch()

        # Check the tokenizer and the texts
        if not getattr(self.tokenizer, "is_fast", False):
            raise InvalidInputError(
                f"{type(self.tokenizer).__name__} does not know which characters a token covers; use a fast "
                "tokenizer."
            )
        self.check_texts(texts)

        # Tokenize, and refuse texts that are too long
        encoding = self.tokenizer(
            list(texts),
            padding="longest",
            pad_to_multiple_of=self.pad_text_to_multiple,
            return_tensors=return_tensors,
            split_special_tokens=True,
            verbose=False,  # texts that are too long are refused below
        )
        self.check_lengths(texts, encoding["attention_mask"].sum(1).tolist())
        return encoding

    def tokenize_each(self, texts: Sequence[str]) -> list[TokenizedText]:
        return unpadded_texts(self.tokenize(texts, "np").encodings or (), texts)

    def pad_texts(self, texts: Sequence[TokenizedText]) -> dict[str, NDArray[np.int64]]:
        padded = self.tokenizer.pad(
            {"input_ids": [list(text.input_ids) for text in texts]},
            padding="longest",
            pad_to_multiple_of=self.pad_text_to_multiple,
            return_tensors="np",
            verbose=False,
        )
        return {name: padded[name] for name in ("input_ids", "attention_mask")}

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
