"""Drawing of a score over the steps of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.svg import BLUE, GRAY, GREEN, INK, LINE, ORANGE, PURPLE, svg, text

WIDTH, HEIGHT = 620, 260
LEFT, TOP = 60, 40
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GRAY)


def draw_curves(title: str, curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Draw a curve for each run, with its name at its end.

    Args:
        title: Name of the score, from 0 to 1.
        curves: Run -> its (step, value), at least one each.

    Returns:
        The SVG.
    """
    last = max(points[-1][0] for points in curves.values())
    highest = max(value for points in curves.values() for _, value in points) or 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        return LEFT + WIDTH * step / last, TOP + HEIGHT * (1 - value / highest)

    # Axes, with the values at both ends
    bottom = TOP + HEIGHT
    parts = [
        text(LEFT, 24, title, 15, "start", weight=600),
        f'<path d="M{LEFT},{TOP} V{bottom} H{LEFT + WIDTH}" fill="none" stroke="{LINE}"/>',
        text(LEFT - 8, TOP + 5, f"{highest:.2f}", 12, "end"),
        text(LEFT - 8, bottom + 4, "0", 12, "end"),
        text(LEFT + WIDTH, bottom + 20, f"{last:,.0f} steps", 12, "end"),
    ]

    # Curves, and their names below
    for number, (run, points) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        path = " L".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        y = bottom + 44 + 20 * number
        parts.append(f'<path d="M{LEFT},{y - 4} h24" stroke="{color}" stroke-width="3"/>')
        parts.append(text(LEFT + 32, y, run, 13, "start", INK))
    return svg(WIDTH + LEFT + 40, bottom + 44 + 20 * len(curves), parts)
