"""Pictures of results: boxes where they belong, the same color behind the words of the caption."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from mdetr.processing.detections import Grounding
from mdetr.visualization.plot import (
    BLACK,
    HEADING,
    PALETTE,
    WHITE,
    _luminance,
    contact_sheet,
    draw_boxes,
    draw_comparison,
    draw_groundings,
    load_font,
    text_color,
)

TEXT = "a red cube and two balls"
CUBE = Grounding("a red cube", ((0, 10),), (20, 60, 60, 90), 0.99)
BALLS = [
    Grounding("two balls", ((15, 24),), (100, 30, 130, 60), 0.9),
    Grounding("two balls", ((15, 24),), (150, 60, 190, 100), 0.8),
]


@pytest.fixture
def image() -> Image.Image:
    return Image.new("RGB", (320, 160), (128, 128, 128))


def test_letters_beyond_ascii_are_drawn() -> None:
    text = "Würfel, groß, красный, Σ"
    missing = bytes(load_font(20, text).getmask("\uffff"))
    drawn = {bytes(load_font(20, text).getmask(letter)) for letter in "üßкрΣ"}
    assert len(drawn) == 5
    assert missing not in drawn


def _where(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """(n, 2) rows and columns of the pixels of exactly this color."""
    return np.argwhere((np.asarray(picture) == color).all(-1))


def test_boxes_are_drawn_in_place_in_the_color_of_their_words(image: Image.Image) -> None:
    picture = draw_groundings(image, TEXT, [CUBE, *BALLS])
    assert picture.width == 640  # twice as large
    above, below = slice(0, 320), slice(320, None)
    assert picture.height > 320
    first, second = PALETTE[:2]
    for found, color in ((CUBE, first), (BALLS[0], second), (BALLS[1], second)):
        x0, y0, x1, y1 = (2 * value for value in found.box)
        pixels = np.asarray(picture)
        assert tuple(pixels[round((y0 + y1) / 2), x0]) == color
        assert tuple(pixels[round((y0 + y1) / 2), x1]) == color
        assert tuple(pixels[y1, round((x0 + x1) / 2)]) == color
    caption = np.asarray(picture)[below]
    columns = [np.flatnonzero((caption == color).all(-1).any(0)) for color in (first, second)]
    assert columns[0].max() < columns[1].min()  # the words in the order of the text
    assert (np.asarray(picture)[above] == 128).all(-1).any()


def test_what_is_drawn_does_not_change_the_image(image: Image.Image) -> None:
    before = image.tobytes()
    draw_groundings(image, TEXT, [CUBE])
    assert image.tobytes() == before


def test_one_phrase_has_one_color(image: Image.Image) -> None:
    picture = draw_groundings(image, TEXT, BALLS)
    assert len(_where(picture, PALETTE[0]))
    assert not len(_where(picture, PALETTE[1]))


def test_nothing_found_still_shows_the_text(image: Image.Image) -> None:
    picture = draw_groundings(image, TEXT, [])
    caption = np.asarray(picture.crop((0, 320, 640, picture.height)))
    assert (caption < 60).all(-1).any()


def test_a_long_text_is_wrapped_inside_the_picture(image: Image.Image) -> None:
    short, long = draw_groundings(image, TEXT, []), draw_groundings(image, " and ".join([TEXT] * 8), [])
    assert long.width == short.width
    assert long.height > short.height + 40
    edge = np.asarray(long.crop((long.width - 10, 320, long.width, long.height)))
    assert (edge == 255).all()


def test_a_large_image_keeps_its_size() -> None:
    assert draw_groundings(Image.new("RGB", (1000, 500)), TEXT, []).width == 1000


def test_a_strip_of_a_few_pixels_is_not_enlarged_beyond_measure() -> None:
    picture = draw_groundings(Image.new("RGB", (2, 3000)), TEXT, [CUBE])
    assert picture.width == 2
    assert 3000 < picture.height < 4096
    assert draw_groundings(Image.new("RGB", (2, 6)), TEXT, []).width == 640


def test_a_box_without_size_at_the_border_can_be_drawn(image: Image.Image) -> None:
    found = Grounding("", (), (320, 160, 320, 160), 0.7)
    assert draw_groundings(image, TEXT, [found]).width == 640


def test_what_an_expression_denotes_has_the_color_of_the_whole_text(image: Image.Image) -> None:
    picture = draw_boxes(image, TEXT, [CUBE.box])
    rows = _where(picture, PALETTE[0])[:, 0]
    assert rows.min() < 320 < rows.max()


def test_a_contact_sheet_holds_all_pictures() -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet([Image.new("RGB", (20, 10), color) for color in colors], columns=2)
    assert sheet.size == (48, 28)
    assert all(len(_where(sheet, color)) == 200 for color in colors)
    assert math.prod(sheet.size) > 600


def test_a_long_label_is_shortened_and_keeps_its_score(image: Image.Image) -> None:
    text = "a cube " * 30
    found = Grounding(text, ((0, 30),), (20, 60, 300, 150), 0.5)
    above = draw_groundings(image, text, [found]).crop((0, 0, 640, 118))  # without the box and the text
    columns = _where(above, PALETTE[0])[:, 1]
    assert 320 < columns.max() - columns.min() <= 384  # at most 0.6 of the width


def test_the_truth_is_at_the_left_of_the_prediction(image: Image.Image) -> None:
    truth, prediction = (TEXT, [CUBE]), (TEXT, [CUBE, *BALLS])
    picture = draw_comparison(image, truth, prediction, width=640)
    left, right = picture.crop((0, 0, 640, picture.height)), picture.crop((648, 0, 1288, picture.height))
    assert picture.width == 1288
    assert len(_where(left, PALETTE[0])) and len(_where(right, PALETTE[0]))
    assert not len(_where(left, PALETTE[1]))
    assert len(_where(right, PALETTE[1]))
    for panel in (left, right):  # each under its name
        assert tuple(np.asarray(panel)[0, 0]) == HEADING
        assert (np.asarray(panel.crop((0, 0, 200, 40))) == 255).all(-1).any()


def test_a_word_longer_than_a_line_is_broken_inside_the_picture(image: Image.Image) -> None:
    short, long = draw_groundings(image, "a", []), draw_groundings(image, "a" + "W" * 100 + " b", [])
    assert long.height > short.height + 40
    edge = np.asarray(long.crop((long.width - 10, 320, long.width, long.height)))
    assert (edge == 255).all()
    drawn = [np.asarray(draw_groundings(image, "W" * n, []))[320:] < 60 for n in (10, 100)]
    assert drawn[1].sum() == pytest.approx(10 * drawn[0].sum(), rel=0.05)  # every letter is there


def test_the_text_on_every_color_has_enough_contrast() -> None:
    """At least 4.5, which the Web Content Accessibility Guidelines ask of normal text."""
    for color in PALETTE:
        light, dark = sorted((_luminance(color), _luminance(text_color(color))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_black_on_white_has_the_highest_contrast() -> None:
    assert text_color((255, 255, 255)) == BLACK
    assert text_color((0, 0, 0)) == WHITE
    assert _luminance((255, 255, 255)) == pytest.approx(1)
    assert _luminance((255, 0, 0)) == pytest.approx(0.2126)
