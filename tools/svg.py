"""Parts of SVG drawings: text, arrows, boxes, and graphs in rows.

The colors are variables that a page can set; an SVG that is shown by itself has a white background.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

INK, LINE = "var(--figure-ink, #1f2328)", "var(--figure-line, #6e7781)"
GROUND = "var(--figure-ground, #ffffff)"
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#4c6ef5", "#e8590c", "#2f9e44", "#9c36b5", "#868e96"
FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
NODE_WIDTH, NODE_HEIGHT, GAP, ROW = 124, 34, 22, 74


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    """An SVG of parts, with a background and the head of arrows."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'font-family="{FONT}" font-size="14">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0,0.5 L7.5,4 L0,7.5 z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{width:g}" height="{height:g}" fill="{GROUND}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float = 14,
    anchor: str = "middle",
    color: str = INK,
    weight: int = 400,
) -> str:
    """A line of text with its baseline at y; `anchor` is start, middle or end."""
    style = f'font-size="{size:g}" font-weight="{weight}" text-anchor="{anchor}" fill="{color}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def arrow(*points: tuple[float, float], color: str = LINE, dashed: bool = False) -> str:
    """An arrow along points."""
    path = " L".join(f"{x:g},{y:g}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    style = f'fill="none" stroke="{color}" stroke-width="1.5"{dashes} marker-end="url(#arrow)"'
    return f'<path d="M{path}" {style}/>'


def rectangle(
    x: float, y: float, width: float, height: float, color: str, opacity: float = 0.18, radius: float = 7
) -> str:
    """A rounded rectangle in a color, on the color of the ground."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'
    outline = f'stroke="{color}" stroke-width="1.5"'
    return (
        f'<rect {place} fill="{GROUND}"/><rect {place} fill="{color}" fill-opacity="{opacity:g}" {outline}/>'
    )


def box(
    x: float, y: float, width: float, height: float, color: str, title: str, lines: Sequence[str] = ()
) -> str:
    """A rounded box in a color, with a title and smaller lines in its middle."""
    first = y + height / 2 + 5 - 8 * len(lines)
    words = [text(x + width / 2, first, title, 14, weight=600 if lines else 400)]
    for index, line in enumerate(lines, start=1):
        words.append(text(x + width / 2, first + 17 * index, line, 12))
    return "".join([rectangle(x, y, width, height, color), *words])


def draw_graph(edges: Sequence[tuple[str, str]], color: str = BLUE) -> str:
    """A graph without cycles in rows from top to bottom: each node is below all that lead to it.

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

    # Reserve a slot in each row that an arrow passes, so that it passes no node
    routes: dict[tuple[str, str], list[str]] = {}
    links: list[tuple[str, str]] = []
    slots = dict(rows)
    for start, end in edges:
        passed = [f"{start} {end} {row}" for row in range(rows[start] + 1, rows[end])]
        slots |= {name: rows[start] + step for step, name in enumerate(passed, start=1)}
        route = routes[start, end] = [start, *passed, end]
        links += pairwise(route)

    # Order each row by the mean position of what leads to its slots
    members = [[name for name in slots if slots[name] == row] for row in range(max(slots.values()) + 1)]
    widths = [sum(_width(name, names) for name in row) for row in members]
    centers: dict[str, float] = {}
    for row, row_width in zip(members, widths, strict=True):
        means: dict[str, float] = {}
        for name in row:
            sources = [centers[start] for start, end in links if end == name]
            means[name] = sum(sources) / max(len(sources), 1)
        left = (max(widths) - row_width) / 2 + GAP
        for name in sorted(row, key=lambda name: means[name]):
            centers[name] = left + _width(name, names) / 2
            left += _width(name, names)

    # Draw the arrows, then the nodes over them
    tops = {name: GAP + row * ROW for name, row in slots.items()}
    parts: list[str] = []
    for start, *passed, end in routes.values():
        points = [(centers[start], tops[start] + NODE_HEIGHT)]
        for name in passed:
            points += [(centers[name], tops[name]), (centers[name], tops[name] + NODE_HEIGHT)]
        parts.append(arrow(*points, (centers[end], tops[end] - 2)))
    for name in names:
        parts.append(box(centers[name] - NODE_WIDTH / 2, tops[name], NODE_WIDTH, NODE_HEIGHT, color, name))
    return svg(max(widths) + 2 * GAP, max(tops.values()) + NODE_HEIGHT + GAP, parts)


def _width(name: str, nodes: Sequence[str]) -> float:
    """Width of a slot in a row: of a node with the gap beside it, or of a passing arrow."""
    return NODE_WIDTH + GAP if name in nodes else GAP
