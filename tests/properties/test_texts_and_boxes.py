"""What holds for any text, spans and boxes: through tokens, augmentation, combination and post-processing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from mdetr.data.augmentation.pipelines import clevr_training_augmentation, fixed_size_training_augmentation
from mdetr.data.augmentation.transforms import (
    FixedResize,
    HorizontalFlip,
    RandomLongestSide,
    RandomPartialCrop,
    RandomScaleCrop,
    RandomSizeCrop,
    RandomZoomOut,
)
from mdetr.data.combine import combine_records, conflict_matrix
from mdetr.data.examples import Augmentation
from mdetr.data.record import Record, validate_record
from mdetr.data.spans import consolidate_spans
from mdetr.model.interface import MdetrOutput
from mdetr.processing.post_processing import post_process_grounding
from mdetr.processing.rle import decode_masks, encode_masks, encode_polygons, encode_run_lengths, run_lengths
from mdetr.processing.tokens import TokenizedText, exact_token_ranges, token_ranges, tokenized_texts
from tests.properties.strategies import boxes_within, records, texts_with_spans, words_of


def _tokenized(tokenizer: PreTrainedTokenizerFast, text: str) -> TokenizedText:
    return tokenized_texts(tokenizer([text]).encodings, [text])[0]


@given(case=texts_with_spans(3))
def test_the_tokens_of_a_span_of_words_cut_these_words(
    tokenizer: PreTrainedTokenizerFast, case: tuple[str, list[tuple[int, int]]]
) -> None:
    text, spans = case
    tokenized = _tokenized(tokenizer, text)
    for find in (token_ranges, exact_token_ranges):
        ranges = find(tokenized, spans)
        assert len(ranges) == len(spans)
        for (first, last), (start, end) in zip(ranges, spans, strict=True):
            covered = text[tokenized.token_spans[first][0] : tokenized.token_spans[last][1]]
            assert covered.strip() == text[start:end]


_STEPS: dict[str, Callable[[], Augmentation]] = {
    "flip": lambda: HorizontalFlip(1.0),
    "resize": lambda: FixedResize(37, 53),
    "longest side": lambda: RandomLongestSide((20, 50, 90)),
    "size crop": lambda: RandomSizeCrop(8, 60),
    "scale crop": lambda: RandomScaleCrop(0.3, 1.0),
    "partial crop": lambda: RandomPartialCrop(0.3, 1.0),
    "zoom out": lambda: RandomZoomOut(2.0),
    "fixed size": lambda: fixed_size_training_augmentation(32, 48),
    "clevr": clevr_training_augmentation,
}


@pytest.mark.parametrize("step", _STEPS)
@given(data=st.data(), width=st.integers(9, 80), height=st.integers(9, 80), seed=st.integers(0, 2**31))
def test_augmented_boxes_stay_in_the_image_and_keep_their_words(
    step: str, data: st.DataObject, width: int, height: int, seed: int
) -> None:
    record = data.draw(records(width, height))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    result, (moved,) = _STEPS[step]()(image, (record,), torch.Generator().manual_seed(seed))
    validate_record(moved)
    assert (moved.height, moved.width) == tuple(result.shape[-2:])
    before, after = words_of(record), words_of(moved)
    assert len(after) == len(moved.boxes)
    assert after == {category: before[category] for category in after}


@given(data=st.data(), count=st.integers(1, 9))
def test_combined_captions_lose_no_phrase_and_do_not_conflict(data: st.DataObject, count: int) -> None:
    members = [data.draw(records(40, 40, number)) for number in range(count)]
    combined = combine_records(members)

    def phrases(some: list[Record]) -> Counter[Any]:
        found: Counter[Any] = Counter()
        for record in some:
            for box, spans in zip(record.boxes, record.spans, strict=True):
                cut = consolidate_spans(spans, record.text)
                found[box, tuple(record.text[start:end] for start, end in cut)] += 1
        return found

    assert phrases(combined) == phrases(members)
    for record in combined:
        validate_record(record)
        own = [member for member in members if f'"{member.id}"]' in str(record.extra)]
        assert len(record.text) <= 250 or len(own) == 1
        assert not conflict_matrix(own).any()
        assert all(member.text in record.text for member in own)


def _is_within_word(text: str, place: int) -> bool:
    """Whether a place is between two letters or digits; each Chinese character is a word."""
    around = text[place - 1 : place + 1] if place else ""
    return len(around) == 2 and around.isalnum() and not any("\u4e00" <= each <= "\u9fff" for each in around)


@given(
    case=texts_with_spans(0),
    seed=st.integers(0, 2**31),
    scale=st.floats(0.1, 30),
    size=st.integers(1, 99),
)
def test_predictions_have_boxes_in_the_image_scores_and_whole_words(
    tokenizer: PreTrainedTokenizerFast, case: tuple[str, Any], seed: int, scale: float, size: int
) -> None:
    text, _ = case
    generator = torch.Generator().manual_seed(seed)
    tokenized = _tokenized(tokenizer, text)
    output = MdetrOutput(
        logits=scale * torch.randn(1, 7, 256, generator=generator),
        pred_boxes=torch.rand(1, 7, 4, generator=generator) * 1.5,
    )
    (found,) = post_process_grounding(output, [tokenized], [(size, 2 * size)], threshold=0.1)
    assert ((found.boxes_xyxy >= 0) & (found.boxes_xyxy <= [2 * size, size, 2 * size, size])).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    for spans in found.spans or ():
        for start, end in spans:
            assert not _is_within_word(text, start)
            assert not _is_within_word(text, end)
            assert text[start:end].strip() == text[start:end] != ""


@given(data=st.data(), width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_masks_survive_their_encodings(data: st.DataObject, width: int, height: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((1, height, width)) < 0.4
    mask[0, 0, 0] = True
    assert (decode_masks(encode_masks(mask.astype(np.uint8)), height, width)[0] == mask[0]).all()
    again = encode_run_lengths(run_lengths(mask[0]), height, width)
    assert (decode_masks([again], height, width)[0] == mask[0]).all()

    # A rectangle with corners at whole pixels has exactly these pixels
    x0, y0, x1, y1 = data.draw(boxes_within(width, height))
    encoded = encode_polygons([[x0, y0, x1, y0, x1, y1, x0, y1]], height, width)
    drawn = decode_masks([encoded], height, width)[0]
    assert int(drawn.sum()) == (x1 - x0) * (y1 - y0)
    assert drawn[int(y0) : int(y1), int(x0) : int(x1)].all()
