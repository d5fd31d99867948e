"""Images and texts in, the model's tensors out; the model's output in, boxes and their words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou
from transformers import (
    BatchEncoding,
    BatchFeature,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    RobertaTokenizer,
)

from mdetr.errors import InvalidInputError
from mdetr.images import ImageInput, MdetrImageProcessor, Size, as_list, load_image
from mdetr.model.interface import MdetrOutput, Targets

Box = tuple[float, float, float, float]
Span = tuple[int, int]
Spans = tuple[Span, ...]

_GAP = " ... "


class TargetInput(TypedDict):
    """What one text should be answered with; the other fields of a record may be there too.

    boxes: N boxes x0, y0, x1, y1 in pixels of the image given. spans: per box, characters of the text,
    (start, end) with end exclusive. is_referred: per box, whether the text as a whole denotes it.
    """

    boxes: Sequence[Sequence[float]]
    spans: Sequence[Sequence[Sequence[int]]]
    is_referred: NotRequired[Sequence[bool] | None]


@dataclass(frozen=True)
class Grounding:
    """A thing that was found: its words and its place.

    phrase: the words, with " ... " where words between them do not belong. spans: their characters.
    box: x0, y0, x1, y1 in pixels of the image. score: 1 - p(no object).
    """

    phrase: str
    spans: Spans
    box: Box
    score: float


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of RoBERTa and DistilRoBERTa, which the published models read with; needs no network."""
    return RobertaTokenizer.from_pretrained(Path(__file__).parent / "assets" / "roberta")


class MdetrProcessor(ProcessorMixin):
    """Everything between a user's images and texts and the model's tensors, in both directions.

    Args:
        image_processor: how images become tensors.
        tokenizer: any fast Hugging Face tokenizer that fits the model's text encoder.
        max_text_tokens: the model's token positions: longer texts, special tokens included, are refused.
        pad_text_to_multiple: texts are padded to a multiple of this many tokens, for stable shapes; None for
            the longest of the batch.
    """

    def __init__(
        self,
        image_processor: MdetrImageProcessor,
        tokenizer: PreTrainedTokenizerFast,
        max_text_tokens: int = 256,
        pad_text_to_multiple: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)
        self.max_text_tokens = max_text_tokens
        self.pad_text_to_multiple = pad_text_to_multiple

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: ImageInput | Sequence[ImageInput] | None = None,
        text: str | Sequence[str] | None = None,
        targets: TargetInput | Sequence[TargetInput] | None = None,
        do_resize: bool = True,
        return_tensors: str = "pt",
        image_index: Tensor | Sequence[int] | None = None,
    ) -> BatchFeature:
        """Turn images and texts, and where given their targets, into the arguments of `MdetrModel.forward`.

        Args:
            images: I images: paths, PIL images, (H, W, 3) uint8 arrays or (3, H, W) uint8 tensors.
            text: B texts. One image with several texts, or as many texts as images, need no `image_index`.
            targets: per text; see `TargetInput`.
            do_resize: whether images are resized as the configuration says.
            return_tensors: "pt"; nothing else is offered.
            image_index: (B,) the image that each text speaks of.

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
        batch = BatchFeature()
        sizes: list[Size] = []
        if images is not None:
            loaded = [load_image(image) for image in as_list(images)]
            if not loaded:
                raise InvalidInputError("Expected at least one image, found an empty list.")
            sizes = [(image.shape[-2], image.shape[-1]) for image in loaded]
            batch.update(self.image_processor(loaded, do_resize=do_resize))
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            encoding = self.tokenize(texts)
            batch.update({name: encoding[name] for name in ("input_ids", "attention_mask")})
            index = _image_of_text(image_index, len(texts), len(sizes))
            if index is not None:
                batch["image_index"] = index
            if targets is not None:
                if not sizes:
                    raise InvalidInputError("Targets need their images, to which their boxes are relative.")
                given = [targets] if isinstance(targets, Mapping) else list(targets)
                images_of_texts = range(len(texts)) if index is None else index.tolist()
                batch["targets"] = self._make_targets(
                    encoding, texts, given, [sizes[i] for i in images_of_texts]
                )
        return batch

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """Texts -> their encoding, padded to the longest.

        Raises:
            InvalidInputError: a text is empty, or has more tokens than the model has positions.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise InvalidInputError(
                f"{type(self.tokenizer).__name__} cannot say which characters a token covers; "
                "use a fast tokenizer."
            )
        if not texts:
            raise InvalidInputError("Expected at least one text, found an empty list.")
        for text in texts:
            if not isinstance(text, str):
                raise InvalidInputError(f"Expected a text, found {type(text).__name__}.")
            if not text.strip():
                raise InvalidInputError("The text is empty; say what to look for in the image.")
        encoding = self.tokenizer(
            list(texts), padding="longest", pad_to_multiple_of=self.pad_text_to_multiple, return_tensors="pt"
        )
        for text, length in zip(texts, encoding["attention_mask"].sum(1).tolist(), strict=True):
            if length > self.max_text_tokens:
                raise InvalidInputError(
                    f"The text has {length} tokens, the model has positions for {self.max_text_tokens}; "
                    f'shorten it: "{text[:40]}..."'
                )
        return encoding

    def _make_targets(
        self,
        encoding: BatchEncoding,
        texts: Sequence[str],
        targets: Sequence[TargetInput],
        sizes: Sequence[Size],
    ) -> Targets:
        if len(targets) != len(texts):
            raise InvalidInputError(
                f"Expected a target for each of the {len(texts)} texts, found {len(targets)}."
            )
        num_texts, num_tokens = encoding["input_ids"].shape
        num_boxes = max(len(target["boxes"]) for target in targets)
        boxes = torch.zeros(num_texts, num_boxes, 4)
        box_mask = torch.zeros(num_texts, num_boxes, dtype=torch.bool)
        positive_map = torch.zeros(num_texts, num_boxes, self.max_text_tokens, dtype=torch.bool)
        alignment_map = torch.zeros(num_texts, num_boxes, num_tokens, dtype=torch.bool)
        is_referred = torch.zeros(num_texts, num_boxes)
        referred_mask = torch.zeros(num_texts, dtype=torch.bool)
        for row, (text, target, (height, width)) in enumerate(zip(texts, targets, sizes, strict=True)):
            _check_target(target, text)
            count = len(target["boxes"])
            box_mask[row, :count] = True
            if count:
                xyxy = torch.tensor(target["boxes"], dtype=torch.float32)
                boxes[row, :count] = box_convert(xyxy, "xyxy", "cxcywh") / torch.tensor([width, height] * 2)
            for box, spans in enumerate(target["spans"]):
                for first, last in token_ranges(encoding, row, spans):
                    positive_map[row, box, first : last + 1] = True
                for first, last in exact_token_ranges(encoding, row, spans):
                    alignment_map[row, box, first : last + 1] = True
            referred = target.get("is_referred")
            if referred is not None:
                referred_mask[row] = True
                is_referred[row, :count] = torch.tensor(referred, dtype=torch.float32)
        return Targets(
            boxes=boxes,
            box_mask=box_mask,
            positive_map=positive_map,
            alignment_map=alignment_map,
            is_referred=is_referred,
            referred_mask=referred_mask,
        )

    def post_process_grounding(
        self,
        output: MdetrOutput,
        texts: Sequence[str],
        sizes: Sequence[Size],
        threshold: float = 0.7,
        token_threshold: float = 0.1,
        max_overlap: float = 0.7,
    ) -> list[list[Grounding]]:
        """What the model found, per text, best first.

        Args:
            output: the model's, for B texts.
            texts: the B texts.
            sizes: (height, width) of each text's image as given, in pixels.
            threshold: a query is kept if its score, 1 - p(no object), is above this.
            max_overlap: a box is left out if its intersection over union with a better one of the same words
                is above this; 1 keeps all.
            token_threshold: a query's words are the tokens with a probability above this. Tokens that touch,
                or have only white space between them, make one span; special tokens are never words. A query
                without such a token is kept with an empty phrase.
        """
        encoding = self.tokenize(texts)
        probabilities = _logits(output).float().softmax(-1).cpu()  # (B, Q, positions)
        results: list[list[Grounding]] = []
        for row, (text, (boxes, scores, _)) in enumerate(
            zip(texts, post_process_boxes(output, sizes), strict=True)
        ):
            boxes, scores = boxes.cpu(), scores.cpu()
            height, width = sizes[row]
            boxes = torch.stack(
                (boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)), -1
            ).flatten(1)
            found: list[Grounding] = []
            places: dict[Spans, Tensor] = {}  # the boxes of each phrase so far
            for query in scores.argsort(descending=True, stable=True).tolist():
                if not scores[query] > threshold:
                    break
                tokens = (probabilities[row, query, :-1] > token_threshold).nonzero()[:, 0].tolist()
                spans = _spans_of_tokens(encoding, row, tokens, text)
                place, others = boxes[query][None], places.get(spans, boxes[:0])
                if (box_iou(place, others) > max_overlap).any():
                    continue
                places[spans] = torch.cat((others, place))
                x0, y0, x1, y1 = boxes[query].tolist()
                phrase = _GAP.join(text[start:end] for start, end in spans)
                found.append(Grounding(phrase, spans, (x0, y0, x1, y1), float(scores[query])))
            results.append(found)
        return results

    def post_process_boxes(
        self, output: MdetrOutput, sizes: Sequence[Size]
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """See `mdetr.processor.post_process_boxes`."""
        return post_process_boxes(output, sizes)


def post_process_boxes(
    output: MdetrOutput, sizes: Sequence[Size]
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Every query's box and scores, per text.

    Args:
        output: the model's, for B texts with Q queries.
        sizes: (height, width) of each text's image as given, in pixels.

    Returns:
        Per text: boxes (Q, 4) x0, y0, x1, y1 in pixels, not clamped; scores (Q,) = 1 - p(no object); and
        score * p(referred) (Q,), or None where the model does not predict it.
    """
    logits, pred_boxes = _logits(output), output.pred_boxes
    assert pred_boxes is not None
    if len(sizes) != len(logits):
        raise InvalidInputError(
            f"Expected the image size of each of the {len(logits)} texts, found {len(sizes)}."
        )
    scores = 1 - logits.float().softmax(-1)[..., -1]  # (B, Q)
    scale = torch.tensor(
        [(width, height, width, height) for height, width in sizes], device=pred_boxes.device
    )
    boxes = box_convert(pred_boxes.float(), "cxcywh", "xyxy") * scale[:, None]  # (B, Q, 4)
    if output.referred_logits is None:
        return [(boxes[row], scores[row], None) for row in range(len(boxes))]
    referred = scores * output.referred_logits.float().sigmoid()
    return [(boxes[row], scores[row], referred[row]) for row in range(len(boxes))]


def token_ranges(encoding: BatchEncoding, row: int, spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The first and last token of each span of text `row`, for soft tokens.

    A span that begins or ends between tokens is moved by one or two characters to its inside; one that still
    does so is left out.

    Source: arXiv 2104.12763, section 2.2.2; the moves are those that the published models were trained with.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first = _first_token(encoding, row, (start, start + 1, start + 2))
        last = _first_token(encoding, row, (end - 1, end - 2, end - 3))
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges


def exact_token_ranges(
    encoding: BatchEncoding, row: int, spans: Sequence[Sequence[int]]
) -> list[tuple[int, int]]:
    """The first and last token of each span of text `row`, for alignment.

    A span that begins or ends between tokens is left out.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first = _first_token(encoding, row, (start,))
        last = _first_token(encoding, row, (end - 1,))
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges


def _first_token(encoding: BatchEncoding, row: int, characters: Sequence[int]) -> int | None:
    for character in characters:
        if character >= 0 and (token := encoding.char_to_token(row, character)) is not None:
            return token
    return None


def _spans_of_tokens(encoding: BatchEncoding, row: int, tokens: Sequence[int], text: str) -> Spans:
    """The characters of some tokens of text `row` in maximal spans, without white space at their ends."""
    offsets, special = encoding[row].offsets, encoding[row].special_tokens_mask
    spans: list[Span] = []
    for token in tokens:
        if token >= len(offsets) or special[token]:
            continue
        start, end = offsets[token]
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        if start == end:
            continue
        if spans and not text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return tuple(spans)


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


def _check_target(target: TargetInput, text: str) -> None:
    count = len(target["boxes"])
    if len(target["spans"]) != count:
        raise InvalidInputError(
            f"A target needs spans for each of its {count} boxes, found {len(target['spans'])}."
        )
    referred = target.get("is_referred")
    if referred is not None and len(referred) != count:
        raise InvalidInputError(
            f"A target needs is_referred for each of its {count} boxes, found {len(referred)}."
        )
    for spans in target["spans"]:
        for start, end in spans:
            if not 0 <= start < end <= len(text):
                raise InvalidInputError(
                    f"Span ({start}, {end}) is empty or outside its text of {len(text)} characters: "
                    f"{text[:40]!r}."
                )


def _logits(output: MdetrOutput) -> Tensor:
    assert output.logits is not None
    return output.logits
