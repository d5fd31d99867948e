"""Drawing of boxes, masks and colored phrases."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mdetr.processing.coordinates import Span, Spans
from mdetr.processing.detections import Grounding
from mdetr.visualization.labels import LabelSize, place_labels

# The colors of Okabe and Ito, which color-blind readers can distinguish, and three more
PALETTE = (
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
    (120, 94, 240),
    (100, 143, 50),
    (150, 75, 40),
)
Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
MIN_WIDTH = 640  # pixels; smaller images are enlarged to make labels readable
MAX_HEIGHT = 4096  # pixels; limit of the enlargement, so that narrow strips do not fill the memory
MARGIN = 14
GAP = 8  # pixels between pictures
MASK_OPACITY = 140  # of 255
LABEL_WIDTH = 0.6  # maximum width of a label, as a fraction of the picture's width
BLACK, WHITE, HEADING = (20, 20, 20), (255, 255, 255), (70, 70, 70)


@dataclass(frozen=True)
class _Word:
    """A part of the text without white space.

    Attributes:
        text: The characters.
        colors: Background color of each character, if any.
        joined: Whether the space before the word has the color of both neighbors.
    """

    text: str
    colors: tuple[Color | None, ...]
    joined: bool


def load_font(size: int, text: str) -> Font:
    """Load a font for a text: Pillow's own for ASCII, or Matplotlib's for other letters.

    Args:
        size: Size of the letters, in pixels.
        text: The text.

    Returns:
        The font.
    """
    if text.isascii():
        return ImageFont.load_default(size)
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def draw_groundings(image: Image.Image, text: str, groundings: Sequence[Grounding]) -> Image.Image:
    """Draw boxes on the image, and the text below it; the boxes and words of a phrase have the same color.

    Args:
        image: The image.
        text: The text below the image.
        groundings: The boxes, in pixels of `image`, with their spans of characters of `text`.

    Returns:
        A new RGB picture, at least `MIN_WIDTH` pixels wide unless its height would exceed `MAX_HEIGHT`.
    """
    # Enlarge small images
    scale = max(1, min(math.ceil(MIN_WIDTH / image.width), MAX_HEIGHT // image.height))
    canvas = image.convert("RGB").resize(
        (image.width * scale, image.height * scale), Image.Resampling.LANCZOS
    )

    # Draw the boxes, best last, then the labels and the text
    size = max(15, round(canvas.width / 42))
    font = load_font(size, text)
    colors = phrase_colors([grounding.spans for grounding in groundings])
    draw = ImageDraw.Draw(canvas)
    for grounding, color in sorted(zip(groundings, colors, strict=True), key=lambda pair: pair[0].score):
        _draw_box(draw, grounding, color, scale, max(2, size // 6))
    _draw_labels(draw, groundings, colors, scale, load_font(round(size * 0.8), text), canvas.size)
    return _stack(canvas, _caption(text, groundings, colors, canvas.width, font))


def draw_boxes(
    image: Image.Image, text: str, boxes: Sequence[tuple[float, float, float, float]]
) -> Image.Image:
    """Draw boxes that the text as a whole refers to, all in one color and without labels."""
    whole = [Grounding("", ((0, len(text)),), box, math.nan) for box in boxes]
    return draw_groundings(image, text, whole)


def draw_mask(
    image: Image.Image, text: str, mask: NDArray[np.bool_], boxes: Sequence[tuple[float, float, float, float]]
) -> Image.Image:
    """Draw a mask (H, W) bool that the text as a whole refers to, with boxes and the text, in one color."""
    tint = Image.new("RGB", image.size, PALETTE[0])
    cover = Image.fromarray(mask.astype(np.uint8) * MASK_OPACITY)
    return draw_boxes(Image.composite(tint, image.convert("RGB"), cover), text, boxes)


def draw_comparison(
    image: Image.Image,
    truth: tuple[str, Sequence[Grounding]],
    prediction: tuple[str, Sequence[Grounding]],
    width: int,
) -> Image.Image:
    """Draw the ground truth on the left and a prediction on the right, each with a heading.

    Args:
        image: The image.
        truth: Text below the left panel, and the true boxes, with spans of characters of the text.
        prediction: Text and boxes of the right panel.
        width: Width of each panel, in pixels.

    Returns:
        The picture.
    """
    panels: list[Image.Image] = []
    for title, (text, groundings) in (("Truth", truth), ("Prediction", prediction)):
        panel = draw_groundings(image, text, groundings)
        panel = panel.resize((width, round(panel.height * width / panel.width)), Image.Resampling.LANCZOS)
        panels.append(with_heading(title, panel))
    return contact_sheet(panels, columns=2)


def contact_sheet(
    images: Sequence[Image.Image], columns: int, width: int | None = None, gap: int = GAP
) -> Image.Image:
    """Arrange pictures in a grid on white.

    Args:
        images: Pictures of any size.
        columns: Number of columns.
        width: Width that all pictures are resized to, in pixels; by default they are not resized.
        gap: Distance between two pictures, in pixels.

    Returns:
        The sheet.
    """
    # Resize the pictures to one width
    if width is not None:
        images = [
            image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
            for image in images
        ]

    # Compute the grid: columns of the same width, rows as high as their highest picture
    columns = min(columns, len(images))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    cell = max(image.width for image in images)
    heights = [max(image.height for image in row) for row in rows]
    size = (columns * (cell + gap) - gap, sum(heights) + gap * (len(rows) - 1))

    # Paste the pictures
    sheet = Image.new("RGB", size, WHITE)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            sheet.paste(image, (column * (cell + gap), top))
        top += height + gap
    return sheet


def with_heading(title: str, picture: Image.Image) -> Image.Image:
    """Add a heading above a picture, in white on a dark strip.

    Args:
        title: The heading.
        picture: The picture.

    Returns:
        A new picture of the same width.
    """
    size = min(max(15, picture.width // 28), 24)
    strip = Image.new("RGB", (picture.width, size * 2), HEADING)
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, size), one_line(title), fill=WHITE, font=load_font(size, title), anchor="lm")
    return _stack(strip, picture)


def phrase_colors(spans: Sequence[Spans]) -> list[Color]:
    """Assign a color to each box: one color per distinct phrase, in the order of the text.

    Args:
        spans: Spans of the phrase of each box.

    Returns:
        A color of `PALETTE` for each box.
    """
    phrases = sorted(set(spans))
    return [PALETTE[phrases.index(phrase) % len(PALETTE)] for phrase in spans]


def text_color(background: Color) -> Color:
    """Choose the text color with the higher contrast on a background: black or white.

    Source: contrast ratio of the Web Content Accessibility Guidelines 2.1.
    """
    luminance = _luminance(background)
    contrast_of_black = (luminance + 0.05) / (_luminance(BLACK) + 0.05)
    contrast_of_white = 1.05 / (luminance + 0.05)
    return BLACK if contrast_of_black >= contrast_of_white else WHITE


def one_line(text: str) -> str:
    """Replace line breaks and other white space by single spaces; PIL measures single lines only."""
    return " ".join(text.split())


def _luminance(color: Color) -> float:
    """Compute the relative luminance of an sRGB color, from 0 to 1."""
    linear: list[float] = []
    for channel in color:
        value = channel / 255
        linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _scaled(grounding: Grounding, scale: int) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (value * scale for value in grounding.box)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _draw_box(
    draw: ImageDraw.ImageDraw, grounding: Grounding, color: Color, scale: int, line_width: int
) -> None:
    x0, y0, x1, y1 = _scaled(grounding, scale)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=WHITE, width=line_width + 2)
    draw.rectangle((x0, y0, x1, y1), outline=color, width=line_width)


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    groundings: Sequence[Grounding],
    colors: Sequence[Color],
    scale: int,
    font: Font,
    canvas: tuple[int, int],
) -> None:
    """Draw phrases with their scores next to their boxes, best first.

    If there is no room for a phrase, only its score is drawn; without room for the score, only the color
    shows which words the box belongs to.

    Args:
        draw: Canvas to draw on.
        groundings: The boxes; those without a score (NaN) get no label.
        colors: Color of each box.
        scale: Factor from pixels of the image to pixels of the canvas.
        font: Font of the labels.
        canvas: Width and height of the canvas.
    """
    labeled = [pair for pair in zip(groundings, colors, strict=True) if not math.isnan(pair[0].score)]
    labeled.sort(key=lambda pair: -pair[0].score)
    ascent = draw.textbbox((0, 0), "Ágjy", font=font)  # the same height for all labels
    height = ascent[3] - ascent[1] + 6

    def width_of(wording: str) -> float:
        return draw.textlength(wording, font=font) + 8

    # Choose the wordings of each label, and its position
    wordings: list[list[str]] = []
    sizes: list[list[LabelSize]] = []
    for grounding, _ in labeled:
        of_label = _wordings(grounding, canvas[0] * LABEL_WIDTH, width_of)
        wordings.append(of_label)
        sizes.append([(width_of(wording), height) for wording in of_label])
    boxes = [_scaled(grounding, scale) for grounding, _ in labeled]
    placements = place_labels(boxes, sizes, canvas)

    # Draw the labels that have room
    for (_, color), of_label, placement in zip(labeled, wordings, placements, strict=True):
        if placement is not None:
            index, (x0, y0, x1, y1) = placement
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
            draw.text((x0 + 4, y0 + 3 - ascent[1]), of_label[index], fill=text_color(color), font=font)


def _wordings(grounding: Grounding, room: float, width_of: Callable[[str], float]) -> list[str]:
    """List the wordings of a label: the phrase, shortened to fit, with the score; the score alone."""
    phrase, score = one_line(grounding.phrase) or "?", f"{grounding.score:.2f}"
    label = f"{phrase} {score}"
    if width_of(label) > room and len(phrase) > 1:
        # Find the longest beginning that fits by bisection: measuring takes time, and a phrase may be long
        def shortened(length: int) -> str:
            return f"{phrase[:length].rstrip(' .')}… {score}"

        lengths = range(1, len(phrase))
        count = bisect_right(lengths, room, key=lambda length: width_of(shortened(length)))
        label = shortened(max(count, 1))
    return [label, score]


def _caption(
    text: str, groundings: Sequence[Grounding], colors: Sequence[Color], width: int, font: Font
) -> Image.Image:
    """Draw the text, wrapped to the width, with the colors of the phrases behind their words."""
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    lines = _wrap(_words(text, groundings, colors), measure, font, width - 2 * MARGIN)
    _, top, _, bottom = measure.textbbox((0, 0), "Ágjy", font=font)
    line_height = round((bottom - top) * 1.5)
    strip = Image.new("RGB", (width, line_height * max(1, len(lines)) + 2 * MARGIN), WHITE)
    draw = ImageDraw.Draw(strip)
    space = draw.textlength(" ", font=font)
    for number, line in enumerate(lines):
        x, y = float(MARGIN), MARGIN + number * line_height
        for index, word in enumerate(line):
            if index:
                if word.joined and word.colors[0]:
                    draw.rectangle((x, y, x + space, y + line_height - 4), fill=word.colors[0])
                x += space
            for character, color in zip(word.text, word.colors, strict=True):
                advance = draw.textlength(character, font=font)
                if color:
                    draw.rectangle((x, y, x + advance, y + line_height - 4), fill=color)
                ink = text_color(color) if color else BLACK
                draw.text((x, y + (line_height - 4 - bottom - top) / 2), character, fill=ink, font=font)
                x += advance
    return strip


def _words(text: str, groundings: Sequence[Grounding], colors: Sequence[Color]) -> list[_Word]:
    """Split the text at white space; if phrases overlap, the color of the shorter one is visible."""
    behind: list[Color | None] = [None] * len(text)
    colored_spans: list[tuple[Span, Color]] = []
    for grounding, color in zip(groundings, colors, strict=True):
        colored_spans += [(span, color) for span in grounding.spans]
    colored_spans.sort(key=lambda pair: pair[0][0] - pair[0][1])  # longest first
    for (start, end), color in colored_spans:
        behind[start:end] = [color] * (end - start)
    words: list[_Word] = []
    start = 0
    for piece in text.split():
        start = text.index(piece, start)
        end = start + len(piece)
        joined = start > 0 and behind[start - 1] is not None and behind[start - 1] == behind[start]
        words.append(_Word(piece, tuple(behind[start:end]), joined))
        start = end
    return words


def _wrap(
    words: Sequence[_Word], measure: ImageDraw.ImageDraw, font: Font, width: float
) -> list[list[_Word]]:
    lines: list[list[_Word]] = []
    used = width + 1
    space = measure.textlength(" ", font=font)
    pieces: list[_Word] = []
    for word in words:
        pieces += _pieces(word, measure, font, width)
    for word in pieces:
        length = sum(measure.textlength(character, font=font) for character in word.text)
        if used + space + length > width:
            lines.append([])
            used = -space
        lines[-1].append(word)
        used += space + length
    return lines


def _pieces(word: _Word, measure: ImageDraw.ImageDraw, font: Font, width: float) -> Iterator[_Word]:
    """Split a word that is longer than a line."""
    start, used = 0, 0.0
    for end, character in enumerate(word.text):
        length = measure.textlength(character, font=font)
        if used + length > width and end > start:
            yield _Word(word.text[start:end], word.colors[start:end], word.joined and not start)
            start, used = end, 0.0
        used += length
    yield _Word(word.text[start:], word.colors[start:], word.joined and not start)


def _stack(upper: Image.Image, lower: Image.Image) -> Image.Image:
    joined = Image.new("RGB", (upper.width, upper.height + lower.height), WHITE)
    joined.paste(upper, (0, 0))
    joined.paste(lower, (0, upper.height))
    return joined
