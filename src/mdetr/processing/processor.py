"""`MdetrProcessor`: pre-processing and post-processing of images and texts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoProcessor,
    BatchEncoding,
    BatchFeature,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    RobertaTokenizer,
)

from mdetr.errors import InvalidInputError
from mdetr.model.answers import AnswerSpace, Vocabulary
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.processing.coordinates import Size
from mdetr.processing.detections import Detections
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.images import ImageInput, ImageLayout, as_list, image_layouts, load_image
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
from mdetr.processing.targets import TargetInput, make_targets
from mdetr.processing.texts import as_texts, check_text
from mdetr.processing.tokens import TokenizedText, read_back, tokenized_texts, unpadded_texts
from mdetr.remote_code import PROCESSOR_CLASSES, write_remote_code


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of RoBERTa and DistilRoBERTa, which the published models read with; needs no network."""
    return RobertaTokenizer.from_pretrained(Path(__file__).parents[1] / "assets" / "roberta")


@dataclass(frozen=True, eq=False)
class Batch:
    """The model's arguments, with what post-processing needs to know of them.

    Attributes:
        inputs: The arguments of `forward`.
        texts: B texts with their tokens.
        layouts: How the image of each text lies in the batch; without texts, how each image does.
    """

    inputs: BatchFeature
    texts: Sequence[TokenizedText]
    layouts: Sequence[ImageLayout]


class MdetrProcessor(ProcessorMixin):
    """Everything between a user's images and texts and the model's tensors, in both directions.

    Args:
        image_processor: how images become tensors.
        tokenizer: any fast Hugging Face tokenizer that fits the model's text encoder.
        max_text_tokens: the model's token positions: longer texts, special tokens included, are refused.
        pad_text_to_multiple: texts are padded to a multiple of this many tokens, for stable shapes; None for
            the longest of the batch.
        answer_types, answer_vocabulary: what the model can answer; see `MdetrConfig`.
        default_threshold: what is less certain than this, 0..1, is left out where a call says nothing else.
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
        self.max_text_tokens = max_text_tokens
        self.pad_text_to_multiple = pad_text_to_multiple
        self.answer_types = answer_types
        self.answer_vocabulary = answer_vocabulary
        self.default_threshold = default_threshold
        self.auto_map = dict(PROCESSOR_CLASSES)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Save the processor as `ProcessorMixin` does, with what the Auto classes need to load it."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        write_remote_code(save_directory)
        return saved

    @property
    def answers(self) -> AnswerSpace:
        """What the model can answer."""
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
        """Turn images and texts, and where given their targets, into the arguments of a model's `forward`.

        Args:
            images: I images: paths, PIL images, (H, W, 3) uint8 arrays or (3, H, W) uint8 tensors.
            text: B texts. One image with several texts, or as many texts as images, need no `image_index`.
            targets: per text; see `TargetInput`.
            do_resize: whether images are resized as the configuration says.
            return_tensors: "pt"; nothing else is offered.
            image_index: (B,) the image that each text is about.

        Returns:
            pixel_values (I, 3, H, W), pixel_mask (I, H, W), input_ids and attention_mask (B, L), and where
            given targets and image_index.

        Raises:
            InvalidInputError: an image, text or target cannot be used; the message says why.
        """
        if return_tensors != "pt":
            raise InvalidInputError(
                f'return_tensors must be "pt" (PyTorch tensors); found {return_tensors!r}.'
            )
        return self.prepare(images, text, targets, do_resize, image_index).inputs

    def prepare(
        self,
        images: ImageInput | Sequence[ImageInput] | None = None,
        text: str | Sequence[str] | None = None,
        targets: TargetInput | Sequence[TargetInput] | None = None,
        do_resize: bool = True,
        image_index: Tensor | Sequence[int] | None = None,
    ) -> Batch:
        """The same as a call gives, with what post-processing needs to know; arguments as for a call."""
        inputs = BatchFeature()
        layouts: list[ImageLayout] = []
        if images is not None:
            loaded = [load_image(image) for image in as_list(images)]
            if not loaded:
                raise InvalidInputError("Expected at least one image, found an empty list.")
            resized = [self.image_processor.resize(image) if do_resize else image for image in loaded]
            inputs.update(self.image_processor.pad(resized))
            sizes = [(image.shape[-2], image.shape[-1]) for image in loaded]
            layouts = image_layouts(sizes, inputs["pixel_mask"])
        if text is None:
            return Batch(inputs, [], layouts)
        several = as_texts(text)
        encoding = self.tokenize(several)
        texts = tokenized_texts(encoding, several)
        inputs.update({name: encoding[name] for name in ("input_ids", "attention_mask")})
        index = _image_of_text(image_index, len(texts), len(layouts))
        if index is not None:
            inputs["image_index"] = index
            layouts = [layouts[i] for i in index.tolist()] if layouts else []
        if targets is not None:
            if not layouts:
                raise InvalidInputError("Targets need their images, to which their boxes are relative.")
            given = [targets] if isinstance(targets, Mapping) else list(targets)
            inputs["targets"] = make_targets(texts, given, layouts, self.max_text_tokens, self.answers)
        return Batch(inputs, texts, layouts)

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """The encoding of texts, padded to the longest.

        What looks like a special token, such as "<mask>", is text like any other.

        Raises:
            InvalidInputError: A text is no text, is empty, or has more tokens than the model has positions.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise InvalidInputError(
                f"{type(self.tokenizer).__name__} cannot say which characters a token covers; "
                "use a fast tokenizer."
            )
        if not texts:
            raise InvalidInputError("Expected at least one text, found an empty list.")
        for text in texts:
            check_text(text)
        encoding = self.tokenizer(
            list(texts),
            padding="longest",
            pad_to_multiple_of=self.pad_text_to_multiple,
            return_tensors="pt",
            split_special_tokens=True,
            verbose=False,  # a text that is too long is refused below
        )
        for text, length in zip(texts, encoding["attention_mask"].sum(1).tolist(), strict=True):
            if length > self.max_text_tokens:
                raise InvalidInputError(
                    f"The text has {length} tokens, the model has positions for {self.max_text_tokens}; "
                    f'shorten it: "{text[:40]}..."'
                )
        return encoding

    def tokenize_each(self, texts: Sequence[str]) -> list[TokenizedText]:
        """The tokens of texts, without padding; see `tokenize` for what is refused."""
        return unpadded_texts(self.tokenize(texts), texts)

    def pad_texts(self, texts: Sequence[TokenizedText]) -> BatchEncoding:
        """The input_ids and attention_mask (B, L) of texts that are tokenized, padded to the longest."""
        return self.tokenizer.pad(
            {"input_ids": [list(text.input_ids) for text in texts]},
            padding="longest",
            pad_to_multiple_of=self.pad_text_to_multiple,
            return_tensors="pt",
            verbose=False,
        )

    def threshold_or_default(self, threshold: float | None) -> float:
        """A threshold, or for None the model's own.

        Raises:
            InvalidInputError: It is not between 0 and 1.
        """
        chosen = self.default_threshold if threshold is None else threshold
        if not 0 <= chosen <= 1:
            raise InvalidInputError(f"threshold must be between 0 and 1; found {chosen}.")
        return chosen

    def post_process_grounding(
        self,
        output: MdetrOutput,
        texts: Sequence[TokenizedText],
        sizes: Sequence[Size],
        threshold: float | None = None,
        token_threshold: float = 0.1,
        max_overlap: float = 0.7,
    ) -> list[Detections]:
        """See `post_process_grounding`; a threshold of None is the model's own."""
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
        """The things that each text mentions, best first, in the form that users of Grounding DINO know.

        They are those of `Mdetr.ground`: boxes that repeat a better one of the same words are left out.

        Args:
            outputs: The model's, for B texts.
            input_ids: (B, L) int64, the texts' tokens; if left out, those in `outputs`.
            threshold: A box is kept if its score, 1 - p(no object), is above this; None is the model's own.
            text_threshold: The words of a box are those with a token whose probability is above this. Where
                no token is as probable, they are those at least half as probable as the likeliest.
            target_sizes: (height, width) of each text's image as given, in pixels, also as a tensor (B, 2);
                if left out, boxes are relative to the image, from 0 to 1.

        Returns:
            Per text "scores" (n,) float32, "boxes" (n, 4) float32, x0, y0, x1, y1, and "text_labels", n
            phrases as the tokenizer spells them, which are "labels" too.

        Raises:
            InvalidInputError: There are no tokens, a threshold is not between 0 and 1, or there are more or
                fewer sizes than texts.
        """
        ids = outputs.input_ids if input_ids is None else input_ids
        if ids is None:
            raise InvalidInputError("The outputs hold no tokens; give input_ids, as the processor made them.")
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
        """See `post_process_segmentation`; a threshold of None is the model's own."""
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
        self, output: MdetrOutput, queries: Sequence[Tensor], layouts: Sequence[ImageLayout]
    ) -> list[Tensor]:
        """See `post_process_masks`."""
        return post_process_masks(output, queries, layouts)

    def post_process_answers(self, output: MdetrOutput) -> list[tuple[str, str | None, float]]:
        """The likeliest answer of each text, its type (None where there is but one head), its probability."""
        if output.answer_logits is None:
            raise InvalidInputError(
                "This model gives no answers; take one that was trained for question answering."
            )
        return self.answers.decode(output.answer_logits)


def _image_of_text(
    image_index: Tensor | Sequence[int] | None, num_texts: int, num_images: int
) -> Tensor | None:
    if image_index is not None:
        index = torch.as_tensor(image_index, dtype=torch.int64)
        if index.shape != (num_texts,):
            raise InvalidInputError(
                f"image_index must name one image for each of {num_texts} texts, found {tuple(index.shape)}."
            )
        if num_images and not bool(((index >= 0) & (index < num_images)).all()):
            raise InvalidInputError(
                f"image_index must be between 0 and {num_images - 1}; found {index.tolist()}."
            )
        return index
    if num_images in (0, num_texts):
        return None
    if num_images == 1:
        return torch.zeros(num_texts, dtype=torch.int64)
    raise InvalidInputError(
        f"Found {num_images} images and {num_texts} texts; give as many of each, or image_index per text."
    )


AutoProcessor.register(MdetrConfig, MdetrProcessor, exist_ok=True)
