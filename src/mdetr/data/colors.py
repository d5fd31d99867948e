"""Names of the colors of image regions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mdetr.processing.coordinates import Box

COLORS = ("black", "white", "gray", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
# Colors that people and cameras take for one another: neither is evidence against the other.
SIMILAR_COLORS: dict[str, frozenset[str]] = {
    "black": frozenset(("gray", "blue", "brown")),
    "white": frozenset(("gray", "yellow", "pink")),
    "gray": frozenset(("black", "white", "blue", "brown")),
    "red": frozenset(("pink", "orange", "brown", "purple")),
    "orange": frozenset(("red", "brown", "yellow")),
    "brown": frozenset(("orange", "red", "black", "gray", "yellow")),
    "yellow": frozenset(("orange", "white", "brown", "green")),
    "green": frozenset(("yellow", "blue", "gray", "black")),
    "blue": frozenset(("purple", "gray", "black", "green")),
    "purple": frozenset(("blue", "pink", "red")),
    "pink": frozenset(("red", "purple", "white", "orange")),
}
_CENTER = 0.5  # the fraction of a box's sides that is looked at, since its edges show what is behind
_SAMPLES = 16  # per side


def color_of(image: Tensor, box: Box, agreement: float = 0.55) -> str | None:
    """The color of most of the middle of a box.

    Args:
        image: (3, H, W) uint8.
        box: x0, y0, x1, y1 in pixels.
        agreement: The fraction of pixels that must have the color.

    Returns:
        One of `COLORS`, or None where there is no such color.
    """
    x0, y0, x1, y1 = box
    height, width = image.shape[-2:]
    margin_x, margin_y = (x1 - x0) * (1 - _CENTER) / 2, (y1 - y0) * (1 - _CENTER) / 2
    columns = np.linspace(x0 + margin_x, x1 - margin_x, _SAMPLES).astype(int).clip(0, width - 1)
    rows = np.linspace(y0 + margin_y, y1 - margin_y, _SAMPLES).astype(int).clip(0, height - 1)
    pixels = image.numpy()[:, rows[:, None], columns].reshape(3, -1).T
    counts = np.bincount(_name_pixels(pixels), minlength=len(COLORS))
    best = int(counts.argmax())
    return COLORS[best] if counts[best] >= agreement * len(pixels) else None


def _name_pixels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """RGB pixels (N, 3) -> indices into `COLORS` (N,)."""
    rgb = pixels.astype(np.float32) / 255
    value, low = rgb.max(1), rgb.min(1)
    chroma = value - low
    saturation = chroma / np.maximum(value, 1e-6)
    red, green, blue = rgb.T
    hue = np.select(
        [chroma < 1e-6, value == red, value == green],
        [0.0, ((green - blue) / np.maximum(chroma, 1e-6)) % 6, (blue - red) / np.maximum(chroma, 1e-6) + 2],
        (red - green) / np.maximum(chroma, 1e-6) + 4,
    )
    hue = hue * 60  # degrees

    def index(name: str) -> int:
        return COLORS.index(name)

    named = np.select(
        [
            value < 0.2,
            (saturation < 0.15) & (value > 0.75),
            saturation < 0.15,
            (value < 0.35) & (saturation < 0.4),
            (hue < 15) | (hue >= 340),
            hue < 45,
            hue < 70,
            hue < 165,
            hue < 255,
            hue < 290,
        ],
        [
            index("black"),
            index("white"),
            index("gray"),
            index("black"),
            np.where((saturation < 0.55) & (value > 0.65), index("pink"), index("red")),
            np.where((value > 0.75) & (saturation > 0.55), index("orange"), index("brown")),
            np.where(value > 0.45, index("yellow"), index("green")),
            index("green"),
            index("blue"),
            index("purple"),
        ],
        index("pink"),
    )
    return named.astype(np.int64)
