"""Draws the figures of the documentation.

    python tools/draw_figures.py           # write docs/images/*.svg
    python tools/draw_figures.py --check   # fail if a file shows another figure

The colors are variables that a page can set; an SVG that is shown by itself has a white background.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, LINE = "var(--figure-ink, #1f2328)", "var(--figure-line, #6e7781)"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
BOX_WIDTH, BOX_HEIGHT, GAP, ROW = 124, 34, 22, 78


def svg(width: int, height: int, parts: Sequence[str]) -> str:
    """An SVG of parts, with a background and the head of arrows."""
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {FONT} font-size='14'>",
            "<defs><marker id='arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' "
            f"orient='auto'><path d='M0,0.5 L7.5,4 L0,7.5 z' fill='{LINE}'/></marker></defs>",
            f"<rect width='{width}' height='{height}' fill='var(--figure-background, #ffffff)'/>",
            *parts,
            "</svg>",
            "",
        ]
    )


def text(x: float, y: float, words: str, size: int = 14, anchor: str = "middle", extra: str = "") -> str:
    """A line of text with its baseline at y."""
    style = f"font-size='{size}' text-anchor='{anchor}' fill='{INK}' {extra}"
    return f"<text x='{x:g}' y='{y:g}' {style}>{escape(words)}</text>"


def arrow(*points: tuple[float, float], extra: str = "") -> str:
    """An arrow along points."""
    path = " L".join(f"{x:g},{y:g}" for x, y in points)
    return (
        f"<path d='M{path}' fill='none' stroke='{LINE}' stroke-width='1.5' marker-end='url(#arrow)' {extra}/>"
    )


def box(x: float, y: float, width: float, height: float, color: str, words: Sequence[str]) -> str:
    """A rounded box in a color, with lines of text in its middle."""
    shape = (
        f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='7' "
        f"fill='{color}' fill-opacity='0.18' stroke='{color}' stroke-width='1.5'/>"
    )
    first = y + height / 2 + 5 - 9 * (len(words) - 1)
    lines = [text(x + width / 2, first + 18 * index, line) for index, line in enumerate(words)]
    return "".join([shape, *lines])


def draw_graph(edges: Sequence[tuple[str, str]], color: str = "#3f51b5") -> str:
    """A graph without cycles in rows from top to bottom: each node below all that lead to it.

    Args:
        edges: Pairs of names; an arrow leads from the first to the second.
        color: Color of the nodes.

    Returns:
        The SVG.
    """
    # Give each node its row
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    rows = dict.fromkeys(names, 0)
    for _ in names:
        for start, end in edges:
            rows[end] = max(rows[end], rows[start] + 1)

    # Order each row by the mean position of those that lead to its nodes
    widest = max(list(rows.values()).count(row) for row in rows.values())
    width = widest * (BOX_WIDTH + GAP) + 2 * GAP
    centers: dict[str, float] = {}
    for row in range(max(rows.values()) + 1):
        members = [name for name in names if rows[name] == row]
        sources = {name: [centers[a] for a, b in edges if b == name] or [0.0] for name in members}
        members.sort(key=lambda name: sum(sources[name]) / len(sources[name]))
        left = (width - (len(members) - 1) * (BOX_WIDTH + GAP)) / 2
        centers |= {name: left + index * (BOX_WIDTH + GAP) for index, name in enumerate(members)}

    # Draw arrows below the nodes
    def top(name: str) -> float:
        return GAP + rows[name] * ROW

    parts = [
        arrow((centers[start], top(start) + BOX_HEIGHT), (centers[end], top(end) - 2)) for start, end in edges
    ]
    for name in names:
        parts.append(
            box(
                centers[name] - BOX_WIDTH / 2,
                top(name),
                BOX_WIDTH,
                BOX_HEIGHT,
                "var(--figure-background-solid, #ffffff)",
                [],
            )
        )
        parts.append(box(centers[name] - BOX_WIDTH / 2, top(name), BOX_WIDTH, BOX_HEIGHT, color, [name]))
    return svg(width, round(top(max(names, key=lambda name: rows[name])) + BOX_HEIGHT + GAP), parts)
