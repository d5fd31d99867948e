"""Tests of the augmentations: images, boxes, spans and all that belongs to them move together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from mdetr.data.augmentation.geometry import crop, resize, swap_sides
from mdetr.data.augmentation.pipelines import (
    clevr_training_augmentation,
    fixed_size_training_augmentation,
    model_size_training_augmentation,
    published_training_augmentation,
    scale_jitter_training_augmentation,
)
from mdetr.data.augmentation.transforms import (
    ColorJitter,
    Compose,
    FixedResize,
    HorizontalFlip,
    RandomLongestSide,
    RandomPartialCrop,
    RandomResize,
    RandomScaleCrop,
    RandomSelect,
    RandomSizeCrop,
    RandomZoomOut,
)
from mdetr.data.examples import Augmentation
from mdetr.data.record import Phrase, Record, validate_record
from mdetr.data.side_words import Language
from mdetr.errors import InvalidInputError
from mdetr.processing.rle import decode_masks, encode_masks

WIDTH, HEIGHT = 120, 80
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
PLACES = {"red": (10, 10, 30, 40), "green": (50, 20, 80, 50), "blue": (90, 5, 110, 75)}


def make_image() -> Tensor:
    """Gray, with one rectangle of each color."""
    image = torch.full((3, HEIGHT, WIDTH), 128, dtype=torch.uint8)
    for color, (x0, y0, x1, y1) in PLACES.items():
        image[:, y0:y1, x0:x1] = torch.tensor(COLORS[color], dtype=torch.uint8)[:, None, None]
    return image


def make_record(*colors: str, extra_text: str = "") -> Record:
    """A record that names some rectangles: its boxes, spans, masks, phrases and ids all agree."""
    text = " left of ".join(f"the {color} thing" for color in colors) + extra_text
    spans = tuple(
        ((text.index(f"the {color}"), text.index(f"the {color}") + len(f"the {color} thing")),)
        for color in colors
    )
    masks = torch.zeros(len(colors), HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, color in zip(masks, colors, strict=True):
        x0, y0, x1, y1 = PLACES[color]
        mask[y0:y1, x0:x1] = 1
    return Record(
        source="tests",
        split="train",
        id="-".join(colors),
        image="image.png",
        image_id="1",
        width=WIDTH,
        height=HEIGHT,
        text=text,
        boxes=tuple(tuple(map(float, PLACES[color])) for color in colors),  # type: ignore[misc]
        spans=spans,
        is_referred=tuple(color == colors[0] for color in colors),
        masks=encode_masks(masks.numpy()),
        phrases=tuple(Phrase(spans[index], (index,)) for index in range(len(colors))),
        category_ids=tuple(list(COLORS).index(color) for color in colors),
        extra=json.dumps({"colors": colors}),
    )


RECORDS = (make_record("red", "green"), make_record("blue", "red", "green"), make_record("green"))


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def assert_everything_agrees(image: Tensor, record: Record) -> None:
    """Every box holds the color that its words name, its mask fills it, and the rest still belongs to it."""
    validate_record(record)
    assert image.shape == (3, record.height, record.width)
    assert record.is_referred is not None and record.category_ids is not None and record.masks is not None
    assert len(record.boxes) == len(record.spans) == len(record.masks) == len(record.category_ids)
    first = json.loads(record.extra or "")["colors"][0]
    masks = decode_masks(record.masks, record.height, record.width)
    for index, ((x0, y0, x1, y1), ((start, end),)) in enumerate(zip(record.boxes, record.spans, strict=True)):
        match = re.fullmatch(r"the (\w+) thing", record.text[start:end])
        assert match is not None
        color = match[1]
        assert record.category_ids[index] == list(COLORS).index(color)
        assert record.is_referred[index] == (color == first)
        left, top, right, bottom = round(x0), round(y0), round(x1), round(y1)
        if right - left >= 4 and bottom - top >= 4:
            inside = image[:, top + 2 : bottom - 2, left + 2 : right - 2].float().mean((1, 2))
            if inside.numel() and not inside.isnan().any():
                assert inside.argmax() == list(COLORS).index(color)
            area = (x1 - x0) * (y1 - y0)
            assert masks[index].sum() == pytest.approx(area, abs=2 * (x1 - x0 + y1 - y0) + 4)
    for phrase in record.phrases or ():
        for box in phrase.box_indices:
            assert phrase.spans == record.spans[box]


STEPS: dict[str, Augmentation] = {
    "flip": HorizontalFlip(1.0, ("en",)),
    "resize": RandomResize((40, 60, 100), 130),
    "fixed": FixedResize(64, 64),
    "cautious crop": RandomSizeCrop(30, 100),
    "careless crop": RandomSizeCrop(20, 60, keep_all_boxes=False),
    "scale crop": RandomScaleCrop(0.5, 1.0, 0.5),
    "fixed size": fixed_size_training_augmentation(64, 96, jitter=0.1, flip_languages=("en",)),
    "partial crop": RandomPartialCrop(0.3, 1.0),
    "zoom out": RandomZoomOut(1.0, 2.0),
    "longest side": RandomLongestSide((50, 90, 150)),
    "scale jitter": scale_jitter_training_augmentation((60, 90), jitter=0.1, flip_languages=("en",)),
    "mixed": RandomSelect(
        Compose((HorizontalFlip(0.5, ("en",)), RandomSizeCrop(30, 90, False))), RandomResize((50,))
    ),
}


@pytest.mark.parametrize("name", STEPS)
@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_boxes_words_and_masks_stay_with_their_things(name: str, seed: int) -> None:
    image, records = STEPS[name](make_image(), RECORDS, generator(seed))
    for record in records:
        assert_everything_agrees(image, record)


def test_crop_moves_boxes_and_their_spans_together() -> None:
    image, (record,) = crop(make_image(), (make_record("blue", "red", "green"),), (0, 20, 60, 60))
    # of columns 20 to 80 and rows 0 to 60, blue is outside, red is cut at its left
    assert image.shape == (3, 60, 60)
    assert record.boxes == ((0.0, 10.0, 10.0, 40.0), (30.0, 20.0, 60.0, 50.0))
    assert [record.text[start:end] for ((start, end),) in record.spans] == [
        "the red thing",
        "the green thing",
    ]
    assert record.is_referred == (False, False)
    assert record.category_ids == (0, 1)
    assert [phrase.box_indices for phrase in record.phrases or ()] == [(0,), (1,)]
    assert_everything_agrees(image, record)


def test_a_phrase_keeps_those_of_its_boxes_that_are_left() -> None:
    plural = replace(
        make_record("red", "green"), phrases=(Phrase(((0, 3),), (0, 1)), Phrase(((0, 3),), (0,)))
    )
    _, (record,) = crop(make_image(), (plural,), (0, 45, 80, 75))
    assert record.phrases == (Phrase(((0, 3),), (0,)),)
    assert record.category_ids == (1,)


def test_cautious_crop_keeps_a_part_of_every_box() -> None:
    for seed in range(50):
        _, records = RandomSizeCrop(60, 120)(make_image(), RECORDS, generator(seed))
        assert [len(record.boxes) for record in records] == [2, 3, 1]


def test_careless_crop_drops_boxes() -> None:
    step = RandomSizeCrop(60, 120, keep_all_boxes=False)
    counts = {len(step(make_image(), RECORDS, generator(seed))[1][1].boxes) for seed in range(50)}
    assert min(counts) < 3


def test_scale_crop_keeps_the_aspect_ratio_and_most_of_every_box() -> None:
    sizes = set()
    for seed in range(50):
        image, (record,) = RandomScaleCrop(0.5, 1.0, 0.7)(make_image(), RECORDS[1:2], generator(seed))
        sizes.add(image.shape[1:])
        assert image.shape[2] / image.shape[1] == pytest.approx(WIDTH / HEIGHT, rel=0.03)
        for (x0, y0, x1, y1), color in zip(record.boxes, ("blue", "red", "green"), strict=True):
            a0, b0, a1, b1 = PLACES[color]
            assert (x1 - x0) * (y1 - y0) >= 0.7 * (a1 - a0) * (b1 - b0)
    assert len(sizes) > 5


def test_scale_crop_leaves_an_image_alone_that_has_no_room() -> None:
    record = replace(make_record("red"), boxes=((0.0, 0.0, 120.0, 80.0),))
    image, records = RandomScaleCrop(0.3, 0.5, 0.9)(make_image(), (record,), generator(0))
    assert torch.equal(image, make_image())
    assert records == (record,)


def test_partial_crop_shows_each_thing_well_or_not_at_all() -> None:
    counts = set()
    for seed in range(60):
        image, (record,) = RandomPartialCrop(0.3, 0.8, 0.7, 0.1)(make_image(), RECORDS[1:2], generator(seed))
        assert image.shape[2] / image.shape[1] == pytest.approx(WIDTH / HEIGHT, rel=0.06)
        whole = image.shape[1:] == (HEIGHT, WIDTH)
        for (x0, y0, x1, y1), color in zip(record.boxes, _colors(record), strict=True):
            a0, b0, a1, b1 = PLACES[color]
            assert (x1 - x0) * (y1 - y0) >= 0.7 * (a1 - a0) * (b1 - b0)
        assert record.boxes or whole
        counts.add(len(record.boxes))
    assert counts == {1, 2, 3}


def _colors(record: Record) -> list[str]:
    return [record.text[start:end].split()[1] for ((start, end),) in record.spans]


def test_partial_crop_drops_a_hidden_box_from_the_one_text_that_has_it() -> None:
    step = RandomPartialCrop(0.5, 0.6)
    seen = set()
    for seed in range(60):
        _, records = step(make_image(), RECORDS, generator(seed))
        named = [frozenset(_colors(record)) for record in records]
        shown = frozenset().union(*named)
        assert named == [shown & {"red", "green"}, shown, shown & {"green"}]
        seen.add(shown)
    assert len(seen) > 2


def test_partial_crop_cuts_an_image_without_boxes_and_keeps_one_that_a_box_fills() -> None:
    empty = replace(make_record("red"), boxes=(), spans=(), is_referred=(), masks=(), category_ids=())
    empty = replace(empty, phrases=None)
    image, _ = RandomPartialCrop(0.3, 0.5)(make_image(), (empty,), generator(0))
    assert image.shape[1] < HEIGHT
    full = replace(make_record("red"), boxes=((0.0, 0.0, 120.0, 80.0),))
    image, records = RandomPartialCrop(0.3, 0.5)(make_image(), (full,), generator(0))
    assert torch.equal(image, make_image())
    assert records == (full,)


def test_zoom_out_puts_the_image_as_it_is_on_its_mean_color() -> None:
    sizes = set()
    for seed in range(20):
        image, (record,) = RandomZoomOut(1.0, 2.0)(make_image(), RECORDS[:1], generator(seed))
        x, y = record.boxes[0][0] - 10, record.boxes[0][1] - 10  # red was at (10, 10)
        left, top = int(x), int(y)
        assert torch.equal(image[:, top : top + HEIGHT, left : left + WIDTH], make_image())
        assert WIDTH <= image.shape[2] <= 2 * WIDTH
        if top:
            mean = make_image().float().mean((1, 2))
            assert torch.allclose(image[:, 0, 0].float(), mean, atol=1)
        sizes.add(image.shape[1:])
    assert len(sizes) > 10
    image, records = RandomZoomOut(0.0)(make_image(), RECORDS, generator(0))
    assert torch.equal(image, make_image())
    assert records is RECORDS


def test_longest_side_keeps_the_aspect_ratio() -> None:
    sizes = {
        tuple(RandomLongestSide((60, 240))(make_image(), RECORDS, generator(seed))[0].shape)
        for seed in range(20)
    }
    assert sizes == {(3, 40, 60), (3, 160, 240)}


@given(
    seed=st.integers(0, 2**31),
    height=st.integers(60, 200),
    width=st.integers(60, 200),
    boxes=st.lists(st.tuples(*[st.floats(0.0, 0.9)] * 4), max_size=4),
)
@settings(deadline=None, max_examples=40)
def test_scale_jitter_gives_valid_records_of_the_shape_that_outlines_tell(
    seed: int, height: int, width: int, boxes: list[tuple[float, float, float, float]]
) -> None:
    sides = (48, 96)
    step = scale_jitter_training_augmentation(sides, flip_languages=("en",))
    places = tuple(
        (x * width, y * height, (x + (1 - x) * (0.1 + w)) * width, (y + (1 - y) * (0.1 + h)) * height)
        for x, y, w, h in boxes
    )
    text = "the thing left of it"
    record = Record(
        *("tests", "train", "1", "a.png", "a", width, height, text), places, (((0, 17),),) * len(places)
    )
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image, (moved,) = step(image, (record,), generator(seed))
    validate_record(moved)
    assert image.shape == (3, moved.height, moved.width)
    assert 46 <= max(image.shape) <= 100  # the shorter side is rounded first
    assert {moved.text[start:end] for ((start, end),) in moved.spans} <= {
        "the thing left of",
        "the thing right of",
    }
    outline = replace(record, text="", spans=((),) * len(places))
    shape, _ = step(torch.empty(3, height, width, device="meta"), (outline,), generator(seed))
    assert shape.shape == image.shape


def test_flip_mirrors_boxes_and_swaps_the_words() -> None:
    image, (record,) = HorizontalFlip(1.0, ("en",))(
        make_image(), (make_record("red", "green"),), generator(0)
    )
    assert record.text == "the red thing right of the green thing"
    assert record.boxes == ((90.0, 10.0, 110.0, 40.0), (40.0, 20.0, 70.0, 50.0))
    assert record.spans == (((0, 13),), ((23, 38),))
    assert_everything_agrees(image, record)


def test_a_flip_that_knows_no_language_leaves_texts_with_sides_alone() -> None:
    flip = HorizontalFlip(1.0)
    image, records = flip(make_image(), (make_record("green"), make_record("red", "green")), generator(0))
    assert torch.equal(image, make_image())
    assert records[1].text == "the red thing left of the green thing"
    image, _ = flip(make_image(), (make_record("green"),), generator(0))
    assert torch.equal(image, make_image().flip(-1))


@pytest.mark.parametrize(
    ("languages", "text", "expected"),
    [
        (("de",), "der Würfel links der Kugel", "der Würfel rechts der Kugel"),
        (("es",), "el cubo a la izquierda", "el cubo a la derecha"),
        (("fr",), "le cube à gauche", "le cube à droite"),
        (("zh",), "球在左边", "球在右边"),
        (("en", "de"), "the left cube", "the right cube"),
        (("en",), "der Würfel links der Kugel", None),
        (("en",), "le cube à gauche", None),
        (("de",), "球在左边", None),
        ((), "the red cube", "the red cube"),
        ((), "der rote Würfel", "der rote Würfel"),
    ],
)
def test_an_image_is_mirrored_only_where_its_texts_stay_true(
    languages: tuple[Language, ...], text: str, expected: str | None
) -> None:
    record = replace(make_record("red"), text=text, spans=(((0, len(text)),),), phrases=None)
    without_sides = replace(make_record("green"), text="ball", spans=(((0, 4),),), phrases=None)
    image, records = HorizontalFlip(1.0, languages)(make_image(), (without_sides, record), generator(0))
    if expected is None:
        assert torch.equal(image, make_image())
        assert records == (without_sides, record)
        return
    assert torch.equal(image, make_image().flip(-1))
    assert records[1].text == expected
    assert records[1].spans == (((0, len(expected)),),)
    assert records[1].boxes == ((90.0, 10.0, 110.0, 40.0),)
    assert records[0].text == "ball"


def test_spans_follow_their_words_in_a_mirrored_german_text() -> None:
    text = "der rote Würfel rechts neben der linken Kugel"
    record = replace(make_record("red", "green"), text=text, spans=(((0, 15),), ((29, 45),)), phrases=None)
    mirrored = swap_sides(record, ("de",))
    assert mirrored is not None
    assert mirrored.text == "der rote Würfel links neben der rechten Kugel"
    assert mirrored.spans == (((0, 15),), ((28, 45),))
    assert [mirrored.text[start:end] for ((start, end),) in mirrored.spans] == [
        "der rote Würfel",
        "der rechten Kugel",
    ]


def test_an_answer_that_names_a_side_is_swapped_or_keeps_the_image_as_it_is() -> None:
    record = replace(
        make_record("red"), text="On which side is it?", answer="left", phrases=None, spans=((),)
    )
    mirrored = swap_sides(record, ("en",))
    assert mirrored is not None
    assert (mirrored.text, mirrored.answer) == ("On which side is it?", "right")
    assert swap_sides(record, ("de",)) is None


def test_a_language_whose_sides_cannot_be_swapped_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"texts of de, en, .*; found the language 'tlh'"):
        HorizontalFlip(1.0, ("tlh",))  # type: ignore[arg-type]


def test_resize_scales_boxes_and_masks() -> None:
    image, (record,) = resize(make_image(), (make_record("red"),), (160, 60))
    assert record.boxes == ((5.0, 20.0, 15.0, 80.0),)
    assert_everything_agrees(image, record)


def test_published_augmentation_gives_published_sizes() -> None:
    image = torch.zeros(3, 480, 640, dtype=torch.uint8)
    record = replace(make_record("red"), width=640, height=480, masks=None)
    step = published_training_augmentation()
    shortest = set()
    for seed in range(12):
        out, _ = step(image, (record,), generator(seed))
        assert max(out.shape[1:]) <= 1333
        shortest.add(min(out.shape[1:]))
    assert shortest <= set(range(480, 801, 32))
    assert len(shortest) > 3


@pytest.mark.parametrize("shape, size", [((480, 640), (128, 171)), ((320, 640), (96, 192))])
def test_model_size_augmentation_crops_and_keeps_the_size_that_the_model_sees(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    step = model_size_training_augmentation(128, 192)
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    record = replace(make_record("red"), boxes=((100.0, 100.0, 200.0, 200.0),), masks=None)
    record = replace(record, height=shape[0], width=shape[1])
    outputs = [step(image, (record,), generator(seed)) for seed in range(40)]
    heights, widths = zip(*(out.shape[1:] for out, _ in outputs), strict=True)
    # The sides of a crop are whole pixels, so its aspect ratio is the image's but for rounding.
    assert all(abs(height - size[0]) <= 1 for height in heights)
    assert all(abs(width - size[1]) <= 1 for width in widths)
    boxes = [moved.boxes[0] for _, (moved,) in outputs]
    widest = max(x1 - x0 for x0, _, x1, _ in boxes)
    narrowest = min(x1 - x0 for x0, _, x1, _ in boxes)
    assert widest > 1.25 * narrowest  # crops enlarge things


def test_clevr_augmentation_stays_within_512() -> None:
    image = torch.zeros(3, 320, 480, dtype=torch.uint8)
    record = replace(make_record("red"), width=480, height=320, masks=None)
    for seed in range(12):
        out, _ = clevr_training_augmentation()(image, (record,), generator(seed))
        assert max(out.shape[1:]) <= 512
        assert 256 <= min(out.shape[1:]) <= 384 or max(out.shape[1:]) >= 511


def test_fixed_size_augmentation_always_gives_one_size() -> None:
    step = fixed_size_training_augmentation(128, 192)
    assert {step(make_image(), RECORDS, generator(seed))[0].shape for seed in range(20)} == {(3, 128, 192)}


def test_color_jitter_changes_pixels_only() -> None:
    image, records = ColorJitter(0.3, 0.3, 0.3)(make_image(), RECORDS, generator(0))
    assert image.dtype == torch.uint8
    assert not torch.equal(image, make_image())
    assert records == RECORDS


@pytest.mark.parametrize(
    "make",
    [
        published_training_augmentation,
        clevr_training_augmentation,
        lambda: fixed_size_training_augmentation(32, 48),
    ],
)
def test_the_same_generator_gives_the_same_example(make: Callable[[], Augmentation]) -> None:
    first, second = (make()(make_image(), RECORDS, generator(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
