"""Run lengths: there and back."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mdetr.errors import InvalidInputError
from mdetr.processing.rle import (
    decode_masks,
    encode_masks,
    encode_polygons,
    encode_segmentation,
    mask_area,
    run_lengths,
)

MASKS = {
    "empty": np.zeros((3, 4), np.bool_),
    "full": np.ones((3, 4), np.bool_),
    "starts": np.array([[True, False], [False, True]]),
    "random": np.random.default_rng(0).random((7, 5)) > 0.5,
}


@pytest.mark.parametrize("name", MASKS)
def test_run_lengths_go_down_the_columns_and_begin_with_zeros(name: str) -> None:
    mask = MASKS[name]
    found = run_lengths(mask)
    values = [place % 2 for place, count in enumerate(found["counts"]) for _ in range(count)]
    assert found["size"] == list(mask.shape)
    assert values == mask.T.ravel().astype(int).tolist()


def test_compressed_masks_decode_to_what_was_encoded() -> None:
    masks = np.stack([MASKS["random"], ~MASKS["random"]]).astype(np.uint8)
    assert np.array_equal(decode_masks(encode_masks(masks), 7, 5), masks)


def test_no_masks_decode_to_none() -> None:
    assert decode_masks((), 7, 5).shape == (0, 7, 5)


SQUARE = np.zeros((1, 20, 30), np.uint8)
SQUARE[:, 2:6, 2:8] = 1
COMPRESSED = encode_masks(SQUARE)[0].decode("ascii")


@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 2, 8, 2, 8, 6, 2, 6]],
        {"size": [20, 30], "counts": run_lengths(SQUARE[0] == 1)["counts"]},
        {"size": [20, 30], "counts": COMPRESSED},
        {"counts": COMPRESSED},
    ],
    ids=["polygons", "run lengths", "compressed", "without a size"],
)
def test_a_mask_is_the_same_in_each_of_its_forms(segmentation: Any) -> None:
    counts = encode_segmentation(segmentation, 20, 30)
    assert counts is not None
    assert np.array_equal(decode_masks([counts], 20, 30), SQUARE)
    assert mask_area(counts, 20, 30) == 6 * 4


@pytest.mark.parametrize("nothing", [None, []])
def test_an_annotation_may_have_no_mask(nothing: Any) -> None:
    assert encode_segmentation(nothing, 20, 30) is None


NAN = float("nan")


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ([[NAN, 2, 8, 2, 8, 6]], "is not finite"),
        ([[2, 2, float("inf"), 2, 8, 6]], "is not finite"),
        ([["2", "2", "8", "2", "8", "6"]], "must be a list of numbers"),
        ([[True, 2, 8, 2, 8, 6]], "must be a list of numbers"),
        ([[2, 2, 8, 2, 8, 6, 2]], "must be a list of numbers, x and y alternating"),
        ([None], "must be a list of numbers"),
        ([[]], "no polygon of three points"),
        ([[2, 2, 8, 6]], "no polygon of three points"),
        ([[40, 2, 50, 2, 50, 6]], "outside the image"),
        ([[-9, -9, -1, -9, -1, -1]], "outside the image"),
        ([[0, 0, 25, 20] * 100_000], "outline of a polygon of its mask is too long"),
        ({"size": [30, 20], "counts": [600]}, r"size is \[30, 20\], its image's is \[20, 30\]"),
        ({"size": [20, 30], "counts": [10, 5]}, "make 15 pixels, but its image has 600"),
        ({"size": [20, 30], "counts": [10, -5, 595]}, "non-negative integers"),
        ({"size": [20, 30], "counts": [10.0, 590.0]}, "non-negative integers"),
        ({"size": [20, 30], "counts": [10, True, 589]}, "non-negative integers"),
        ({"size": [20, 30]}, "non-negative integers"),
        ({"size": [20, 30], "counts": "o" * 28}, "not those of 30 x 20 pixels"),
        ({"size": [20, 30], "counts": COMPRESSED[:-2]}, "not those of 30 x 20 pixels"),
        ({"size": [20, 30], "counts": [600]}, "has no pixel"),
        ({"counts": [100, 0, 500]}, "has no pixel"),
        ({"counts": "é"}, "non-negative integers, or compressed"),
        ("2 2 8 2", "must be a list of polygons, or run lengths"),
    ],
)
def test_a_broken_mask_is_refused_with_its_rule(segmentation: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        encode_segmentation(segmentation, 20, 30)


def test_an_image_too_large_to_be_read_gets_no_mask() -> None:
    with pytest.raises(InvalidInputError, match="too large for masks"):
        encode_segmentation([[2, 2, 8, 2, 8, 6]], 10**6, 10**6)


def test_what_is_far_away_is_cut_off_and_costs_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = encode_polygons([[-1e7, 2, 8, -1e7, 8, 6, -1e7, 6]], 20, 30)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    assert decode_masks([counts], 20, 30)[0, :6, :8].all()
    assert mask_area(counts, 20, 30) == 6 * 8
    huge = encode_polygons([[-1e308, -1e308, 1e308, -1e308, 1e308, 1e308, -1e308, 1e308]], 20, 30)
    assert mask_area(huge, 20, 30) == 20 * 30


@pytest.mark.parametrize("seed", range(8))
def test_a_polygon_that_reaches_far_out_is_drawn_as_another_program_draws_it(seed: int) -> None:
    points = np.random.default_rng(seed).uniform((-225, -250), (375, 350), (5, 2))
    picture = Image.new("1", (150, 100))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in points.tolist()], fill=1)
    other = np.asarray(picture)
    try:
        mask = decode_masks([encode_polygons([points.ravel().tolist()], 100, 150)], 100, 150)[0]
    except InvalidInputError:
        assert not other.any()
    else:
        assert (mask.astype(bool) != other).mean() < 0.03  # but for its border


def test_damaged_run_lengths_are_refused_when_they_are_decoded() -> None:
    for counts in (b"", b"oooooooooooooooooooooo", COMPRESSED.encode()):
        with pytest.raises(InvalidInputError, match="not those of 31 x 20 pixels"):
            decode_masks([counts], 20, 31)
