"""Times a second text about an image against the first, which includes the image's backbone.

    .venv/bin/python benchmarks/second_text.py

Both are calls in a warm process. The ratio is what `Mdetr.encode_image` saves, also on the page `mdetr app`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import resources

from mdetr import Mdetr

DEMO = resources.files("mdetr") / "assets" / "demo"
CASES = (
    ("photo-tiny", "cat.jpg", "a brown cat and a red car"),
    ("clevr-tiny", "shapes.png", "two purple metal balls and a red cube"),
)
REPETITIONS = 15


def median_milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call after two warm-up calls."""
    times: list[float] = []
    for _ in range(REPETITIONS + 2):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def main() -> None:
    """Print a row for each bundled model."""
    print(f"{'model':<12}{'first text':>12}{'second text':>14}{'ratio':>8}")
    for name, image, text in CASES:
        model = Mdetr.from_pretrained(name, device="cpu")
        path = str(DEMO / image)
        encoded = model.encode_image(path)
        first = median_milliseconds(lambda: model.ground(path, text))  # noqa: B023
        second = median_milliseconds(lambda: model.ground(encoded, text))  # noqa: B023
        print(f"{name:<12}{first:>9.1f} ms{second:>11.1f} ms{first / second:>8.1f}")


if __name__ == "__main__":
    main()
