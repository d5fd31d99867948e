from __future__ import annotations

from PIL import Image

from mdetr.visualization.crops import CAPTION_HEIGHT, draw_crop

RED, BLUE, WHITE = (200, 0, 0), (0, 0, 200), (255, 255, 255)


def test_a_crop_shows_the_box_with_surroundings_and_a_caption() -> None:
    image = Image.new("RGB", (100, 80), BLUE)
    image.paste(RED, (40, 30, 60, 50))
    crop = draw_crop(image, (40, 30, 60, 50), "0.93", 140)
    assert crop.size == (140, 140 + CAPTION_HEIGHT)
    assert crop.getpixel((70, 70)) == RED  # the box is in the middle
    assert crop.getpixel((6, 70)) == BLUE  # and a fifth of its size around it
    assert {crop.getpixel((x, 150)) for x in range(140)} != {WHITE}


def test_a_box_at_the_border_is_padded_with_white() -> None:
    image = Image.new("RGB", (100, 80), BLUE)
    crop = draw_crop(image, (0, 0, 20, 60), "0.5", 100)
    assert crop.getpixel((2, 50)) == WHITE
    assert crop.getpixel((95, 50)) == BLUE


def test_a_box_of_no_size_is_drawn_too() -> None:
    assert draw_crop(Image.new("RGB", (9, 9)), (4, 4, 4, 4), "0.1", 50).width == 50
