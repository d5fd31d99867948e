"""Square crops around boxes, for contact sheets of many objects."""

from __future__ import annotations

from PIL import Image, ImageDraw

from mdetr.processing.coordinates import Box
from mdetr.visualization.plot import BLACK, PALETTE, WHITE, load_font, one_line

CAPTION_HEIGHT = 22  # pixels
_CONTEXT = 0.2  # of the longer side of the box, shown on each side of it


def draw_crop(image: Image.Image, box: Box, caption: str, size: int) -> Image.Image:
    """Draw a box with some of its surroundings, and a caption below.

    Args:
        image: The image.
        box: x0, y0, x1, y1 in pixels of the image.
        caption: A few words, such as the score.
        size: Width of the picture, in pixels; it is higher by the caption.

    Returns:
        An RGB picture; what lies outside the image is white.
    """
    # Cut out a square around the box
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0, 1.0) * (0.5 + _CONTEXT)
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    scale = size / (2 * half)
    area = (left, top, left + 2 * half, top + 2 * half)
    tile = image.convert("RGB").transform(
        (size, size), Image.Transform.EXTENT, area, Image.Resampling.BILINEAR, fillcolor=WHITE
    )

    # Draw the box
    draw = ImageDraw.Draw(tile)
    corners = ((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale)
    draw.rectangle(corners, outline=WHITE, width=4)
    draw.rectangle(corners, outline=PALETTE[3], width=2)

    # Write the caption below
    picture = Image.new("RGB", (size, size + CAPTION_HEIGHT), WHITE)
    picture.paste(tile, (0, 0))
    caption = one_line(caption)
    font = load_font(13, caption)
    ImageDraw.Draw(picture).text((2, size + CAPTION_HEIGHT / 2), caption, fill=BLACK, font=font, anchor="lm")
    return picture
